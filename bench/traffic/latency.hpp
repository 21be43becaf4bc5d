// One request at a time, and how long its reply takes. Called by clients.cpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "tally.hpp"

namespace udpproxy::bench {

struct LatencyPlan {
    std::string target;
    std::size_t payload_bytes = 64;
    unsigned rate = 1000;  // requests a second
    std::chrono::milliseconds length{1000};
};

// Sorted round trips, nanoseconds. A reply that does not come within 100 ms is lost: sent, not
// received.
std::vector<std::int64_t> round_trips(const LatencyPlan& plan, Tally& tally);

}  // namespace udpproxy::bench
