// Sending with the epoll engine: everything by the Sender, socket by socket.
#include "epoll_state.hpp"

namespace udpproxy {

std::span<const Fault> EpollBackend::send(std::span<const Departure> departures) {
    State& state = *state_;
    state.sender.begin(departures, state.turn_at);
    for (const Slot slot : state.sender.slots()) {
        ChainWalk walk = state.sender.take(slot);
        state.sender.send_chain(slot, {}, walk);
    }
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!state.sender.keeps(i)) discard(departures[i].buffer);
    }
    return state.sender.faults();
}

}  // namespace udpproxy
