// Opens the sockets of one listening address, with retries, and logs the result. Used by bootstrap
// and by reloads.
#pragma once

#include "udpproxy/config/config.hpp"
#include "udpproxy/host/handed_sockets.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/net/listener.hpp"
#include "udpproxy/runtime/status.hpp"
#include "udpproxy/shard/commands.hpp"

namespace udpproxy {

// The io_uring of a killed predecessor keeps its sockets for a moment after the process has gone.
inline constexpr int bind_attempts_at_start = 20;
// The control thread does nothing else meanwhile, so a reload waits less long.
inline constexpr int bind_attempts_at_reload = 3;

/// One socket per shard, those of `handed` first (net/listener.hpp). Errors: `listener "dns"
/// 192.0.2.1:53: bind: Address already in use (held by nginx (process 123))`.
[[nodiscard]] Result<ListenerSockets> open_listener(const ProxyConfig& proxy,
                                                    const Endpoint& endpoint, std::uint32_t shards,
                                                    int attempts, bool shares_port = false,
                                                    std::vector<Socket>* handed = nullptr);

/// Why these sockets, handed over for a listener, cannot serve it with so many shards; empty: they
/// can.
[[nodiscard]] std::string mismatch_of(const ProxyConfig& proxy, const Endpoint& endpoint,
                                      std::uint32_t shards,
                                      const std::vector<const HandedSocket*>& handed);

/// The descriptors of the sockets, in the order of the shards.
[[nodiscard]] std::vector<int> descriptors_of(const ListenerSockets& opened);

/// A listener on its way to a shard. If it still has a socket when it is destroyed, the engine has
/// refused that socket; the socket is then withdrawn from `queues` before it is closed.
[[nodiscard]] std::shared_ptr<ListenerArrival> arrival_watched_by(
    std::shared_ptr<ListenerQueues> queues);

/// Whether the error is that of a kernel without IPv6, and the address the IPv6 half of `":port"`,
/// whose IPv4 half serves alone then.
[[nodiscard]] bool may_go_without(const ProxyConfig& proxy, const Endpoint& endpoint,
                                  const Error& error);
void log_left_out(Log& log, const ProxyConfig& proxy, const Endpoint& endpoint, const Error& error);

/// Logs what was opened, and where it differs from the configuration.
void log_listener(Log& log, const ProxyConfig& proxy, const Endpoint& endpoint,
                  const std::string& upstream, const ListenerSockets& opened);

/// A line for each link-local address whose interface is absent.
void log_absent_interfaces(Log& log, const Config& config);

}  // namespace udpproxy
