// Admission checks: which new clients are refused whatever the capacity, and whether a source has
// had its share of the remaining capacity. They come before admission and make no system calls, so
// that a refusal costs next to nothing.
#include <algorithm>

#include "steps.hpp"

namespace udpproxy {

namespace {

// While unassured sessions fill more than half of the capacity, one source may take an eighth of
// the capacity at once and a sixteenth each second. The sources of one site together may take twice
// as much. So an eighth is still free a second later, when the first of these sessions may be
// evicted. Where an eighth would be a handful of sessions, capacity goes to the first new clients.
constexpr std::uint32_t host_share = 8;
constexpr std::uint32_t site_share = 4;
constexpr std::uint32_t share_least = 256;

Rate share(std::uint32_t capacity, std::uint32_t divisor) {
    return Rate{std::max(share_least, capacity / divisor / 2),
                std::max(share_least, capacity / divisor)};
}

/// Whether the source is an endpoint that this program listens on, sends to or sends from. If it
/// were a client, a service that answers whatever it gets would keep one forged datagram going
/// round for ever.
bool begins_a_loop(const Shard& shard, const Endpoint& source, const Address& local) {
    const KnownEndpoints& known = *shard.known_endpoints;
    if (is_own_port(shard, source) || known.contains(source)) return true;
    if (!known.has_wildcard(source.family(), source.port)) return false;
    // Routing leads from a local address to itself. (A bind would tell less: with the sysctl
    // ip_nonlocal_bind it succeeds for every address.)
    return source.address == local ||
           shard.source_towards(source, Address::any(source.family())).source.address ==
               source.address;
}

}  // namespace

std::optional<Drop> failed_admission_check(const Shard& shard, const NewClient& new_client) {
    const Endpoint& from = new_client.arrival.from;
    if (from.port == 0 || from.address.is_unspecified() || from.address.is_multicast() ||
        from.address.is_broadcast())
        return Drop::bad_source;
    if (begins_a_loop(shard, from, new_client.key.local)) return Drop::forwarding_loop;
    if (shard.stopping) return Drop::stopping;
    const Proxy& proxy = shard.proxies[new_client.proxy];
    if (shard.draining || proxy.draining || shard.listeners[new_client.key.listener].retired)
        return Drop::draining;
    if (!proxy.setup.upstream->is_resolved()) return Drop::upstream_unresolved;
    return std::nullopt;
}

bool is_above_source_rate(Shard& shard, std::uint16_t proxy, const Address& source, Instant now) {
    SharedUse& use = *shard.setup.use;
    const std::uint32_t capacity = shard.setup.sessions_max;
    const std::uint32_t proxy_capacity =
        std::min(capacity, shard.proxies[proxy].setup.sessions_max);
    const bool is_crowded = use.unassured.read() > capacity / 2 ||
                            use.proxies[proxy].unassured.read() > proxy_capacity / 2;
    return is_crowded &&
           !use.source_buckets.take(proxy, source, now, share(proxy_capacity, host_share),
                                    share(proxy_capacity, site_share));
}

}  // namespace udpproxy
