// Sending with io_uring. Every send is an SQE with MSG_DONTWAIT and IOSQE_CQE_SKIP_SUCCESS: it runs inside the submission, a success leaves no
// completion, and when the submission returns every buffer is ours again. At that moment the completion queue holds the failures of this
// submission: wait has emptied it, and with DEFER_TASKRUN receives complete in wait only. The one exception is a queue that had overflowed:
// the kernel refills it at every call, and what turns up then is kept for the next wait.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "uring_state.hpp"

namespace udpproxy {

std::span<const Fault> UringBackend::send(std::span<const Departure> departures) {
    State& state = *state_;
    state.send_faults.clear();
    for (std::size_t first = 0; first < departures.size(); first += sends_per_submission) {
        const auto part = departures.subspan(first, std::min(sends_per_submission, departures.size() - first));
        state.submit_sends(part, first);
        state.collect_failures(departures);
    }
    for (std::size_t i = 0; i < departures.size(); ++i) {
        if (!state.without_room.contains(i)) state.bring_home(departures[i].buffer);
    }
    state.without_room.clear();
    return {state.send_faults.begin(), state.send_faults.size()};
}

void UringBackend::State::submit_sends(std::span<const Departure> departures, std::size_t first) {
    outgoing.clear();
    for (std::size_t i = 0; i < departures.size(); ++i) {
        const Departure& departure = departures[i];
        const SlotEntry& entry = slots[departure.slot];
        io_uring_sqe& submission = next_entry();
        const int slot = static_cast<int>(index_of(departure.slot));
        if (needs_message(departure)) {
            Outgoing& message = outgoing.append();
            write_outgoing(departure, entry.family, message);
            io_uring_prep_sendmsg(&submission, slot, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            io_uring_prep_send(&submission, slot, departure.payload, departure.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        submission.flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
        submission.user_data = tag(Completion::send, 0, static_cast<std::uint32_t>(first + i));
    }
    for (int attempt = 0; io_uring_sq_ready(&ring) > 0; ++attempt) {
        UDPPROXY_ASSERT(attempt < 1000);  // the kernel takes every entry, if not at the first call
        io_uring_submit(&ring);
    }
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

void UringBackend::State::collect_failures(std::span<const Departure> departures) {
    failed.clear();
    failed_errors.clear();
    collect_completions();
    while (io_uring_cq_has_overflow(&ring)) {
        io_uring_get_events(&ring);
        collect_completions();
    }

    for (std::size_t i = 0; i < failed.size(); ++i) {
        const Departure& departure = departures[failed[i]];
        const SlotEntry& entry = slots[departure.slot];
        int error = failed_errors[i];
        bool retried = false;
        if (departure.to.port == 0 && may_be_pending_error(error)) {
            retried = true;
            error = send_again(entry.descriptor, departure, entry.family, outgoing.begin()[0]);
        }
        if (means_no_room(error)) {
            without_room.insert(failed[i]);
            send_faults.push(Fault{FaultKind::send_no_room, error, departure.slot, failed[i]});
        } else if (retried || error != 0) {
            send_faults.push(Fault{error == 0 ? FaultKind::send_retry : FaultKind::send, error, departure.slot, failed[i]});
        }
    }
}

}  // namespace udpproxy
