// From a proxy of the configuration to what shards are told of it: settings, upstream, setup.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

[[nodiscard]] Rate rate_of(const NewSessions& limit);

/// What a reload changes in place. sessions_max is left at 0.
[[nodiscard]] ProxySettings settings_of(const ProxyConfig& config);

/// The address that requests to `upstream` leave from when nothing is configured; unspecified:
/// there is no way now.
[[nodiscard]] Address routed_source_towards(const Endpoint& upstream);

/// The source bindings that the proxy in this slot should have; pools and ranges are not chosen
/// yet. An upstream with port 0 has no address.
[[nodiscard]] std::vector<BindingLocation> bindings_wanted(std::uint16_t proxy,
                                                           const ProxyConfig& config,
                                                           const Endpoint& upstream);
/// Whether new clients would be bound alike.
[[nodiscard]] bool same_bindings(const std::vector<BindingLocation>& one,
                                 const std::vector<BindingLocation>& other);

/// How a proxy's upstream is called in the log.
[[nodiscard]] std::string text_of(const Upstream& upstream, const ProxyConfig& proxy);

/// A version of the proxy's upstream. `endpoint` with port 0: its host name has no address yet.
[[nodiscard]] std::shared_ptr<const Upstream> upstream_of(
    const ProxyConfig& config, const Endpoint& endpoint, std::uint32_t version,
    std::vector<std::uint8_t> counter_indices = {});

/// A proxy of the configuration as its shard needs it, with the first version of its upstream.
/// sessions_max is left at 0.
[[nodiscard]] ProxySetup setup_of(const ProxyConfig& config, const Endpoint& upstream,
                                  const PortRange& ephemeral);

}  // namespace udpproxy
