// Listening: the sockets of one listening address, opened with patience, and what the log says of
// them. For the start and for reloads.
#pragma once

#include "udpproxy/config/config.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/net/listener.hpp"
#include "udpproxy/runtime/status.hpp"
#include "udpproxy/shard/commands.hpp"

namespace udpproxy {

// A killed predecessor's ring keeps its sockets for a moment after the process has gone.
inline constexpr int bind_attempts_at_start = 20;
// Nobody else is served by the control thread meanwhile: a reload does not wait as long.
inline constexpr int bind_attempts_at_reload = 3;

/// One socket per shard. Errors: `listener "dns" 192.0.2.1:53: bind: Address already in use`.
[[nodiscard]] Result<ListenerSockets> open_listener(const ProxyConfig& proxy,
                                                    const Endpoint& endpoint, std::uint32_t shards,
                                                    int attempts);

/// The numbers of its sockets, in the order of the shards.
[[nodiscard]] std::vector<int> descriptors_of(const ListenerSockets& opened);

/// A listener on its way to a shard. A socket that is still there at its end was refused by the
/// engine: it is withdrawn before it is closed.
[[nodiscard]] std::shared_ptr<ListenerArrival> arrival_watched_by(
    std::shared_ptr<ListenerQueues> queues);

/// What was opened, and what is not as it was asked for.
void log_listener(Log& log, const ProxyConfig& proxy, const Endpoint& endpoint,
                  const std::string& upstream, const ListenerSockets& opened);

}  // namespace udpproxy
