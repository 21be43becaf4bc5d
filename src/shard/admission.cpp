// Admission: a stranger gets a session. The cold path; it may make system calls through Sockets, and is bounded per turn.
//
// Order within a client is kept: whoever has a session by now is forwarded in passing, whatever the bound says, so nobody's second datagram
// overtakes the first.
#include <array>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

constexpr int ports_tried_per_group = 16;

enum class Verdict : std::uint8_t { admitted, dropped, wait };

struct Judgement {
    Verdict verdict = Verdict::admitted;
    Drop reason = Drop::group_failed;  // with Verdict::dropped, and when waiting has been too long
};

constexpr Judgement admitted{};
constexpr Judgement wait_for_room{Verdict::wait, Drop::descriptor_limit};
constexpr Judgement wait_for_port{Verdict::wait, Drop::ports_exhausted};
Judgement refuse(Drop reason) { return {Verdict::dropped, reason}; }

class Admission {
public:
    Admission(Shard& shard, Sockets& sockets, Instant now) : shard_(shard), sockets_(sockets), now_(now) {}

    [[nodiscard]] Judgement judge(const Stranger& stranger);

private:
    [[nodiscard]] bool take_session(std::uint16_t proxy);
    void give_session(std::uint16_t proxy);
    [[nodiscard]] std::optional<std::uint32_t> victim(std::uint16_t proxy);
    [[nodiscard]] bool make_room_for_session(std::uint16_t proxy);
    [[nodiscard]] Judgement find_group(std::uint16_t proxy, std::uint32_t& group);
    [[nodiscard]] Judgement open_group(PoolLane lane, std::uint32_t& group);
    [[nodiscard]] Judgement make_room_for_port(PoolLane lane, std::uint32_t& group);
    [[nodiscard]] Judgement make_room_for_group(std::uint16_t proxy, std::uint32_t members);
    [[nodiscard]] Judgement free_descriptors(std::uint16_t proxy);
    [[nodiscard]] Judgement judge_failure(const OpeningOutcome& outcome, PoolLane lane);
    void look_up_source(SourceLane& lane, PoolLane index);
    void add_group(PoolLane lane, const GroupOpening& opening, std::span<const Slot> slots, std::uint32_t& group);
    [[nodiscard]] bool shall_watch(Proxy& proxy) const;

    Shard& shard_;
    Sockets& sockets_;
    Instant now_;
    bool evicted_for_port_ = false;         // for the stranger at hand
    std::uint32_t descriptors_wanted_ = 0;  // by the strangers of this turn that wait for them
};

/// The look-up itself found no socket or no port (a connect takes one): what was known before still holds.
bool says_nothing_of_the_source(int error) {
    return error == EAGAIN || error == EADDRINUSE || error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

bool has_bad_source(const Endpoint& from) {
    return from.port == 0 || from.address.is_unspecified() || from.address.is_multicast() || from.address.is_broadcast();
}

Judgement Admission::judge(const Stranger& stranger) {
    const std::uint16_t proxy = shard_.setup.listeners[stranger.key.listener].proxy;
    if (has_bad_source(stranger.arrival.from)) return refuse(Drop::bad_source);
    if (stranger.key.local.is_multicast()) return refuse(Drop::bad_destination);
    if (shard_.stopping) return refuse(Drop::stopping);
    if (!take_session(proxy) && !(make_room_for_session(proxy) && take_session(proxy))) return refuse(Drop::session_limit);

    evicted_for_port_ = false;
    std::uint32_t group = no_index;
    const Judgement judgement = find_group(proxy, group);
    if (group == no_index) {
        give_session(proxy);
        return judgement;
    }
    const std::uint32_t index = shard_.table.admit(stranger.hash, stranger.key, proxy, now_);
    Session& session = shard_.table[index];
    session.group = group;
    session.primary = shard_.groups[group].primary();
    session.interface_index = stranger.arrival.interface_index;
    shard_.groups[group].session = index;
    shard_.counters_of(proxy).sessions_admitted.add(1);
    forward_request(shard_, index, stranger.arrival, now_);
    return admitted;
}

bool Admission::take_session(std::uint16_t proxy) {
    SharedUse& use = *shard_.setup.use;
    if (shard_.table.full() || !use.sessions.take(1, shard_.setup.sessions_max)) return false;
    if (use.proxy_sessions[proxy].take(1, shard_.proxies[proxy].setup.sessions_max)) return true;
    use.sessions.give(1);
    return false;
}

void Admission::give_session(std::uint16_t proxy) {
    shard_.setup.use->sessions.give(1);
    shard_.setup.use->proxy_sessions[proxy].give(1);
}

/// Who goes first when room is short: of the proxy itself if that has somebody to give, else the least recently active of all proxies.
std::optional<std::uint32_t> Admission::victim(std::uint16_t proxy) {
    if (const auto own = shard_.table.first_to_go(proxy, now_, eviction_idle)) return own;
    std::optional<std::uint32_t> oldest;
    for (std::uint16_t other = 0; other < shard_.proxies.size(); ++other) {
        if (other == proxy) continue;
        const auto candidate = shard_.table.first_to_go(other, now_, eviction_idle);
        if (candidate && (!oldest || shard_.table[*candidate].last_active_at < shard_.table[*oldest].last_active_at)) oldest = candidate;
    }
    return oldest;
}

bool Admission::make_room_for_session(std::uint16_t proxy) {
    const bool own_limit =
        shard_.setup.use->proxy_sessions[proxy].used.load(std::memory_order_relaxed) >= shard_.proxies[proxy].setup.sessions_max;
    const std::optional<std::uint32_t> gone = own_limit ? shard_.table.first_to_go(proxy, now_, eviction_idle) : victim(proxy);
    if (!gone) return false;
    end_session(shard_, sockets_, *gone, SessionEnd::evicted, now_);
    return true;
}

Judgement Admission::find_group(std::uint16_t proxy_index, std::uint32_t& group) {
    Proxy& proxy = shard_.proxies[proxy_index];
    Judgement judgement = refuse(Drop::source_unavailable);
    for (PoolLane tried = 0; tried < proxy.lanes; ++tried) {
        const PoolLane lane = proxy.first_lane + (proxy.next_lane + tried) % proxy.lanes;
        look_up_source(shard_.lanes[lane], lane);
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
            proxy.next_lane = (lane - proxy.first_lane + 1) % proxy.lanes;
            return admitted;
        }
        if (judgement.verdict == Verdict::wait) return judgement;
    }
    return judgement;
}

/// Every port is in use or rests. A rested group of another lane gives its port at once; else a session ends, whose group serves a later newcomer
/// when it has rested, or this one without a rest. Not more of them rest than are lent: a storm of newcomers ends nobody in vain.
Judgement Admission::make_room_for_port(PoolLane lane_index, std::uint32_t& group) {
    const SourceLane& lane = shard_.lanes[lane_index];
    for (PoolLane other = 0; other < shard_.lanes.size(); ++other) {
        if (other == lane_index || shard_.lanes[other].port_pool != lane.port_pool) continue;
        if (const auto rested = shard_.groups.rested(other, now_)) {
            close_group(shard_, sockets_, *rested);
            return wait_for_port;
        }
    }
    if (evicted_for_port_ || 2 * shard_.groups.resting(lane_index) >= shard_.groups.size(lane_index)) return refuse(Drop::ports_exhausted);
    const std::optional<std::uint32_t> gone = shard_.table.first_to_go(lane.proxy, now_, eviction_idle);
    if (!gone) return refuse(Drop::ports_exhausted);
    evicted_for_port_ = true;
    end_session(shard_, sockets_, *gone, SessionEnd::evicted, now_);
    if (const auto lent = shard_.groups.lend(lane_index, no_index, now_)) {
        group = *lent;
        shard_.counters_of(lane.proxy).groups_lent.add(1);
    }
    return refuse(Drop::ports_exhausted);
}

/// The lane's source address, looked up at most once a second. When it has changed or gone, groups bound to the old one are not lent again.
void Admission::look_up_source(SourceLane& lane, PoolLane index) {
    if (lane.checked && now_ - lane.checked_at < source_check_every) return;
    lane.checked = true;
    lane.checked_at = now_;
    const SourceAnswer answer = sockets_.source_towards(shard_.proxies[lane.proxy].setup.upstream, lane.wanted);
    if (lane.error == 0 && lane.looked_up && says_nothing_of_the_source(answer.error)) return;
    lane.looked_up = true;
    lane.error = answer.error;
    if (answer.error == 0 && answer.source == lane.source) return;
    shard_.groups.outdate(index);
    if (answer.error == 0) lane.source = answer.source;
}

Judgement Admission::open_group(PoolLane lane_index, std::uint32_t& group) {
    const SourceLane& lane = shard_.lanes[lane_index];
    Proxy& proxy = shard_.proxies[lane.proxy];
    PortPool& ports = shard_.ports[lane.port_pool];
    GroupOpening opening;
    opening.local = lane.source;
    opening.upstream = proxy.setup.upstream;
    opening.aliases = proxy.connected_aliases;
    const bool watches = shall_watch(proxy);
    opening.with_open_member = watches || proxy.setup.needs_open_member();

    auto members = static_cast<std::uint32_t>(opening.members());
    bool taken = !shard_.groups.full() && shard_.setup.use->descriptors.take(members, shard_.setup.descriptors_max);
    if (!taken && !shard_.groups.full() && proxy.setup.watch == Watch::spare_room && opening.with_open_member &&
        !proxy.setup.needs_open_member()) {
        // Watching is for spare room only.
        opening.with_open_member = false;
        taken = shard_.setup.use->descriptors.take(--members, shard_.setup.descriptors_max);
    }
    if (!taken) return make_room_for_group(lane.proxy, members);

    std::array<Slot, group_members_max> slots{};
    OpeningOutcome outcome;
    for (int tried = 0; tried < ports_tried_per_group; ++tried) {
        const std::optional<std::uint16_t> port = ports.lease(lane.port_range, now_);
        if (!port) {
            shard_.setup.use->descriptors.give(members);
            return make_room_for_port(lane_index, group);
        }
        opening.local.port = *port;
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
        return shard_.descriptors_closing > 0 ? wait_for_room : free_descriptors(lane.proxy);
    }
    if (outcome.step == OpeningStep::connect) return refuse(Drop::upstream_unroutable);
    return refuse(Drop::group_failed);
}

/// The budget is met: wait for what is being closed if that will do, else free some.
Judgement Admission::make_room_for_group(std::uint16_t proxy, std::uint32_t members) {
    descriptors_wanted_ += members;
    const std::uint32_t used = shard_.setup.use->descriptors.used.load(std::memory_order_relaxed);
    if (used - shard_.descriptors_closing + descriptors_wanted_ <= shard_.setup.descriptors_max) return wait_for_room;
    return free_descriptors(proxy);
}

/// Closes what is needed least: the group that has rested longest (its port goes on resting), else the group of the session that may go first.
Judgement Admission::free_descriptors(std::uint16_t proxy) {
    if (const auto resting = shard_.groups.oldest_resting()) {
        close_group(shard_, sockets_, *resting);
        return wait_for_room;
    }
    const std::optional<std::uint32_t> gone = victim(proxy);
    if (!gone) return refuse(Drop::descriptor_limit);
    // With no rest asked for, the victim's group serves the newcomer as it is.
    const bool lend_it = shard_.proxies[proxy].setup.port_rest == Duration::zero() && shard_.table[*gone].proxy == proxy;
    end_session(shard_, sockets_, *gone, SessionEnd::evicted, now_, lend_it);
    return wait_for_room;
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
    const std::uint32_t used = shard_.setup.use->descriptors.used.load(std::memory_order_relaxed);
    return used < shard_.setup.descriptors_max / 2 || proxy.opened % 16 == 0;
}

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
    shard.admission_bound_met = false;
    std::uint32_t left = admissions_per_turn;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < shard.strangers.size(); ++i) {
        Stranger& stranger = shard.strangers[i];
        if (const std::optional<std::uint32_t> session = shard.table.find(stranger.hash, stranger.key)) {
            forward_request(shard, *session, stranger.arrival, now);
            continue;
        }
        Judgement judgement = wait_for_room;
        if (left == 0) {
            shard.admission_bound_met = true;
        } else if (!waits_already(shard, kept, stranger)) {
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
    shard.strangers.truncate(kept);
}

}  // namespace udpproxy
