// Admission: a stranger gets a session. The cold path; it may make system calls through Sockets, and is bounded per turn.
//
// Order within a client is kept: whoever has a session by now is forwarded in passing, whatever the bound says, so nobody's second datagram
// overtakes the first.
#include <algorithm>
#include <array>

#include "admission.hpp"

namespace udpproxy {

namespace {

constexpr int ports_tried_per_group = 16;

}  // namespace

/// Who had no session when it was read has one now only if it was admitted in this turn; looking there, and not in the table, keeps a turn short that
/// has a full queue of strangers before it.
bool Admission::forward_if_admitted(const Stranger& stranger) {
    const auto hashes = std::span{admitted_}.first(admitted_count_);
    if (std::find(hashes.begin(), hashes.end(), stranger.hash) == hashes.end()) return false;
    const std::optional<std::uint32_t> session = shard_.table.find(stranger.hash, stranger.key);
    if (!session) return false;
    forward_request(shard_, *session, stranger.arrival, now_);
    return true;
}

Judgement Admission::judge(const Stranger& stranger) {
    const std::uint16_t proxy = shard_.setup.listeners[stranger.key.listener].proxy;
    if (const std::optional<Drop> refused = refused_at_gate(shard_, stranger)) return refuse(*refused);
    if (const std::optional<Drop> refused = take_place(proxy, stranger)) return refuse(*refused);

    evicted_for_port_ = false;
    std::uint32_t group = no_index;
    const Judgement judgement = find_group(proxy, group);
    if (group == no_index) {
        give_place(proxy, stranger.key.client);
        return judgement;
    }
    const std::uint32_t index = shard_.table.admit(stranger.hash, stranger.key, proxy, now_);
    Session& session = shard_.table[index];
    session.group = group;
    session.primary = shard_.groups[group].primary();
    session.interface_index = stranger.arrival.interface_index;
    shard_.groups[group].session = index;
    shard_.setup.use->unassured.add(1);
    shard_.setup.use->proxies[proxy].unassured.add(1);
    ++shard_.listeners[stranger.key.listener].sessions;
    shard_.setup.use->listener_sessions[stranger.key.listener].used.fetch_add(1, std::memory_order_relaxed);
    shard_.counters_of(proxy).sessions_admitted.add(1);
    forward_request(shard_, index, stranger.arrival, now_);
    admitted_[admitted_count_++] = stranger.hash;
    return admitted;
}

Judgement Admission::find_group(std::uint16_t proxy_index, std::uint32_t& group) {
    Proxy& proxy = shard_.proxies[proxy_index];
    Judgement judgement = refuse(Drop::source_unavailable);
    for (PoolLane tried = 0; tried < proxy.lanes; ++tried) {
        const PoolLane lane = proxy.first_lane + (proxy.next_lane + tried) % proxy.lanes;
        look_up_source(shard_, sockets_, lane, now_);
        if (shard_.lanes[lane].error != 0) {
            judgement = refuse(Drop::source_unavailable);
            continue;
        }
        if (const std::optional<std::uint32_t> lent = shard_.groups.lend(lane, no_index, now_)) {
            group = *lent;
            shard_.counters_of(proxy_index).groups_lent.add(1);
        } else {
            judgement = open_group(lane, group);
        }
        if (group != no_index) {
            shard_.filling = shard_.filling || shard_.groups.lacking(lane) > 0;
            proxy.next_lane = (lane - proxy.first_lane + 1) % proxy.lanes;
            return admitted;
        }
        if (judgement.verdict == Verdict::wait) return judgement;
    }
    return judgement;
}

Judgement Admission::open_group(PoolLane lane_index, std::uint32_t& group) {
    const SourceLane& lane = shard_.lanes[lane_index];
    Proxy& proxy = shard_.proxies[lane.proxy];
    PortPool& ports = shard_.ports[lane.port_pool];
    GroupOpening opening;
    opening.local = lane.source;
    const Upstream& upstream = *proxy.setup.upstream;
    opening.upstream = upstream.endpoint();
    opening.aliases = upstream.connected_aliases();
    opening.path_mtu = proxy.setup.path_mtu;
    opening.receive_buffer_bytes = proxy.setup.member_receive_buffer_bytes;
    opening.offload = proxy.setup.offload;
    const bool watches = shall_watch(proxy);
    opening.with_open_member = watches || upstream.needs_open_member();

    auto members = static_cast<std::uint32_t>(opening.members());
    bool taken = !shard_.groups.full() && shard_.setup.use->descriptors.take(members, shard_.setup.descriptors_max);
    if (!taken && !shard_.groups.full() && proxy.setup.watch == Watch::spare_room && opening.with_open_member &&
        !upstream.needs_open_member()) {
        // Watching is for spare room only.
        opening.with_open_member = false;
        taken = shard_.setup.use->descriptors.take(--members, shard_.setup.descriptors_max);
    }
    if (!taken) return makes_room_ ? make_room_for_group(lane.proxy, members) : refuse(Drop::descriptor_limit);

    std::array<Slot, group_members_max> slots{};
    OpeningOutcome outcome;
    for (int tried = 0; tried < ports_tried_per_group; ++tried) {
        const std::optional<std::uint16_t> port = ports.lease(lane.port_range, now_);
        if (!port) {
            shard_.setup.use->descriptors.give(members);
            return makes_room_ ? make_room_for_port(lane_index, group) : refuse(Drop::ports_exhausted);
        }
        opening.local.port = *port;
        ++openings_;
        outcome = sockets_.open_group(opening, std::span{slots}.first(members));
        if (outcome.opened()) {
            add_group(lane_index, opening, std::span{slots}.first(members), group);
            return admitted;
        }
        ports.release(*port, now_);  // to the end of the queue
        if (outcome.step != OpeningStep::bind || outcome.error != EADDRINUSE) break;
        shard_.counters_of(lane.proxy).ports_taken.add(1);
    }
    shard_.setup.use->descriptors.give(members);
    return judge_failure(outcome, lane_index);
}

bool Admission::prepare_group(PoolLane lane) {
    makes_room_ = false;
    look_up_source(shard_, sockets_, lane, now_);
    std::uint32_t group = no_index;
    if (shard_.lanes[lane].error == 0) (void)open_group(lane, group);
    if (group == no_index) return false;
    shard_.groups.rest_ready(group, now_);
    return true;
}

void Admission::add_group(PoolLane lane, const GroupOpening& opening, std::span<const Slot> slots, std::uint32_t& index) {
    index = shard_.groups.add(lane, no_index);
    ReplyGroup& group = shard_.groups[index];
    group.local = opening.local;
    group.proxy = shard_.lanes[lane].proxy;
    group.members = static_cast<std::uint8_t>(slots.size());
    group.has_open_member = opening.with_open_member;
    for (std::size_t i = 0; i < slots.size(); ++i) {
        group.slots[i] = slots[i];
        shard_.group_of_slot[index_of(slots[i])] = index;
    }
    shard_.setup.use->own_ports[shard_.lanes[lane].port_pool].insert(group.local.port);
    hold_upstream(shard_, shard_.proxies[group.proxy]);
    ++shard_.proxies[group.proxy].opened;
    shard_.counters_of(group.proxy).groups_opened.add(1);
}

Judgement Admission::judge_failure(const OpeningOutcome& outcome, PoolLane lane_index) {
    SourceLane& lane = shard_.lanes[lane_index];
    // Others hold a whole row of ports: the next ones are tried in the next turn.
    if (outcome.step == OpeningStep::bind && outcome.error == EADDRINUSE) return wait_for_port;
    if (outcome.step == OpeningStep::bind && outcome.error == EADDRNOTAVAIL) {
        // The source has gone since it was looked up. It is looked up again when the next second has passed.
        lane.error = outcome.error;
        shard_.groups.outdate(lane_index);
        return refuse(Drop::source_unavailable);
    }
    if (outcome.step == OpeningStep::socket && (outcome.error == EMFILE || outcome.error == ENFILE)) {
        // Somebody else holds what our budget counted on.
        return shard_.descriptors_closing > 0 || !makes_room_ ? wait_for_room : free_descriptors(lane.proxy);
    }
    if (outcome.step == OpeningStep::connect) return refuse(Drop::upstream_unroutable);
    return refuse(Drop::group_failed);
}

bool Admission::shall_watch(Proxy& proxy) const {
    switch (proxy.setup.watch) {
        case Watch::none:
            return false;
        case Watch::all:
            return true;
        case Watch::spare_room:
            break;
    }
    const std::uint32_t used = shard_.setup.use->descriptors.read();
    return used < shard_.setup.descriptors_max / 2 || proxy.opened % 16 == 0;
}

namespace {

/// Whether one of the first `kept` strangers is the same client: then this datagram waits behind it.
bool waits_already(const Shard& shard, std::size_t kept, const Stranger& stranger) {
    for (std::size_t i = 0; i < kept; ++i) {
        if (shard.strangers[i].hash == stranger.hash && shard.strangers[i].key == stranger.key) return true;
    }
    return false;
}

}  // namespace

void admit_strangers(Shard& shard, Sockets& sockets, Instant now) {
    Admission admission(shard, sockets, now);
    std::uint32_t left = admissions_per_turn;
    std::size_t kept = 0;
    std::size_t next = 0;
    for (; next < shard.strangers.size() && left > 0 && !admission.is_spent(); ++next) {
        Stranger& stranger = shard.strangers[next];
        if (admission.forward_if_admitted(stranger)) continue;
        Judgement judgement = wait_for_room;
        if (!waits_already(shard, kept, stranger)) {
            if (!shard.stopping) --left;  // refusing costs nothing
            judgement = admission.judge(stranger);
            if (judgement.verdict == Verdict::wait && ++stranger.waits > waits_max) judgement.verdict = Verdict::dropped;
        }
        switch (judgement.verdict) {
            case Verdict::admitted:
                break;
            case Verdict::dropped:
                shard.drop(stranger.arrival, shard.setup.listeners[stranger.key.listener].proxy, judgement.reason);
                break;
            case Verdict::wait:
                shard.strangers[kept++] = stranger;
                break;
        }
    }
    shard.admission_bound_met = next < shard.strangers.size();
    for (; next < shard.strangers.size(); ++next) {
        const Stranger& stranger = shard.strangers[next];
        if (!admission.forward_if_admitted(stranger)) shard.strangers[kept++] = stranger;
    }
    shard.strangers.truncate(kept);
}

}  // namespace udpproxy
