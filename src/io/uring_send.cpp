// How the io_uring engine sends. A slot's only send is an SQE with MSG_DONTWAIT and
// IOSQE_CQE_SKIP_SUCCESS. The send runs inside the submission, and a success leaves no completion.
// So every buffer is the engine's again when the submission returns. A slot that has several sends
// gets one sendmmsg from the Sender. A sendmmsg costs less per send, and stops where one send
// fails, so that no send overtakes another's second attempt.
//
// When a submission returns, the completion queue holds only the failures of its sends: wait has
// emptied the queue, and with DEFER_TASKRUN receives complete only in wait. The one exception is a
// queue that had overflowed. The kernel refills such a queue at every call, and the engine keeps
// the completions that turn up then for the next wait.
#include <sys/socket.h>

#include "uring_state.hpp"

namespace udpproxy {

std::span<const Fault> UringBackend::send(std::span<const Departure> departures, Instant now) {
    State& state = this->state();
    Sender& sender = state.sender;
    sender.begin(departures, now);
    for (const Slot slot : sender.slots()) {
        ChainWalk walk = sender.take(slot);
        const Sending first = sender.cut(slot, walk);
        if (walk.is_over() && !sender.is_part(first))
            state.queue_send(departures, first);
        else
            sender.send_chain(slot, {&first, 1}, walk);
    }
    state.submit_sends(departures);
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!sender.keeps(i)) state.release_buffer(departures[i].buffer);
    }
    return sender.faults();
}

void UringBackend::State::queue_send(std::span<const Departure> departures,
                                     const Sending& sending) {
    if (queued.full() || parts.room() < train_segments_max) submit_sends(departures);
    const Departure& departure = departures[sending.first];
    const int slot = static_cast<int>(index_of(departure.slot));
    io_uring_sqe& submission = next_entry();
    if (needs_message(departure, sending)) {
        const std::size_t taken = sender.write_parts(sending, parts.end());
        const std::span<iovec> payload{parts.end(), taken};
        parts.extend(taken);
        Outgoing& message = outgoing.append();
        write_outgoing(departure, sending, payload, slots[departure.slot].family, message);
        io_uring_prep_sendmsg(&submission, slot, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        io_uring_prep_send(&submission, slot, departure.payload + sending.offset, sending.bytes,
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    submission.flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    submission.user_data = tag(Completion::send, 0, static_cast<std::uint32_t>(queued.size()));
    queued.push(sending);
}

void UringBackend::State::submit_sends(std::span<const Departure> departures) {
    for (int attempt = 0; io_uring_sq_ready(&ring) > 0; ++attempt) {
        UDPPROXY_ASSERT(attempt < 1000);  // the kernel takes every entry within a few calls
        io_uring_submit(&ring);
    }
    collect_completions();
    while (io_uring_cq_has_overflow(&ring)) {
        io_uring_get_events(&ring);
        collect_completions();
    }
    for (std::size_t i = 0; i < failed.size(); ++i) {
        const Sending& sending = queued[failed[i]];
        sender.settle(departures[sending.first].slot, sending, failed_errors[i]);
    }
    failed.clear();
    failed_errors.clear();
    queued.clear();
    outgoing.clear();
    parts.clear();
}

void UringBackend::State::collect_completions() {
    unsigned head = 0;
    unsigned taken = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring, head, completion) {
        ++taken;
        if (static_cast<Completion>(completion->user_data >> 56) != Completion::send) {
            early.push(Completed{completion->user_data, completion->res, completion->flags});
        } else if (completion->res < 0) {
            failed.push(static_cast<std::uint32_t>(completion->user_data));
            failed_errors.push(-completion->res);
        }
    }
    io_uring_cq_advance(&ring, taken);
}

}  // namespace udpproxy
