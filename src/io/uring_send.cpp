// Sending with io_uring. A slot's few sends are SQEs with MSG_DONTWAIT and IOSQE_CQE_SKIP_SUCCESS: they run inside the submission, a success leaves no
// completion, and when the submission returns every buffer is ours again. At that moment the completion queue holds the failures of this
// submission: wait has emptied it, and with DEFER_TASKRUN receives complete in wait only. The one exception is a queue that had overflowed:
// the kernel refills it at every call, and what turns up then is kept for the next wait. What failed, and a slot's many sends, are the Sender's.
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "uring_state.hpp"

namespace udpproxy {

std::span<const Fault> UringBackend::send(std::span<const Departure> departures) {
    State& state = *state_;
    Sender& sender = state.sender;
    sender.begin(departures, state.turn_at);
    std::array<Sending, entries_per_chain> head;
    for (const Slot slot : sender.slots()) {
        ChainWalk walk = sender.take(slot);
        std::size_t count = 0;
        while (count < head.size() && !walk.is_over()) head[count++] = sender.cut(slot, walk);
        const std::span<const Sending> sendings = std::span{head}.first(count);
        // Of a departure in parts, what has no room must be its end: only sends that stop at the first failure can promise that.
        const bool has_parts =
            std::any_of(sendings.begin(), sendings.end(), [&](const Sending& sending) { return sender.is_part(sending); });
        if (!walk.is_over() || has_parts) {
            sender.send_chain(slot, sendings, walk);
            continue;
        }
        for (const Sending& sending : sendings) state.queue_send(departures, sending);
    }
    state.submit_sends(departures);
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!sender.keeps(i)) state.bring_home(departures[i].buffer);
    }
    return sender.faults();
}

void UringBackend::State::queue_send(std::span<const Departure> departures, const Sending& sending) {
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
        io_uring_prep_send(&submission, slot, departure.payload + sending.offset, sending.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    submission.flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
    submission.user_data = tag(Completion::send, 0, static_cast<std::uint32_t>(queued.size()));
    queued.push(sending);
}

void UringBackend::State::submit_sends(std::span<const Departure> departures) {
    for (int attempt = 0; io_uring_sq_ready(&ring) > 0; ++attempt) {
        UDPPROXY_ASSERT(attempt < 1000);  // the kernel takes every entry, if not at the first call
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
