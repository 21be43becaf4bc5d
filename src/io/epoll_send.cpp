// Sending with sendmmsg: one call per socket and batch, each socket's departures in their order.
#include <cerrno>

#include "epoll_state.hpp"

namespace udpproxy {

std::span<const Fault> EpollBackend::send(std::span<const Departure> departures) {
    State& state = *state_;
    state.send_faults.clear();
    state.chain_by_slot(departures);
    for (const Slot slot : state.chained_slots) state.send_chain(departures, slot);
    state.chained_slots.clear();
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!state.without_room.contains(i)) discard(departures[i].buffer);
    }
    state.without_room.clear();
    return {state.send_faults.begin(), state.send_faults.size()};
}

void EpollBackend::State::chain_by_slot(std::span<const Departure> departures) {
    for (std::uint32_t i = 0; i < departures.size(); ++i) {
        const Slot slot = departures[i].slot;
        Chain& chain = chains[index_of(slot)];
        next_in_chain[i] = no_departure;
        if (chain.first == no_departure) {
            chain.first = i;
            chained_slots.push(slot);
        } else {
            next_in_chain[chain.last] = i;
        }
        chain.last = i;
    }
}

void EpollBackend::State::send_chain(std::span<const Departure> departures, Slot slot) {
    const SlotEntry& entry = slots[slot];
    Chain& chain = chains[index_of(slot)];
    std::uint32_t at = chain.first;
    chain = Chain{};
    while (at != no_departure) {
        std::size_t count = 0;
        for (; at != no_departure && count < sends_per_call; at = next_in_chain[at]) {
            write_outgoing(departures[at], entry.family, outgoing[count]);
            send_messages[count].msg_hdr = outgoing[count].header;
            sent_departures[count++] = at;
        }
        if (send_part(departures, entry, slot, count)) continue;
        // The socket's own buffer is full: what follows has no room either, and must not overtake.
        for (; at != no_departure; at = next_in_chain[at]) keep(slot, at, EAGAIN);
    }
}

void EpollBackend::State::keep(Slot slot, std::uint32_t departure, int error) {
    without_room.insert(departure);
    send_faults.push(Fault{FaultKind::send_no_room, error, slot, departure});
}

bool EpollBackend::State::send_part(std::span<const Departure> departures, const SlotEntry& entry, Slot slot, std::size_t count) {
    // sendmmsg stops at the first failure; when something went out before it, the error itself is lost and has been consumed
    // (net/socket.c, __sys_sendmmsg), so the next call is that datagram's second attempt.
    bool second_attempt = false;
    for (std::size_t at = 0; at < count;) {
        const int sent = ::sendmmsg(entry.descriptor, &send_messages[at], static_cast<unsigned>(count - at), MSG_DONTWAIT | MSG_NOSIGNAL);
        const std::uint32_t departure = sent_departures[at];
        if (sent > 0) {
            if (second_attempt && departures[departure].to.port == 0) send_faults.push(Fault{FaultKind::send_retry, 0, slot, departure});
            at += static_cast<std::size_t>(sent);
            second_attempt = true;
        } else if (!second_attempt && departures[departure].to.port == 0 && may_be_pending_error(errno)) {
            second_attempt = true;
        } else if (errno == EAGAIN) {
            for (; at < count; ++at) keep(slot, sent_departures[at], EAGAIN);
            return false;
        } else if (means_no_room(errno)) {
            keep(slot, departure, errno);
            ++at;
            second_attempt = false;
        } else {
            send_faults.push(Fault{FaultKind::send, errno, slot, departure});
            ++at;
            second_attempt = false;
        }
    }
    return true;
}

}  // namespace udpproxy
