// The reply leg: a datagram from the service to the client. The slot names the group, the group its
// session; no hash. The source is checked, and the client gets the reply from the address that it
// wrote to.
#include "steps.hpp"

namespace udpproxy {

namespace {

void report_unlisted(Shard& shard, const ReplyGroup& group, const Arrival& arrival, Instant now) {
    const std::uint64_t datagrams =
        shard.unlisted.note(group.proxy, arrival.from, arrival.datagrams(), now);
    if (datagrams == 0) return;
    Event event;
    event.kind = EventKind::unlisted_reply;
    event.proxy = group.proxy;
    event.source = arrival.from;
    event.datagrams = datagrams;
    shard.report(event);
}

/// How many of an arrival's datagrams, from the first on, may be sent to the client, and why no
/// more.
struct ReplyAllowance {
    std::uint32_t datagrams = 0;
    Drop otherwise = Drop::reply_limit;
};

/// Limits replies to a client that is not assured: its source may be forged, and the replies would
/// then flood a third party. Payload bytes are compared, as in RFC 9000 section 8.
ReplyAllowance allowance_of(const ProxySetup& proxy, const Session& session, const Arrival& arrival,
                            std::uint32_t datagrams) {
    ReplyAllowance allowance{datagrams, Drop::reply_limit};
    const auto left = [](std::uint64_t limit, std::uint64_t used) {
        return limit > used ? limit - used : 0;
    };
    if (proxy.replies_max != 0) {
        const std::uint64_t replies_left =
            left(proxy.replies_max * session.requests.datagrams, session.replies.datagrams);
        if (replies_left < datagrams)
            allowance.datagrams = static_cast<std::uint32_t>(replies_left);
    }
    if (proxy.amplification_limit != 0 && !session.assured) {
        const std::uint64_t bytes_left =
            left(proxy.amplification_limit * session.requests.bytes, session.replies.bytes);
        if (bytes_left < arrival.bytes) {
            const auto whole =
                static_cast<std::uint32_t>(datagrams > 1 ? bytes_left / arrival.segment_bytes : 0);
            if (whole < allowance.datagrams) allowance = ReplyAllowance{whole, Drop::amplification};
        }
    }
    return allowance;
}

/// Whether a session that has just had a reply ends with it.
bool is_finished(const ProxySetup& proxy, const Session& session) {
    if (!session.is_answered()) return false;
    return session.has_successor ||
           (proxy.end_after_replies != 0 && session.replies.datagrams >= proxy.end_after_replies);
}

void forward_reply(Shard& shard, Sockets& sockets, const ReplyGroup& group, const Arrival& arrival,
                   Instant now) {
    const ProxySetup& proxy = shard.proxies[group.proxy].setup;
    Session& session = shard.table[group.session];
    const std::uint32_t datagrams = arrival.datagrams();
    const ReplyAllowance allowance = allowance_of(proxy, session, arrival, datagrams);
    if (allowance.datagrams == 0) return shard.drop(arrival, group.proxy, allowance.otherwise);
    Departure& departure = shard.depart(arrival, Leg::reply, group.proxy);
    if (allowance.datagrams < datagrams)
        shard.cut(departure, allowance.datagrams, allowance.otherwise);
    session.last_active_at = now;
    session.replied = true;
    session.replies.datagrams += allowance.datagrams;
    session.replies.bytes += departure.bytes;
    departure.slot = Slot{session.key.listener};
    departure.to = session.key.client_endpoint();
    departure.from = session.key.local;
    if (departure.from.is_link_local()) departure.interface_index = session.interface_index;
    if (shard.trace.is_on())
        trace_cut(shard, session, arrival, Leg::reply, departure.bytes, allowance.otherwise);
    if (is_finished(proxy, session))
        end_session(shard, sockets, group.session, SessionEnd::finished, now);
}

}  // namespace

void forward_replies(Shard& shard, Sockets& sockets, std::span<const Arrival> arrivals,
                     Instant now) {
    for (const Arrival& arrival : arrivals) {
        const std::uint32_t index = shard.group_of_slot[arrival.slot];
        UDPPROXY_ASSERT(index != no_index);
        const ReplyGroup& group = shard.groups[index];
        const std::uint32_t datagrams = arrival.datagrams();
        shard.arrivals_total += datagrams;
        shard.counters_of(group.proxy).arrivals_reply.add(datagrams);
        const std::optional<std::size_t> source = group.upstream->find(arrival.from);
        if (!source) {
            shard.drop(arrival, group.proxy, Drop::unlisted_source);
            report_unlisted(shard, group, arrival, now);
            continue;
        }
        shard.counters_of(group.proxy).replies_from[*source].add(datagrams);
        if (group.state != GroupState::in_use)
            shard.drop(arrival, group.proxy, Drop::late_reply);
        else if (arrival.truncated)
            shard.drop(arrival, group.proxy, Drop::truncated);
        else if (!shard.is_long(arrival, group.proxy))
            forward_reply(shard, sockets, group, arrival, now);
        else if (const std::optional<Arrival> rest = shard.drop_long(arrival, group.proxy))
            forward_reply(shard, sockets, group, *rest, now);
    }
}

}  // namespace udpproxy
