// Counts at the end of a turn what was sent, and what was not and why. Asserts that every datagram
// is accounted for.
#include "steps.hpp"

namespace udpproxy {

void account_receive_faults(Shard& shard, std::span<const Fault> faults) {
    for (const Fault& fault : faults) {
        const std::uint32_t group = shard.group_of_slot[fault.slot];
        // An error on a listener belongs to no single client, so the listener's proxy counts it.
        const std::uint16_t proxy = group != no_index
                                        ? shard.groups[group].proxy
                                        : shard.setup.listeners[index_of(fault.slot)].proxy;
        shard.counters_of(proxy).receive_errors.add(1);
    }
}

void account_sends(Shard& shard, std::span<const Fault> faults, Instant now) {
    for (const Fault& fault : faults) {
        Departure& departure = shard.departures[fault.departure];
        ProxyCounters& counters = shard.counters_of(departure.proxy);
        if (fault.kind == FaultKind::send_retry) {
            counters.send_retries.add(fault.datagrams);
            continue;
        }
        if (fault.kind == FaultKind::send_no_space) {
            Departure rest = departure;
            rest.payload += fault.offset;
            rest.bytes = fault.bytes;
            keep_pending(shard, rest, fault.departure, fault.error, now);
        } else {
            note_lost_source(shard, departure, fault.error);
            counters.drop(drop_of_send_error(fault.error), fault.datagrams);
            shard.drops_total += fault.datagrams;
            if (shard.trace.is_on())
                trace_unsent(shard, departure, fault.offset, fault.bytes,
                             drop_of_send_error(fault.error));
        }
        // Only whole segments fail, so the bytes that were sent give the number of datagrams sent.
        if (fault.datagrams == departure.datagrams())
            departure.slot = no_slot;
        else
            departure.bytes -= fault.bytes;
    }
    for (const Departure& departure : shard.departures) {
        if (departure.slot == no_slot) continue;
        ProxyCounters& counters = shard.counters_of(departure.proxy);
        const std::uint32_t datagrams = departure.datagrams();
        shard.departures_total += datagrams;
        if (departure.leg == Leg::request) {
            counters.departures_request.add(datagrams);
            counters.bytes_request.add(departure.bytes);
        } else {
            counters.departures_reply.add(datagrams);
            counters.bytes_reply.add(departure.bytes);
        }
    }
    shard.departures.clear();
    shard.resumed.clear();
    std::uint64_t datagrams_pending = 0;
    for (const PendingDeparture& pending : shard.pending)
        datagrams_pending += pending.departure.datagrams();
    UDPPROXY_ASSERT(shard.arrivals_total == shard.departures_total + shard.drops_total +
                                                shard.datagrams_waiting + datagrams_pending);
}

void drop_while_stopping(Shard& shard, std::span<const Arrival> requests,
                         std::span<const Arrival> replies) {
    for (const Arrival& arrival : requests) {
        const std::uint16_t proxy = shard.setup.listeners[index_of(arrival.slot)].proxy;
        shard.arrivals_total += arrival.datagrams();
        shard.counters_of(proxy).arrivals_request.add(arrival.datagrams());
        shard.drop(arrival, proxy, Drop::stopping);
    }
    for (const Arrival& arrival : replies) {
        const std::uint16_t proxy = shard.groups[shard.group_of_slot[arrival.slot]].proxy;
        shard.arrivals_total += arrival.datagrams();
        shard.counters_of(proxy).arrivals_reply.add(arrival.datagrams());
        shard.drop(arrival, proxy, Drop::stopping);
    }
}

}  // namespace udpproxy
