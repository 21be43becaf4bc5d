// Metrics in Prometheus' text format (version 0.0.4), derived from the lists in shard/counters.hpp:
// a counter added there appears here automatically. Also the sums over shards for reports. A
// client's address is never a label.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/problems.hpp"
#include "udpproxy/runtime/status.hpp"
#include "udpproxy/shard/counters.hpp"

namespace udpproxy {

struct CounterSum {
    CounterText text;
    std::uint64_t value = 0;
};
/// `proxy`: its number. Every counter of a proxy except the drops, summed over the shards, in the
/// order of the list.
[[nodiscard]] std::vector<CounterSum> sums_of_proxy(const Status& status, std::uint16_t proxy);
[[nodiscard]] std::uint64_t sum_of_drops(const Status& status, std::uint16_t proxy, Drop reason);
/// `counter_index`: 0 for the upstream itself, an alias's own for its replies.
[[nodiscard]] std::uint64_t sum_of_replies(const Status& status, std::uint16_t proxy,
                                           std::size_t counter_index);

[[nodiscard]] std::string metrics_text(const Status& status, const Problems& problems,
                                       const Log& log);

}  // namespace udpproxy
