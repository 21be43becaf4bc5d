// Which of a host name's addresses becomes an upstream: a pure function of the configuration and of
// what the resolver found. Asking the resolver is host/resolve.hpp's, asking again runtime/resolver's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

/// The family that the addresses of an upstream's name must be of: that of the proxy's sources, else
/// of its aliases; absent: any.
[[nodiscard]] std::optional<Family> upstream_family(const ProxyConfig& proxy);

/// Which of a name's addresses is taken, and why not the others.
struct UpstreamChoice {
    std::optional<Endpoint> endpoint;  // absent: none is usable
    std::string refused;  // why the first refused one was, in a sentence; empty: none was
};

/// `preferred` if it is among `found` and usable, else the first usable one in the resolver's
/// order. Unusable: what is no host's address, is listed in the proxy's aliases, or leads back to a
/// listener of `config`.
[[nodiscard]] UpstreamChoice choose_upstream(
    const Config& config, const ProxyConfig& proxy, const std::vector<Endpoint>& found,
    const std::optional<Endpoint>& preferred = std::nullopt);

}  // namespace udpproxy
