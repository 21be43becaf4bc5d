// The three calls that submit, in front of liburing's.
#include "contract/missed_cancels.hpp"

#include <dlfcn.h>
#include <liburing.h>

namespace udpproxy::contract {

namespace {

thread_local MissedCancels* armed = nullptr;

/// Points cancels that have not been submitted yet at a user_data that nobody uses. Their other
/// flags stay.
void misdirect(io_uring* ring) {
    if (armed == nullptr) return;
    for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail && armed->left > 0; ++at) {
        io_uring_sqe& entry = ring->sq.sqes[at & *ring->sq.kring_mask];
        if (entry.opcode != IORING_OP_ASYNC_CANCEL) continue;
        --armed->left;
        entry.fd = -1;
        entry.addr = ~std::uint64_t{0};
        entry.cancel_flags &= ~(IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_FD_FIXED);
    }
}

template <class Call>
Call next_of(const char* name) {
    return reinterpret_cast<Call>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

MissedCancels::MissedCancels(int of_next) : left(of_next) { armed = this; }
MissedCancels::~MissedCancels() { armed = nullptr; }

}  // namespace udpproxy::contract

extern "C" int io_uring_submit(io_uring* ring) {
    udpproxy::contract::misdirect(ring);
    static const auto submit =
        udpproxy::contract::next_of<decltype(&io_uring_submit)>("io_uring_submit");
    return submit(ring);
}

extern "C" int io_uring_submit_and_get_events(io_uring* ring) {
    udpproxy::contract::misdirect(ring);
    static const auto submit =
        udpproxy::contract::next_of<decltype(&io_uring_submit_and_get_events)>(
            "io_uring_submit_and_get_events");
    return submit(ring);
}

extern "C" int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe** completion,
                                                unsigned wanted, __kernel_timespec* limit,
                                                sigset_t* signals) {
    udpproxy::contract::misdirect(ring);
    static const auto submit =
        udpproxy::contract::next_of<decltype(&io_uring_submit_and_wait_timeout)>(
            "io_uring_submit_and_wait_timeout");
    return submit(ring, completion, wanted, limit, signals);
}
