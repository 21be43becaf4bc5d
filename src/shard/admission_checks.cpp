// The gate: who may not come in at all, whatever room there is, and who has had his share of it.
// Before admission, without system calls, so that refusing costs next to nothing.
#include <algorithm>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

// While sessions that are not assured fill more than half of the room, one source may take an
// eighth of the room at once and half of that each second, the sources of one site together twice
// as much. So an eighth is still free a second later, when the first of them may make way again.
// Rooms so small that this would be a handful are left to those who come first.
constexpr std::uint32_t host_share = 8;
constexpr std::uint32_t site_share = 4;
constexpr std::uint32_t share_least = 256;

Rate share(std::uint32_t room, std::uint32_t divisor) {
    return Rate{std::max(share_least, room / divisor / 2), std::max(share_least, room / divisor)};
}

}  // namespace

std::optional<Drop> failed_admission_check(const Shard& shard, const NewClient& new_client) {
    const Endpoint& from = new_client.arrival.from;
    if (from.port == 0 || from.address.is_unspecified() || from.address.is_multicast() ||
        from.address.is_broadcast())
        return Drop::bad_source;
    if (new_client.key.local.is_multicast()) return Drop::bad_destination;
    // Forwarded, it would come back as yet another new client, and so on until all room is full.
    if (is_own_port(shard, from)) return Drop::forwarding_loop;
    if (shard.stopping) return Drop::stopping;
    const Proxy& proxy = shard.proxies[new_client.proxy];
    if (shard.draining || proxy.draining || shard.listeners[new_client.key.listener].retired)
        return Drop::draining;
    if (!proxy.setup.upstream->is_resolved()) return Drop::upstream_unresolved;
    return std::nullopt;
}

bool is_above_source_rate(Shard& shard, std::uint16_t proxy, const Address& source, Instant now) {
    SharedUse& use = *shard.setup.use;
    const std::uint32_t room = shard.setup.sessions_max;
    const std::uint32_t proxy_capacity = std::min(room, shard.proxies[proxy].setup.sessions_max);
    const bool is_crowded =
        use.unassured.read() > room / 2 || use.proxies[proxy].unassured.read() > proxy_capacity / 2;
    return is_crowded &&
           !use.source_buckets.take(proxy, source, now, share(proxy_capacity, host_share),
                                    share(proxy_capacity, site_share));
}

}  // namespace udpproxy
