// Asks shards, one question after the other, and collects what they answer. A shard that does not
// answer within a second is reported, not waited for; nothing is waited for once the program stops.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "routes.hpp"
#include "udpproxy/shard/inspection.hpp"

namespace udpproxy {

/// Which sessions, and how many of them in which order.
struct SessionQuery {
    enum class Order : std::uint8_t { none, bytes, age, idle };

    std::optional<std::uint16_t> proxy;
    std::optional<Prefix> client;
    std::uint16_t client_port = 0;  // 0: any
    Order order = Order::none;      // the largest first
    std::size_t limit = 100;
};

/// Of proxies and listeners that the status knows.
struct SessionList {
    std::vector<SessionView> sessions;
    std::size_t found = 0;  // that match the query, listed or not
};

// Errors: `shard 1 did not answer within 1 s`, `the program is stopping`.

/// Whether every shard turns.
[[nodiscard]] Result<void> check_liveness(const AdminContext& context);
[[nodiscard]] Result<SessionList> list_sessions(const AdminContext& context,
                                                const SessionQuery& query);
/// Ends the session; its client begins a new one when it writes again. What it was, or nothing when
/// there is none of that id.
[[nodiscard]] Result<std::optional<SessionView>> end_session(const AdminContext& context,
                                                             std::uint64_t id);
/// Begins or ends a trace in every shard. False: another trace is on, and goes on.
[[nodiscard]] Result<bool> trace_everywhere(const AdminContext& context, const Question& question);
/// Summed over the shards, most datagrams first.
[[nodiscard]] Result<std::vector<UnlistedView>> list_unlisted(const AdminContext& context);

}  // namespace udpproxy
