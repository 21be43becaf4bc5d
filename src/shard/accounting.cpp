// Accounting at the end of a turn: what left, what did not and why, and the law that nothing is unaccounted for.
#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

void account_receive_faults(Shard& shard, std::span<const Fault> faults) {
    for (const Fault& fault : faults) {
        const std::uint32_t group = shard.group_of_slot[index_of(fault.slot)];
        // An error on a listener is nobody's in particular; it is counted with the proxy it belongs to.
        const std::uint16_t proxy = group != no_index ? shard.groups[group].proxy : shard.setup.listeners[index_of(fault.slot)].proxy;
        shard.counters_of(proxy).receive_errors.add(1);
    }
}

void account_sends(Shard& shard, std::span<const Fault> faults, Instant now) {
    for (const Fault& fault : faults) {
        Departure& departure = shard.departures[fault.departure];
        ProxyCounters& counters = shard.counters_of(departure.proxy);
        if (fault.kind == FaultKind::send_retry) {
            counters.send_retries.add(1);
            continue;
        }
        if (fault.kind == FaultKind::send_no_room) {
            keep_pending(shard, departure, fault.departure, fault.error, now);
            departure.slot = no_slot;
            continue;
        }
        note_lost_source(shard, departure, fault.error);
        counters.drop(drop_of_send_error(fault.error));
        if (shard.trace.is_on()) trace_unsent(shard, departure, drop_of_send_error(fault.error));
        ++shard.drops_total;
        departure.slot = no_slot;  // did not leave
    }
    for (const Departure& departure : shard.departures) {
        if (departure.slot == no_slot) continue;
        ProxyCounters& counters = shard.counters_of(departure.proxy);
        ++shard.departures_total;
        if (departure.leg == Leg::request) {
            counters.departures_request.add(1);
            counters.bytes_request.add(departure.bytes);
        } else {
            counters.departures_reply.add(1);
            counters.bytes_reply.add(departure.bytes);
        }
    }
    shard.departures.clear();
    shard.resumed.clear();
    UDPPROXY_ASSERT(shard.arrivals_total == shard.departures_total + shard.drops_total + shard.strangers.size() + shard.pending.size());
}

void drop_while_stopping(Shard& shard, std::span<const Arrival> requests, std::span<const Arrival> replies) {
    shard.arrivals_total += requests.size() + replies.size();
    for (const Arrival& arrival : requests) {
        const std::uint16_t proxy = shard.setup.listeners[index_of(arrival.slot)].proxy;
        shard.counters_of(proxy).arrivals_request.add(1);
        shard.drop(arrival, proxy, Drop::stopping);
    }
    for (const Arrival& arrival : replies) {
        const std::uint16_t proxy = shard.groups[shard.group_of_slot[index_of(arrival.slot)]].proxy;
        shard.counters_of(proxy).arrivals_reply.add(1);
        shard.drop(arrival, proxy, Drop::stopping);
    }
}

}  // namespace udpproxy
