// Metrics in Prometheus' text format (version 0.0.4), derived from the lists in shard/counters.hpp:
// a counter that is added there appears here by itself. Also the sums over shards that reports are
// made of. A client's address is never a label.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/runtime/status.hpp"
#include "udpproxy/shard/counters.hpp"

namespace udpproxy {

// Requires of all: the roster's mutex is held.

struct CounterSum {
    CounterText text;
    std::uint64_t value = 0;
};
/// Every counter of a proxy but the drops, summed over the shards, in the order of the list.
[[nodiscard]] std::vector<CounterSum> sums_of_proxy(const Roster& roster, std::size_t proxy);
[[nodiscard]] std::uint64_t sum_of_drops(const Roster& roster, std::size_t proxy, Drop reason);
/// Replies from the upstream (0) or from alias i - 1.
[[nodiscard]] std::uint64_t sum_of_replies(const Roster& roster, std::size_t proxy,
                                           std::size_t source);

[[nodiscard]] std::string metrics_text(const Roster& roster);

}  // namespace udpproxy
