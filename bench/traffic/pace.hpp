// How fast a crowd sends: as fast as it can, in bursts at a rate, or as many as are not answered
// yet. Called by clients.cpp.
#pragma once

#include <chrono>
#include <cstdint>

#include "crowd.hpp"

namespace udpproxy::bench {

struct Pace {
    std::uint64_t rate = 0;    // datagrams a second; 0: no limit
    std::uint32_t burst = 64;  // datagrams sent together
    std::uint32_t window = 0;  // datagrams that may be without a reply; 0: no limit
    std::chrono::milliseconds length{1000};
    std::chrono::milliseconds afterwards{100};  // replies are taken for so much longer
};

// Sends until the time is over or told to stop.
void send_at_pace(Crowd& crowd, const Tally& tally, const Pace& pace);

}  // namespace udpproxy::bench
