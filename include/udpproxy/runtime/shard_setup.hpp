// Turns a proxy of the configuration into its form for shards: settings, upstream, setup.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

[[nodiscard]] Rate rate_of(const NewSessions& limit);

/// The settings that a reload changes in place. sessions_max is left at 0.
[[nodiscard]] ProxySettings settings_of(const ProxyConfig& config);

/// The source address of requests to `upstream` when none is configured. Unspecified: there is no
/// route now.
[[nodiscard]] Address routed_source_towards(const Endpoint& upstream);

/// The source bindings for the proxy in this slot, without pools and ranges, which are chosen
/// later. An upstream with port 0 has no address.
[[nodiscard]] std::vector<BindingLocation> bindings_wanted(std::uint16_t proxy,
                                                           const ProxyConfig& config,
                                                           const Endpoint& upstream);
/// Whether both lead to the same source bindings for new clients.
[[nodiscard]] bool same_bindings(const std::vector<BindingLocation>& one,
                                 const std::vector<BindingLocation>& other);

/// The name of a proxy's upstream in the log.
[[nodiscard]] std::string text_of(const Upstream& upstream, const ProxyConfig& proxy);

/// A version of the proxy's upstream. `endpoint` with port 0: the host name has no address yet.
[[nodiscard]] std::shared_ptr<const Upstream> upstream_of(
    const ProxyConfig& config, const Endpoint& endpoint, std::uint32_t version,
    std::vector<std::uint8_t> counter_indices = {});

/// The form of a proxy for its shards, with the first version of its upstream. sessions_max is left
/// at 0.
[[nodiscard]] ProxySetup setup_of(const ProxyConfig& config, const Endpoint& upstream,
                                  const PortRange& ephemeral);

}  // namespace udpproxy
