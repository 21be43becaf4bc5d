// Retirement: when sessions end, whether their groups cool down or close, and when sockets close.
// Bounded per turn; remaining work waits for the next turn.
#include <algorithm>

#include "reservation.hpp"
#include "steps.hpp"

namespace udpproxy {

namespace {

Counter& ended_counter(ProxyCounters& counters, SessionEnd end) {
    switch (end) {
        case SessionEnd::idle:
            break;
        case SessionEnd::finished:
            return counters.sessions_finished;
        case SessionEnd::evicted:
            return counters.sessions_evicted;
        case SessionEnd::source_changed:
            return counters.sessions_moved;
        case SessionEnd::killed:
            return counters.sessions_killed;
        case SessionEnd::closed:
            return counters.sessions_closed;
        case SessionEnd::stopped:
            return counters.sessions_stopped;
    }
    return counters.sessions_expired;
}

void note_listener_closed(Shard& shard, std::uint32_t index) {
    UDPPROXY_ASSERT(index < shard.listeners.size());
    Listener& listener = shard.listeners[index];
    UDPPROXY_ASSERT(listener.open && listener.closed);
    // The next listener in this slot may belong to another proxy.
    drop_new_clients_at(shard, static_cast<std::uint16_t>(index));
    if (listener.closing) --shard.leaving;
    listener = Listener{};
    --shard.listeners_open;
    shard.setup.use->listeners_held[index].fetch_sub(1, std::memory_order_release);
}

}  // namespace

void retire_sessions(Shard& shard, Sockets& sockets, Instant now) {
    std::uint32_t scan_budget = retirements_per_turn;
    while (const std::optional<std::uint32_t> session = shard.table.next_expired(now, scan_budget))
        end_session(shard, sockets, *session, SessionEnd::idle, now);
    for (std::uint32_t i = 0; i < surplus_closes_per_turn; ++i) {
        const std::optional<std::uint32_t> group = shard.groups.surplus(now, surplus_after);
        if (!group) break;
        close_group(shard, sockets, *group);
    }
}

void end_session(Shard& shard, Sockets& sockets, std::uint32_t index, SessionEnd end, Instant now,
                 bool keep_group) {
    const Session& session = shard.table[index];
    const std::uint32_t group_index = session.group;
    const ReplyGroup& group = shard.groups[group_index];
    ProxyCounters& counters = shard.counters_of(session.proxy);
    ended_counter(counters, end).add(1);
    counters.session_durations.note(now - session.admitted_at);
    if (shard.setup.report_sessions) {
        Event event;
        event.kind = EventKind::session_ended;
        event.proxy = session.proxy;
        event.end = end;
        event.listener = session.key.listener;
        event.client = session.key.client_endpoint();
        event.local = session.key.local;
        event.local_endpoint = group.local;
        event.requests = session.requests;
        event.replies = session.replies;
        event.lasted = now - session.admitted_at;
        event.assured = session.assured;
        shard.report(event);
    }
    release_session(shard, session);
    shard.table.retire(index);
    note_change(shard, group_index);
    if (keep_group && !shard.groups.is_outdated(group_index))
        shard.groups.cooldown(group_index, now);
    else
        close_group(shard, sockets, group_index);
}

void close_group(Shard& shard, Sockets& sockets, std::uint32_t index) {
    note_change(shard, index);
    shard.groups.begin_close(index, shard.turn_at);
    const ReplyGroup& group = shard.groups[index];
    for (std::size_t i = 0; i < group.members; ++i) sockets.close(group.slots[i]);
    shard.descriptors_closing += group.members;
    shard.counters_of(group.proxy).groups_closed.add(1);
}

void close_all_listeners(Shard& shard, Sockets& sockets) {
    for (std::uint32_t index = 0; index < shard.listeners.size(); ++index) {
        Listener& listener = shard.listeners[index];
        if (!listener.open || std::exchange(listener.closed, true)) continue;
        sockets.close(Slot{index});
    }
}

bool end_all_sessions(Shard& shard, Sockets& sockets, std::uint32_t& next, std::size_t count,
                      Instant now) {
    for (; next < shard.table.high_water(); ++next) {
        if (!shard.table.is_live(next)) continue;
        if (count-- == 0) return false;
        end_session(shard, sockets, next, SessionEnd::stopped, now, false);
    }
    return true;
}

void close_all_groups(Shard& shard, Sockets& sockets) {
    for (std::uint32_t index = 0; index < shard.groups.high_water(); ++index) {
        if (shard.groups.is_live(index) && shard.groups[index].state != GroupState::closing)
            close_group(shard, sockets, index);
    }
}

void note_closed(Shard& shard, std::span<const Slot> closed, Instant now) {
    for (const Slot slot : closed) {
        const std::uint32_t index = shard.group_of_slot[slot];
        if (index == no_index) {
            note_listener_closed(shard, index_of(slot));
            continue;
        }
        shard.group_of_slot.set(slot, no_index);
        ReplyGroup& group = shard.groups[index];
        if (group.state != GroupState::closing) {
            // The member of a removed alias.
            --group.members_leaving;
            --shard.descriptors_closing;
            shard.setup.use->descriptors.release(1);
            continue;
        }
        if (--group.members_open > 0) continue;
        const SourceBinding& binding = shard.bindings[group.binding];
        // The time that the group has cooled down counts for its port.
        const Instant cooling_since = std::min(group.cooling_since, now);
        const Instant until = cooling_since + shard.proxies[group.proxy].setup.port_cooldown;
        note_rest(shard, binding.port_pool, group.local.port, until);
        shard.ports[binding.port_pool].release(group.local.port, until);
        const auto members = static_cast<std::uint32_t>(group.members + group.members_leaving);
        UDPPROXY_ASSERT(shard.descriptors_closing >= members);
        shard.descriptors_closing -= members;
        shard.setup.use->descriptors.release(members);
        shard.setup.use->own_ports[binding.port_pool].erase(group.local.port);
        let_go_of_upstream(shard, group.upstream);
        shard.groups.forget(index);
    }
}

std::optional<Instant> next_deadline(const Shard& shard, Instant now) {
    // Commands beyond one turn's bound: their wake-up has been used up, so the next turn is due
    // now.
    if (!shard.commands.is_empty()) return now;
    // New clients beyond the bound are due now. Those that wait for descriptors are decided on
    // again when one is closed, and every millisecond.
    if (!shard.new_clients.empty())
        return shard.admission_bound_met ? now : now + std::chrono::milliseconds{1};
    if (!shard.pending.empty() || !shard.suspect_groups.empty())
        return now + std::chrono::milliseconds{1};
    std::optional<Instant> next = shard.reconcile_at;
    const std::optional<Instant> prewarm_at =
        shard.prewarming && !shard.draining ? std::optional{shard.prewarm_at} : std::nullopt;
    for (const std::optional<Instant>& other :
         {prewarm_at, shard.sources_at, shard.table.next_due(),
          shard.groups.next_surplus(surplus_after)}) {
        if (other && (!next || *other < *next)) next = other;
    }
    return next;
}

}  // namespace udpproxy
