// Asks the shards one after the other and collects their answers. A shard without an answer within
// a second is reported. Once the program stops, no answer is waited for.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "routes.hpp"
#include "udpproxy/shard/inspection.hpp"

namespace udpproxy {

/// Selects sessions: a filter, a limit and an order.
struct SessionQuery {
    enum class Order : std::uint8_t { none, bytes, age, idle };

    std::optional<std::uint16_t> proxy;
    std::optional<Prefix> client;
    std::uint16_t client_port = 0;  // 0: any
    Order order = Order::none;      // the largest first
    std::size_t limit = 100;
};

/// Only sessions whose proxy and listener are in the status.
struct SessionList {
    std::vector<SessionView> sessions;
    std::size_t found = 0;  // matching sessions, listed or not
};

// Errors: `shard 1 did not answer within 1 s`, `the program is stopping`.

/// Whether every shard turns.
[[nodiscard]] Result<void> check_liveness(const AdminContext& context);
[[nodiscard]] Result<SessionList> list_sessions(const AdminContext& context,
                                                const SessionQuery& query);
/// Ends the session and returns it, or nothing when the id is unknown. Its client begins a new
/// session with its next datagram.
[[nodiscard]] Result<std::optional<SessionView>> end_session(const AdminContext& context,
                                                             std::uint64_t id);
/// Begins or ends a trace in every shard. False: another trace is running, and goes on.
[[nodiscard]] Result<bool> trace_everywhere(const AdminContext& context, const Question& question);
/// Summed over the shards, most datagrams first.
[[nodiscard]] Result<std::vector<UnlistedView>> list_unlisted(const AdminContext& context);

}  // namespace udpproxy
