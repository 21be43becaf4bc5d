// The reply leg: a datagram from the service to the client. The slot names the group, the group its session; no hash. The source is checked, the
// client gets it from the address it wrote to.
#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

void report_unlisted(Shard& shard, const ReplyGroup& group, const Endpoint& source, Instant now) {
    const std::uint64_t datagrams = shard.unlisted.note(group.proxy, source, now);
    if (datagrams == 0) return;
    Event event;
    event.kind = EventKind::unlisted_reply;
    event.proxy = group.proxy;
    event.source = source;
    event.datagrams = datagrams;
    shard.report(event);
}

/// Replies that a client has not earned: with a forged source it would be somebody's flood. Payload bytes are compared, as in RFC 9000 section 8.
std::optional<Drop> beyond_limits(const ProxySetup& proxy, const Session& session, const Arrival& arrival) {
    if (proxy.replies_max != 0 && session.replies.datagrams >= proxy.replies_max * session.requests.datagrams) return Drop::reply_limit;
    if (proxy.amplification_limit != 0 && !session.assured &&
        session.replies.bytes + arrival.bytes > proxy.amplification_limit * session.requests.bytes)
        return Drop::amplification;
    return std::nullopt;
}

}  // namespace

void forward_replies(Shard& shard, std::span<const Arrival> arrivals, Instant now) {
    for (const Arrival& arrival : arrivals) {
        const std::uint32_t index = shard.group_of_slot[index_of(arrival.slot)];
        UDPPROXY_ASSERT(index != no_index);
        const ReplyGroup& group = shard.groups[index];
        ++shard.arrivals_total;
        shard.counters_of(group.proxy).arrivals_reply.add(1);
        const std::optional<std::size_t> source = group.upstream->find(arrival.from);
        if (!source) {
            shard.drop(arrival, group.proxy, Drop::unlisted_source);
            report_unlisted(shard, group, arrival.from, now);
            continue;
        }
        shard.counters_of(group.proxy).replies_from[*source].add(1);
        if (group.state != GroupState::lent) {
            shard.drop(arrival, group.proxy, Drop::late_reply);
            continue;
        }
        if (arrival.truncated) {
            shard.drop(arrival, group.proxy, Drop::truncated);
            continue;
        }
        Session& session = shard.table[group.session];
        if (const std::optional<Drop> refused = beyond_limits(shard.proxies[group.proxy].setup, session, arrival)) {
            shard.drop(arrival, group.proxy, *refused);
            continue;
        }
        session.last_active_at = now;
        session.replied = true;
        session.replies.datagrams += 1;
        session.replies.bytes += arrival.bytes;
        Departure& departure = shard.depart(arrival, Leg::reply, group.proxy);
        departure.slot = Slot{session.key.listener};
        departure.to = session.key.client_endpoint();
        departure.from = session.key.local;
        if (departure.from.is_link_local()) departure.interface_index = session.interface_index;
        if (shard.trace.is_on()) trace_forwarded(shard, session, arrival, Leg::reply);
    }
}

}  // namespace udpproxy
