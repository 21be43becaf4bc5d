// Which of a host name's addresses becomes the upstream: a pure function of the configuration and
// of the answer about it. host/lookups.hpp asks, runtime/resolver.hpp decides when.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

/// The family that an upstream's name is resolved to: the family of the proxy's sources, else of
/// its aliases; absent: either.
[[nodiscard]] std::optional<Family> upstream_family(const ProxyConfig& proxy);

/// The address that was chosen, and why the first unusable one was refused.
struct UpstreamChoice {
    std::optional<Endpoint> endpoint;  // absent: none is usable
    std::string refused;  // a sentence about the first unusable address; empty: all are usable
};

/// Chooses `preferred` if it is among `found` and usable, else the first usable address in the
/// answer's order. An address is unusable if no host can have it, if the proxy lists it as an
/// alias, or if it leads back to a listener of `config`.
[[nodiscard]] UpstreamChoice choose_upstream(
    const Config& config, const ProxyConfig& proxy, const std::vector<Endpoint>& found,
    const std::optional<Endpoint>& preferred = std::nullopt);

}  // namespace udpproxy
