// How the io_uring engine receives, in the order of a wait: buffers go to the kernel, receives are
// armed, sockets close, and completions are reaped.
//
// A multishot receive ends by itself more often than one would think: at an empty datagram, an
// error, a lack of buffers, a full completion queue (io_uring/net.c, io_recv_finish and
// io_recvmsg). So the engine looks at every completion without IORING_CQE_F_MORE, and arms the
// receive again unless the socket closes. After ENOBUFS it does so only once buffers are available:
// a leg without buffers would spin.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "uring_state.hpp"

namespace udpproxy {

namespace {

__kernel_timespec timespec_of(Duration duration) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
    return {seconds.count(), (duration - seconds).count()};
}

}  // namespace

const Completions& UringBackend::wait(std::optional<Instant> deadline) {
    State& state = this->state();
    state.completions.clear();
    state.provide_buffers(state.requests);
    state.provide_buffers(state.replies);
    state.arm_queued();
    state.close_queued();
    for (const Slot slot : state.to_cancel) {
        // Once the receive has ended, the slot may have another holder by now.
        if (state.slots[slot].armed && state.slots[slot].ending) state.cancel(slot, true);
    }
    state.to_cancel.clear();
    if (!state.wake_armed) {
        io_uring_sqe& entry = state.next_entry();
        io_uring_prep_read(&entry, state.wake_descriptor, &state.wake_value,
                           sizeof state.wake_value, 0);
        entry.user_data = tag(Completion::wake, 0, 0);
        state.wake_armed = true;
    }

    for (const Completed& completion : state.early) state.take(completion);
    // Completions that have already come must be reported before the engine waits.
    const bool must_return = !state.completions.closed.empty() || !state.early.empty() ||
                             !state.to_close.empty() || !state.to_arm.empty();
    state.early.clear();
    if (must_return)
        state.submit_and_wait(1, Duration::zero());
    else
        state.sleep_until(deadline);
    state.reap();
    return state.completions;
}

void UringBackend::State::sleep_until(std::optional<Instant> deadline) {
    if (busy_poll > Duration::zero() && find_by_looking(deadline)) return;
    std::optional<Duration> limit;
    if (deadline) limit = std::max(Duration::zero(), *deadline - monotonic_now());
    submit_and_wait(1, limit);
    const unsigned found = io_uring_cq_ready(&ring);
    if (batch_wait == Duration::zero() || limit == Duration::zero() || found == 0 ||
        found >= full_batch)
        return;
    submit_and_wait(full_batch, batch_wait);
}

/// Completions are deferred, so each look is a system call that makes the kernel deliver them.
bool UringBackend::State::find_by_looking(std::optional<Instant> deadline) {
    const Instant began = monotonic_now();
    Instant end = began + busy_poll;
    if (deadline) end = std::min(end, *deadline);
    if (end <= began) return false;
    io_uring_submit_and_get_events(&ring);
    while (io_uring_cq_ready(&ring) == 0) {
        if (monotonic_now() >= end) return false;
        io_uring_get_events(&ring);
    }
    return true;
}

/// The wait ends with a timeout, with a signal, or with a kernel that is short of memory or keeps
/// completions back. Whatever has completed is reaped; the remainder comes next turn.
void UringBackend::State::submit_and_wait(unsigned wanted, std::optional<Duration> limit) {
    int outcome = 0;
    if (limit == Duration::zero()) {
        // A wait with a time limit of zero is avoided: the kernel would set a timer for it and
        // sleep until the timer rings, 15 us on a virtual machine.
        outcome = io_uring_submit_and_get_events(&ring);
    } else {
        __kernel_timespec time = timespec_of(limit.value_or(Duration::zero()));
        io_uring_cqe* first = nullptr;
        outcome = io_uring_submit_and_wait_timeout(&ring, &first, wanted, limit ? &time : nullptr,
                                                   nullptr);
    }
    UDPPROXY_ASSERT(outcome >= 0 || outcome == -ETIME || outcome == -EINTR || outcome == -EAGAIN ||
                    outcome == -EBUSY || outcome == -ENOMEM);
}

void UringBackend::discard(Buffer buffer) { state().release_buffer(buffer); }

io_uring_sqe& UringBackend::State::next_entry() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    for (int attempt = 0; entry == nullptr; ++attempt) {
        UDPPROXY_ASSERT(attempt < 1000);  // a full queue empties by submitting
        io_uring_submit(&ring);
        entry = io_uring_get_sqe(&ring);
    }
    return *entry;
}

void UringBackend::State::provide_buffers(BufferGroup& group) {
    review_provided(group);
    const int mask = io_uring_buf_ring_mask(group.pool.count());
    int given = 0;
    while (group.pool.available() > 0 &&
           group.in_kernel + static_cast<std::size_t>(given) < group.provided_max) {
        const std::uint32_t index = group.pool.acquire();
        io_uring_buf_ring_add(group.ring, group.pool.at(index),
                              static_cast<unsigned>(payload_offset + payload_bytes_max),
                              static_cast<unsigned short>(index), mask, given++);
    }
    if (given > 0) io_uring_buf_ring_advance(group.ring, given);
    group.in_kernel += static_cast<std::size_t>(given);
    group.provided = group.in_kernel;
    UDPPROXY_ASSERT(group.in_kernel + group.in_flight + group.pool.available() ==
                    group.pool.count());
    feed_starved(group);
}

/// Provides fewer buffers from now on if half would have been enough. Buffers already in the ring
/// are released as they are used.
void UringBackend::State::review_provided(BufferGroup& group) {
    group.used_most = std::max(group.used_most, group.provided - group.in_kernel);
    if (++group.waits < waits_per_review) return;
    const std::size_t enough = std::max(buffers_provided_min, 2 * group.used_most);
    group.provided_max = std::min(group.provided_max, enough);
    group.used_most = 0;
    group.waits = 0;
}

void UringBackend::State::feed_starved(BufferGroup& group) {
    // As many receives are armed as there are buffers for them, the longest waiting first; the
    // other receives wait on.
    const std::size_t fed = std::min(group.starved.size(), group.in_kernel);
    if (fed == 0) return;
    for (std::size_t i = 0; i < fed; ++i) {
        const Slot slot = group.starved[i];
        SlotEntry& entry = slots[slot];
        entry.queued = false;
        queue_arming(slot);
    }
    const std::size_t left = group.starved.size() - fed;
    for (std::size_t i = 0; i < left; ++i) group.starved[i] = group.starved[fed + i];
    group.starved.truncate(left);
}

/// Takes the slot off the list that it waits on.
void UringBackend::State::forget_queued(Slot slot) {
    for (Batch<Slot>* list : {&group_of(slots[slot].leg).starved, &to_arm}) {
        const auto kept = std::remove(list->begin(), list->end(), slot);
        list->truncate(static_cast<std::size_t>(kept - list->begin()));
    }
}

void UringBackend::State::queue_arming(Slot slot) {
    SlotEntry& entry = slots[slot];
    UDPPROXY_ASSERT(!entry.armed && !entry.queued);
    entry.queued = true;
    to_arm.push(slot);
}

/// The oldest first. A worker that goes on with thousands of groups serves while it arms them.
void UringBackend::State::arm_queued() {
    const std::size_t count = std::min(arms_per_wait, to_arm.size());
    for (std::size_t i = 0; i < count; ++i) arm(to_arm[i]);
    std::copy(to_arm.begin() + count, to_arm.end(), to_arm.begin());
    to_arm.truncate(to_arm.size() - count);
}

void UringBackend::State::arm(Slot slot) {
    SlotEntry& entry = slots[slot];
    entry.queued = false;
    if (entry.closing) return;
    io_uring_sqe& submission = next_entry();
    // MSG_TRUNC: the kernel tells the true length of a datagram or train that does not fit.
    io_uring_prep_recvmsg_multishot(&submission, static_cast<int>(index_of(slot)),
                                    &receive_template, MSG_TRUNC);
    submission.flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    submission.buf_group = entry.leg == Leg::request ? 0 : 1;
    submission.user_data = tag(Completion::receive, entry.generation, index_of(slot));
    entry.armed = true;
}

void UringBackend::State::close_queued() {
    for (std::size_t count = 0; count < closes_per_wait && !to_close.empty(); ++count) {
        const Slot slot = to_close[to_close.size() - 1];
        to_close.truncate(to_close.size() - 1);
        if (!slots[slot].armed) {
            finish_close(slot);
            continue;
        }
        slots[slot].ending = true;
        cancel(slot, false);
    }
}

void UringBackend::State::cancel(Slot slot, bool by_descriptor) {
    const SlotEntry& entry = slots[slot];
    io_uring_sqe& submission = next_entry();
    if (by_descriptor) {
        // The receive is the only request on the descriptor. With IORING_ASYNC_CANCEL_ALL the
        // result would be a count, and finding nothing would be no error (io_uring/cancel.c,
        // __io_async_cancel).
        io_uring_prep_cancel_fd(&submission, static_cast<int>(index_of(slot)),
                                IORING_ASYNC_CANCEL_FD_FIXED);
    } else {
        io_uring_prep_cancel64(&submission,
                               tag(Completion::receive, entry.generation, index_of(slot)), 0);
    }
    submission.user_data = tag(Completion::cancel, entry.generation, index_of(slot));
}

void UringBackend::State::reap() {
    unsigned head = 0;
    unsigned taken = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring, head, completion) {
        ++taken;
        take(Completed{completion->user_data, completion->res, completion->flags});
    }
    io_uring_cq_advance(&ring, taken);
}

void UringBackend::State::take(const Completed& completion) {
    const auto kind = static_cast<Completion>(completion.user_data >> 56);
    const auto generation = static_cast<std::uint32_t>(completion.user_data >> 32) & 0xffffffU;
    const Slot slot{static_cast<std::uint32_t>(completion.user_data)};
    switch (kind) {
        case Completion::receive:
            take_receive(completion, generation, slot);
            break;
        case Completion::cancel:
            take_cancel(completion, generation, slot);
            break;
        case Completion::wake:
            wake_armed = false;
            break;
        case Completion::send:
            // Sends complete at their submission, and their completions are collected there.
            UDPPROXY_ASSERT(kind != Completion::send);
    }
}

void UringBackend::State::take_receive(const Completed& completion, std::uint32_t generation,
                                       Slot slot) {
    SlotEntry& entry = slots[slot];
    if (entry.generation != generation) {
        // The completion belongs to an earlier holder of the slot: its buffer is released and
        // nothing else changes. The buffer's leg is known, because a slot's leg is for ever.
        ++counters.stale_completions;
        if ((completion.flags & IORING_CQE_F_BUFFER) != 0) {
            BufferGroup& group = group_of(slots.leg_of(slot));
            --group.in_kernel;
            group.pool.release(completion.flags >> IORING_CQE_BUFFER_SHIFT);
        }
        return;
    }
    UDPPROXY_ASSERT(entry.armed);
    if ((completion.flags & IORING_CQE_F_BUFFER) != 0) take_arrival(completion, entry, slot);
    const bool failed_receive =
        completion.res < 0 && completion.res != -ENOBUFS && completion.res != -ECANCELED;
    if (failed_receive && !completions.faults.full())
        completions.faults.push(Fault{FaultKind::receive, -completion.res, slot, 0});
    if ((completion.flags & IORING_CQE_F_MORE) != 0) return;
    entry.armed = false;
    if (entry.closing) {
        if (entry.ending) finish_close(slot);  // else close_queued() will close the slot
        return;
    }
    ++counters.receives_rearmed;
    if (completion.res == -ENOBUFS) {
        entry.queued = true;
        BufferGroup& group = group_of(entry.leg);
        // Either no buffer is available, or the kernel had too few; then it gets twice as many.
        if (group.pool.available() == 0) ++counters.buffers_exhausted;
        group.provided_max = std::min<std::size_t>(
            group.pool.count(), std::max(group.provided_max, 2 * group.provided));
        group.starved.push(slot);
    } else {
        queue_arming(slot);
    }
}

void UringBackend::State::take_arrival(const Completed& completion, SlotEntry& entry, Slot slot) {
    const std::uint32_t index = completion.flags >> IORING_CQE_BUFFER_SHIFT;
    BufferGroup& group = group_of(entry.leg);
    --group.in_kernel;
    if (completion.res < 0) {
        group.pool.release(index);
        return;
    }
    ++group.in_flight;
    const std::byte* memory = group.pool.at(index);
    const auto* header = reinterpret_cast<const io_uring_recvmsg_out*>(memory);
    const ControlIn control = read_control(memory + control_offset, header->controllen);
    Arrival& arrival =
        (entry.leg == Leg::request ? completions.requests : completions.replies).append();
    arrival.slot = slot;
    arrival.buffer = buffer_of(entry.leg, index);
    arrival.payload = memory + payload_offset;
    arrival.bytes = header->payloadlen;
    arrival.segment_bytes = control.segment_bytes;
    arrival.from = read_socket_name(*reinterpret_cast<const SocketName*>(memory + name_offset));
    arrival.local = control.local;
    arrival.interface_index = control.interface_index;
    arrival.is_copied = control.is_copied;
    arrival.tos = control.tos;
    arrival.truncated = (header->flags & MSG_TRUNC) != 0;
    if (control.segment_bytes != 0) ++counters.trains_received;
}

void UringBackend::State::take_cancel(const Completed& completion, std::uint32_t generation,
                                      Slot slot) {
    const SlotEntry& entry = slots[slot];
    if (entry.generation != generation || !entry.armed) return;
    // ENOENT or EALREADY: the receive was not found, or was running at that moment, and is
    // cancelled by descriptor next turn. Otherwise it was found, and its own last completion
    // follows.
    if (completion.res == -ENOENT || completion.res == -EALREADY) to_cancel.push(slot);
}

void UringBackend::State::finish_close(Slot slot) {
    SlotEntry& entry = slots[slot];
    UDPPROXY_ASSERT(entry.closing && !entry.armed);
    if (entry.queued) forget_queued(slot);
    forget_socket(slot);
    ::close(entry.descriptor);
    slots.vacate(slot);
    completions.closed.push(slot);
}

void UringBackend::State::release_buffer(Buffer buffer) {
    BufferGroup& group = group_of(leg_of(buffer));
    --group.in_flight;
    group.pool.release(index_of(buffer));
}

}  // namespace udpproxy
