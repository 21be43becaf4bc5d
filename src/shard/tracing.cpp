// What of a datagram a trace keeps. Each function is called where the datagram's fate is decided,
// and only while a trace is on.
#include <algorithm>
#include <cstring>

#include "steps.hpp"

namespace udpproxy {

namespace {

void keep_payload(TraceRecord& record, const std::byte* payload, std::uint32_t bytes) {
    record.bytes = bytes;
    record.kept = std::min<std::uint32_t>(bytes, trace_payload_max);
    if (record.kept > 0) std::memcpy(record.payload.data(), payload, record.kept);
}

/// Keeps a record for each datagram of a GSO batch.
void keep_segments(Shard& shard, TraceRecord& record, const std::byte* payload, std::uint32_t bytes,
                   std::uint32_t segment_bytes) {
    const std::uint32_t step = segment_bytes == 0 || segment_bytes > bytes ? bytes : segment_bytes;
    std::uint32_t at = 0;
    do {
        keep_payload(record, payload + at, std::min(step, bytes - at));
        shard.trace.keep(record);
        at += step;
    } while (at < bytes);
}

TraceRecord record_of(Shard& shard, const Session& session, Leg leg) {
    TraceRecord record;
    record.at = shard.turn_at;
    record.leg = leg;
    record.proxy = session.proxy;
    record.listen = shard.setup.listeners[session.key.listener].endpoint;
    record.client = session.key.client_endpoint();
    record.local = session.key.local;
    const ReplyGroup& group = shard.groups[session.group];
    record.local_endpoint = group.local;
    record.service = group.upstream->endpoint();
    return record;
}

/// The session that a member's slot serves at the moment; null when no session uses its group.
const Session* session_of(Shard& shard, Slot slot) {
    const std::uint32_t index = shard.group_of_slot[slot];
    if (index == no_index || shard.groups[index].state != GroupState::in_use) return nullptr;
    return &shard.table[shard.groups[index].session];
}

}  // namespace

void trace_forwarded(Shard& shard, const Session& session, const Arrival& arrival, Leg leg) {
    trace_cut(shard, session, arrival, leg, arrival.bytes, Drop{});
}

void trace_cut(Shard& shard, const Session& session, const Arrival& arrival, Leg leg,
               std::uint32_t bytes, Drop otherwise) {
    if (!shard.trace.follows(session.key.client_endpoint(), shard.turn_at)) return;
    TraceRecord record = record_of(shard, session, leg);
    record.tos = arrival.tos;
    if (leg == Leg::reply) record.service = arrival.from;
    keep_segments(shard, record, arrival.payload, bytes, arrival.segment_bytes);
    if (bytes == arrival.bytes) return;
    record.dropped = otherwise;
    keep_segments(shard, record, arrival.payload + bytes, arrival.bytes - bytes,
                  arrival.segment_bytes);
}

void trace_dropped(Shard& shard, const Arrival& arrival, std::uint16_t proxy, Drop reason) {
    TraceRecord record;
    if (shard.group_of_slot[arrival.slot] == no_index) {
        if (!shard.trace.follows(arrival.from, shard.turn_at)) return;
        record.at = shard.turn_at;
        record.leg = Leg::request;
        record.proxy = proxy;
        record.listen = shard.setup.listeners[index_of(arrival.slot)].endpoint;
        record.client = arrival.from;
        record.local = arrival.local;
    } else {
        const Session* session = session_of(shard, arrival.slot);
        if (session == nullptr ||
            !shard.trace.follows(session->key.client_endpoint(), shard.turn_at))
            return;
        record = record_of(shard, *session, Leg::reply);
        record.service = arrival.from;
    }
    record.dropped = reason;
    record.tos = arrival.tos;
    if (arrival.truncated) {
        // `bytes` is the length that was sent; the buffer holds less.
        record.bytes = arrival.bytes;
        shard.trace.keep(record);
        return;
    }
    keep_segments(shard, record, arrival.payload, arrival.bytes, arrival.segment_bytes);
}

void trace_unsent(Shard& shard, const Departure& departure, std::uint32_t offset,
                  std::uint32_t bytes, Drop reason) {
    TraceRecord record;
    if (departure.leg == Leg::request) {
        const Session* session = session_of(shard, departure.slot);
        if (session == nullptr ||
            !shard.trace.follows(session->key.client_endpoint(), shard.turn_at))
            return;
        record = record_of(shard, *session, Leg::request);
    } else {
        if (!shard.trace.follows(departure.to, shard.turn_at)) return;
        record.at = shard.turn_at;
        record.leg = Leg::reply;
        record.proxy = departure.proxy;
        record.listen = shard.setup.listeners[index_of(departure.slot)].endpoint;
        record.client = departure.to;
        record.local = departure.from;
    }
    record.dropped = reason;
    record.tos = departure.tos;
    keep_segments(shard, record, departure.payload + offset, bytes, departure.segment_bytes);
}

}  // namespace udpproxy
