// Pending departures: a departure that the kernel could not queue (EAGAIN: the socket's send buffer
// is full; ENOBUFS: the kernel is short of memory) is kept and sent again in the next turns, ahead
// of later departures, for a tenth of a second at most. Few are kept, and no direction is paused
// for them: one client behind a dead link must not make all others wait.
#include <cerrno>

#include <algorithm>

#include "steps.hpp"

namespace udpproxy {

namespace {

void give_up(Shard& shard, const PendingDeparture& pending) {
    shard.counters_of(pending.departure.proxy)
        .drop(drop_of_send_error(pending.error), pending.departure.datagrams());
    if (shard.trace.is_on())
        trace_unsent(shard, pending.departure, 0, pending.departure.bytes,
                     drop_of_send_error(pending.error));
    shard.drops_total += pending.departure.datagrams();
    shard.dropped.push(pending.departure.buffer);
}

}  // namespace

void resume_pending(Shard& shard, Instant now) {
    for (const PendingDeparture& pending : shard.pending) {
        if (now - pending.since > pending_time_max) {
            give_up(shard, pending);
            continue;
        }
        shard.resumed.push(pending);
        shard.departures.push(pending.departure);
    }
    shard.pending.clear();
}

void keep_pending(Shard& shard, const Departure& departure, std::uint32_t index, int error,
                  Instant now) {
    // The first departures of a turn are the resumed ones, in the same order.
    const bool is_resumed = index < shard.resumed.size();
    const PendingDeparture pending{departure, error, is_resumed ? shard.resumed[index].since : now};
    // A request whose session has ended in this turn must not be sent from a group that is closing
    // or has been reassigned. A reply must not be sent from a listener that is closing.
    const bool is_orphan =
        departure.leg == Leg::request
            ? shard.groups[shard.group_of_slot[departure.slot]].state != GroupState::in_use
            : shard.listeners[index_of(departure.slot)].closed;
    if (shard.pending.full() || is_orphan) {
        give_up(shard, pending);
        return;
    }
    if (!is_resumed) shard.counters_of(departure.proxy).sends_deferred.add(departure.datagrams());
    shard.pending.push(pending);
}

void give_up_pending_of(Shard& shard, Slot slot) {
    std::size_t kept = 0;
    for (const PendingDeparture& pending : shard.pending) {
        if (pending.departure.slot == slot)
            give_up(shard, pending);
        else
            shard.pending[kept++] = pending;
    }
    shard.pending.truncate(kept);
}

void give_up_pending(Shard& shard) {
    for (const PendingDeparture& pending : shard.pending) give_up(shard, pending);
    shard.pending.clear();
}

}  // namespace udpproxy
