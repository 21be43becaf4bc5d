// The request leg: a datagram from a client to the upstream. Finds the session, notes its activity
// and sends on its primary.
#include <algorithm>
#include <array>

#include "reservation.hpp"
#include "steps.hpp"

namespace udpproxy {

namespace {

/// Datagrams whose sessions are loaded at the same time.
constexpr std::size_t look_ahead = 16;

struct LookupKey {
    ClientKey key;
    std::uint64_t hash = 0;
};

LookupKey lookup_key_of(const Shard& shard, const Arrival& arrival) {
    const auto listener = static_cast<std::uint16_t>(index_of(arrival.slot));
    const ClientKey key{arrival.from.address, arrival.local, arrival.from.scope, arrival.from.port,
                        listener};
    return {key, shard.table.hash(key)};
}

/// The session is nothing when the client has none.
void accept_request(Shard& shard, Sockets& sockets, const Arrival& arrival, const LookupKey& client,
                    std::optional<std::uint32_t> session, std::uint16_t proxy, Instant now) {
    if (session && !has_had_its_requests(shard, sockets, *session, now))
        forward_request(shard, *session, arrival, now);
    else if (!shard.new_clients.full())
        shard.new_clients.push(NewClient{arrival, client.key, client.hash, proxy, 0});
    else
        shard.drop(arrival, proxy, Drop::admission_queue_full);
}

/// Of a broadcast or multicast datagram every shard gets a copy. All shards hash with one key, so
/// they agree on the one that serves this client.
void route_request(Shard& shard, Sockets& sockets, const Arrival& arrival, const LookupKey& client,
                   Instant now) {
    const std::optional<std::uint32_t> session = shard.table.find(client.hash, client.key);
    // A session stays with its proxy when its listener moves to another, and so do its datagrams.
    const std::uint16_t proxy =
        session ? shard.table[*session].proxy : shard.setup.listeners[client.key.listener].proxy;
    const std::uint32_t datagrams = arrival.datagrams();
    shard.arrivals_total += datagrams;
    shard.counters_of(proxy).arrivals_request.add(datagrams);
    if (arrival.is_copied && client.hash % shard.setup.shards != shard.setup.shard)
        shard.drop(arrival, proxy, Drop::broadcast_copy);
    else if (arrival.truncated)
        shard.drop(arrival, proxy, Drop::truncated);
    else if (!shard.is_long(arrival, proxy))
        accept_request(shard, sockets, arrival, client, session, proxy, now);
    else if (const std::optional<Arrival> rest = shard.drop_long(arrival, proxy))
        accept_request(shard, sockets, *rest, client, session, proxy, now);
}

}  // namespace

void forward_requests(Shard& shard, Sockets& sockets, std::span<const Arrival> arrivals,
                      Instant now) {
    // With many clients neither the table's cell nor the session is in the cache any more. Both are
    // prefetched some datagrams ahead, in two steps. Waiting for them one by one took most of the
    // program's own time.
    std::array<LookupKey, look_ahead> chunk;
    while (!arrivals.empty()) {
        const std::size_t count = std::min(arrivals.size(), look_ahead);
        for (std::size_t i = 0; i < count; ++i) {
            chunk[i] = lookup_key_of(shard, arrivals[i]);
            shard.table.prefetch_cell(chunk[i].hash);
        }
        for (std::size_t i = 0; i < count; ++i) shard.table.prefetch_session(chunk[i].hash);
        for (std::size_t i = 0; i < count; ++i)
            route_request(shard, sockets, arrivals[i], chunk[i], now);
        arrivals = arrivals.subspan(count);
    }
}

bool has_had_its_requests(Shard& shard, Sockets& sockets, std::uint32_t index, Instant now) {
    const Session& session = shard.table[index];
    const std::uint32_t limit = shard.proxies[session.proxy].setup.end_after_requests;
    if (limit == 0 || session.requests.datagrams < limit) return false;
    if (session.is_answered()) {
        end_session(shard, sockets, index, SessionEnd::finished, now);
    } else {
        shard.table.let_succeed(index);
        note_change(shard, session.group);
    }
    return true;
}

Departure& forward_request(Shard& shard, std::uint32_t index, const Arrival& arrival, Instant now) {
    Session& session = shard.table[index];
    session.last_active_at = now;
    session.requests.datagrams += arrival.datagrams();
    session.requests.bytes += arrival.bytes;
    if (session.replied && !session.assured) {
        shard.table.assure(index);
        note_change(shard, session.group);
        release_unassured(shard, session);
        shard.counters_of(session.proxy).sessions_assured.add(1);
    }
    Departure& departure = shard.depart(arrival, Leg::request, session.proxy);
    departure.slot = session.primary;  // connected: no destination
    if (shard.trace.is_on()) trace_forwarded(shard, session, arrival, Leg::request);
    return departure;
}

}  // namespace udpproxy
