// KnownEndpoints: the endpoints that this program listens on and sends to. None of them is a
// client: a service that answers whatever it gets would keep one forged datagram with such a source
// going round for ever. Immutable: the control thread makes a new one with each change and keeps
// it until the last shard has released it; the shards share it. Asked once per new client.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/session/upstream.hpp"

namespace udpproxy {

class KnownEndpoints {
public:
    KnownEndpoints() = default;
    /// Aliases with a prefix or with any port name hosts rather than sockets. Clients may live on
    /// such hosts, so these aliases are left out.
    KnownEndpoints(std::span<const Endpoint> listeners,
                   std::span<const std::shared_ptr<const Upstream>> upstreams)
        : endpoints_(listeners.begin(), listeners.end()) {
        for (const std::shared_ptr<const Upstream>& upstream : upstreams) {
            if (upstream->is_resolved()) endpoints_.push_back(upstream->endpoint());
            for (const AliasRule& alias : upstream->aliases()) {
                if (alias.is_exact())
                    endpoints_.push_back({alias.prefix.address, alias.scope, *alias.port});
            }
        }
        std::sort(endpoints_.begin(), endpoints_.end());
        endpoints_.erase(std::unique(endpoints_.begin(), endpoints_.end()), endpoints_.end());
    }

    [[nodiscard]] bool contains(const Endpoint& endpoint) const noexcept {
        return std::binary_search(endpoints_.begin(), endpoints_.end(), endpoint);
    }
    /// Whether a wildcard listener of this family has this port, so that the port is known at every
    /// address of this host.
    [[nodiscard]] bool has_wildcard(Family family, std::uint16_t port) const noexcept {
        return contains(Endpoint{Address::any(family), 0, port});
    }

    friend bool operator==(const KnownEndpoints&, const KnownEndpoints&) = default;

private:
    std::vector<Endpoint> endpoints_;  // sorted
};

}  // namespace udpproxy
