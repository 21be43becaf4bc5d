// ReplySources: from where the replies of one proxy may come: its upstream and its aliases. Every reply's source is checked against it, whatever
// the kernel has filtered before.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Another address the same upstream may answer from.
struct AliasRule {
    Prefix prefix;                      // full length: one address
    std::uint32_t scope = 0;            // interface of a link-local address
    std::optional<std::uint16_t> port;  // absent: any

    /// One address, one port: the kernel can filter it through a connected member.
    [[nodiscard]] bool is_exact() const noexcept { return port.has_value() && prefix.bits == (prefix.address.is_ipv4() ? 32 : 128); }
    [[nodiscard]] bool matches(const Endpoint& source) const noexcept {
        return prefix.contains(source.address) && (!port || *port == source.port) && (scope == 0 || scope == source.scope);
    }
};

class ReplySources {
public:
    ReplySources(const Endpoint& upstream, std::vector<AliasRule> aliases) : upstream_(upstream), aliases_(std::move(aliases)) {}

    [[nodiscard]] const Endpoint& upstream() const noexcept { return upstream_; }
    [[nodiscard]] const std::vector<AliasRule>& aliases() const noexcept { return aliases_; }

    [[nodiscard]] bool lists(const Endpoint& source) const noexcept {
        if (source == upstream_) return true;
        for (const AliasRule& alias : aliases_) {
            if (alias.matches(source)) return true;
        }
        return false;
    }

private:
    Endpoint upstream_;
    std::vector<AliasRule> aliases_;
};

}  // namespace udpproxy
