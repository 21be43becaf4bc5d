// Upstream: where the requests of a proxy go and from where its replies may come: one endpoint and
// its aliases. Immutable and versioned: a change of the configuration makes a new Upstream beside
// the old one, and each reply group remembers the version it was opened with. The control thread
// makes the versions and keeps each until the last shard has released it; the shards share them
// without copies. The source of every reply is checked against the Upstream, whatever the kernel
// has filtered before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Another address from which the same upstream may answer.
struct AliasRule {
    Prefix prefix;                      // full length: one address
    std::uint32_t scope = 0;            // interface of a link-local address
    std::optional<std::uint16_t> port;  // absent: any

    /// Whether the rule is one address and one port, so that the kernel can filter it through a
    /// connected member.
    [[nodiscard]] bool is_exact() const noexcept {
        return port.has_value() && prefix.bits == (prefix.address.is_ipv4() ? 32 : 128);
    }
    [[nodiscard]] bool matches(const Endpoint& source) const noexcept {
        return prefix.contains(source.address) && (!port || *port == source.port) &&
               (scope == 0 || scope == source.scope);
    }
    friend bool operator==(const AliasRule&, const AliasRule&) = default;
};

/// Whether the kernel or the program checks that a reply comes from an alias.
enum class AliasMembers : std::uint8_t {
    connected,  // the kernel: an alias member for each alias, all of them exact
    open,       // the program: one open member for all
};

class Upstream {
public:
    /// `endpoint` with port 0: a host name that has no address yet; no client can be admitted to
    /// it. `counter_indices` has, for each alias, the number under which its replies are counted,
    /// from 1 on; empty: the aliases' own order. An alias keeps its number in later versions, so
    /// that a counter belongs to one alias whatever aliases precede it.
    explicit Upstream(const Endpoint& endpoint, std::vector<AliasRule> aliases = {},
                      AliasMembers members = AliasMembers::connected, std::uint32_t version = 1,
                      std::vector<std::uint8_t> counter_indices = {})
        : endpoint_(endpoint),
          aliases_(std::move(aliases)),
          counter_indices_(std::move(counter_indices)),
          version_(version),
          members_(members) {
        for (std::size_t i = counter_indices_.size(); i < aliases_.size(); ++i)
            counter_indices_.push_back(static_cast<std::uint8_t>(1 + i));
        if (members_ == AliasMembers::open) return;
        for (const AliasRule& alias : aliases_)
            if (!is_absent_interface(alias.scope))
                connected_.push_back(
                    Endpoint{alias.prefix.address, alias.scope, alias.port.value_or(0)});
    }

    [[nodiscard]] const Endpoint& endpoint() const noexcept { return endpoint_; }
    [[nodiscard]] bool is_resolved() const noexcept { return endpoint_.port != 0; }
    [[nodiscard]] const std::vector<AliasRule>& aliases() const noexcept { return aliases_; }
    [[nodiscard]] AliasMembers alias_members() const noexcept { return members_; }
    /// The peers of a group's alias members, in their order. An alias on an interface that is
    /// absent has none.
    [[nodiscard]] const std::vector<Endpoint>& connected_aliases() const noexcept {
        return connected_;
    }
    [[nodiscard]] bool needs_open_member() const noexcept {
        return members_ == AliasMembers::open && !aliases_.empty();
    }
    /// The number of members of a group: the primary, the alias members, and an open one where the
    /// program filters or the group watches.
    [[nodiscard]] std::uint32_t members(bool watches) const noexcept {
        return 1 + static_cast<std::uint32_t>(connected_.size()) +
               ((watches || needs_open_member()) ? 1 : 0);
    }
    /// The version: counts the upstreams that the proxy has had.
    [[nodiscard]] std::uint32_t version() const noexcept { return version_; }

    /// The number under which a reply is counted: 0 for the endpoint, else that of the first alias
    /// that matches; nothing when the source is not listed.
    [[nodiscard]] std::optional<std::size_t> find(const Endpoint& source) const noexcept {
        if (source == endpoint_) return 0;
        for (std::size_t i = 0; i < aliases_.size(); ++i) {
            if (aliases_[i].matches(source)) return counter_indices_[i];
        }
        return std::nullopt;
    }
    // Requires: `alias` is the position of an alias.
    [[nodiscard]] std::uint8_t counter_index(std::size_t alias) const {
        return counter_indices_[alias];
    }
    [[nodiscard]] bool lists(const Endpoint& source) const noexcept {
        return find(source).has_value();
    }

private:
    Endpoint endpoint_;
    std::vector<AliasRule> aliases_;
    std::vector<std::uint8_t> counter_indices_;
    std::vector<Endpoint> connected_;
    std::uint32_t version_;
    AliasMembers members_;
};

/// A version, and the number of the proxy that it is of.
struct UpstreamVersion {
    std::uint16_t proxy = 0;
    std::shared_ptr<const Upstream> upstream;
};

}  // namespace udpproxy
