// One request at a time, and how long its reply takes. Called by clients.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "traffic/tally.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::traffic {

struct LatencyPlan {
    Endpoint target;
    std::size_t payload_bytes = 64;
    std::uint64_t rate = 1000;  // requests a second
    Duration length = std::chrono::seconds{1};
};

// Sorted round trips, nanoseconds. A reply that does not come within 100 ms is lost: sent, not
// received.
std::vector<std::int64_t> round_trips(const LatencyPlan& plan, Tally& tally);

}  // namespace udpproxy::traffic
