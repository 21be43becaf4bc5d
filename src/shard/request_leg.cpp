// The request leg: a datagram from a client to the upstream. Find the session, note that it is alive, send on its primary.
#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

ClientKey key_of(const Arrival& arrival, std::uint16_t listener) {
    return ClientKey{arrival.from.address, arrival.local, arrival.from.scope, arrival.from.port, listener};
}

}  // namespace

void forward_requests(Shard& shard, std::span<const Arrival> arrivals, Instant now) {
    for (const Arrival& arrival : arrivals) {
        const auto listener = static_cast<std::uint16_t>(index_of(arrival.slot));
        const std::uint16_t proxy = shard.setup.listeners[listener].proxy;
        const std::uint32_t datagrams = arrival.datagrams();
        shard.arrivals_total += datagrams;
        shard.counters_of(proxy).arrivals_request.add(datagrams);
        if (arrival.truncated) {
            shard.drop(arrival, proxy, Drop::truncated);
            continue;
        }
        const ClientKey key = key_of(arrival, listener);
        const std::uint64_t hash = shard.table.hash(key);
        if (const std::optional<std::uint32_t> session = shard.table.find(hash, key))
            forward_request(shard, *session, arrival, now);
        else if (!shard.strangers.full())
            shard.strangers.push(Stranger{arrival, key, hash, 0});
        else
            shard.drop(arrival, proxy, Drop::admission_queue_full);
    }
}

void forward_request(Shard& shard, std::uint32_t index, const Arrival& arrival, Instant now) {
    Session& session = shard.table[index];
    session.last_active_at = now;
    session.requests.datagrams += arrival.datagrams();
    session.requests.bytes += arrival.bytes;
    if (session.replied && !session.assured) {
        shard.table.assure(index);
        shard.setup.use->unassured.give(1);
        shard.setup.use->proxies[session.proxy].unassured.give(1);
        shard.counters_of(session.proxy).sessions_assured.add(1);
    }
    Departure& departure = shard.depart(arrival, Leg::request, session.proxy);
    departure.slot = session.primary;
    departure.to.port = 0;  // connected
    departure.from = Address{};
    if (shard.trace.is_on()) trace_forwarded(shard, session, arrival, Leg::request);
}

}  // namespace udpproxy
