// What the ledger is told of this shard's groups and sessions. Changes are collected and written
// once a turn, before the turn's sends: what a client has been answered for is in the ledger. A
// record is erased before its sockets close, which the engine does in the next wait. Nothing is
// written for a datagram of a known client.
#include <algorithm>

#include "steps.hpp"

namespace udpproxy {

static_assert(recorded_members_max == group_members_max);

namespace {

SessionRecord record_of(const Session& session) {
    SessionRecord record;
    record.id = session.id;
    record.listener = session.key.listener;
    record.client = session.key.client_endpoint();
    record.local = session.key.local;
    record.interface_index = session.interface_index;
    record.replied = session.replied;
    record.assured = session.assured;
    record.has_successor = session.has_successor;
    record.admitted_at = session.admitted_at;
    record.last_active_at = session.last_active_at;
    record.request_datagrams = session.requests.datagrams;
    record.request_bytes = session.requests.bytes;
    record.reply_datagrams = session.replies.datagrams;
    record.reply_bytes = session.replies.bytes;
    return record;
}

GroupRecord record_of(Shard& shard, const Sockets& sockets, const ReplyGroup& group) {
    GroupRecord record;
    record.proxy = group.proxy;
    record.binding = group.binding;
    record.upstream_version = group.upstream->version();
    record.has_open_member = group.has_open_member;
    record.local = group.local;
    record.members = group.members;
    for (std::size_t i = 0; i < group.members; ++i)
        record.descriptors[i] = sockets.descriptor_of(group.slots[i]);
    if (group.state == GroupState::cooling)
        // Of a group that stands ready it may lie before the machine's start.
        record.cooling_since = std::max(group.cooling_since, Instant{});
    else
        record.session = record_of(shard.table[group.session]);
    return record;
}

void write_record(Shard& shard, const Sockets& sockets, std::uint32_t index) {
    Ledger& ledger = *shard.setup.ledger;
    if (!shard.groups.is_live(index) || shard.groups[index].state == GroupState::closing)
        ledger.erase(shard.setup.shard, index);
    else if (!ledger.write(shard.setup.shard, index,
                           record_of(shard, sockets, shard.groups[index])))
        shard.counters.records_unwritten.add(1);
}

}  // namespace

void note_change(Shard& shard, std::uint32_t index) {
    ReplyGroup& group = shard.groups[index];
    if (!shard.setup.ledger || std::exchange(group.is_changed, true)) return;
    shard.changed_groups.push(index);
}

void note_rest(Shard& shard, std::uint32_t port_pool, std::uint16_t port, Instant until) {
    if (shard.setup.ledger) shard.setup.ledger->rest(port_pool, port, until);
}

void write_records(Shard& shard, const Sockets& sockets) {
    for (const std::uint32_t index : shard.changed_groups) {
        write_record(shard, sockets, index);
        if (shard.groups.is_live(index)) shard.groups[index].is_changed = false;
    }
    shard.changed_groups.clear();
}

void write_all_records(Shard& shard, const Sockets& sockets) {
    if (!shard.setup.ledger) return;
    for (std::uint32_t index = 0; index < shard.groups.high_water(); ++index)
        if (shard.groups.is_live(index)) write_record(shard, sockets, index);
}

}  // namespace udpproxy
