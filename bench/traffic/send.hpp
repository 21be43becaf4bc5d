// How fast a crowd sends: as fast as it can, in bursts at a rate, or as many as are not answered
// yet. Called by clients.cpp.
#pragma once

#include <cstdint>

#include "crowd.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy::traffic {

struct SendPlan {
    std::uint64_t rate = 0;    // datagrams a second; 0: no limit
    std::uint32_t burst = 64;  // datagrams sent together
    std::uint32_t window = 0;  // datagrams that may be without a reply; 0: no limit
    Duration length = std::chrono::seconds{1};
    Duration afterwards = std::chrono::milliseconds{100};  // replies are taken for so much longer
};

// Sends until the time is over or told to stop.
void send_all(Crowd& crowd, const Tally& tally, const SendPlan& plan);

}  // namespace udpproxy::traffic
