// In which order the io_uring engine is set up and taken down: ring, restrictions, registered
// files, buffer rings.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "uring_state.hpp"

namespace udpproxy {

namespace {

/// liburing 2.3 declares io_uring_register_restrictions and io_uring_enable_rings, but its shared
/// library does not export them.
int register_with_ring(const io_uring& ring, unsigned operation, void* argument, unsigned count) {
    return ::syscall(SYS_io_uring_register, ring.ring_fd, operation, argument, count) < 0 ? errno
                                                                                          : 0;
}

/// The kernel counts rings as locked memory of the user, of all its processes together, unless the
/// process has CAP_IPC_LOCK (io_uring/memmap.c). What an ended process held is given back some
/// moments later.
Error refusal(const char* call, int error) {
    rlimit limit{};
    if (error != ENOMEM || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY)
        return system_error(call, error);
    return Error{std::string{call} + ": " + error_text(error) + " (RLIMIT_MEMLOCK allows " +
                     std::to_string(limit.rlim_cur >> 10) +
                     " KiB of locked memory to all rings of this user; LimitMEMLOCK= or ulimit "
                     "-l raises it)",
                 error};
}

constexpr std::size_t registered_per_call_max = 64;  // as many as a group can have, and more

constexpr unsigned short group_id_of(Leg leg) { return leg == Leg::request ? 0 : 1; }

/// Allows the ring the operations of this engine and nothing else: io_uring operations bypass
/// seccomp filters, so the ring must restrict itself. The restrictions must come before any other
/// registration, on a ring that is not enabled yet (io_uring_register(2),
/// IORING_REGISTER_RESTRICTIONS).
int restrict_ring(const io_uring& ring) {
    std::array<io_uring_restriction, 8> rules{};
    std::size_t count = 0;
    for (const std::uint8_t operation : {IORING_OP_RECVMSG, IORING_OP_SEND, IORING_OP_SENDMSG,
                                         IORING_OP_ASYNC_CANCEL, IORING_OP_READ}) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count++].sqe_op = operation;
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    for (const std::uint8_t operation :
         {IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_ENABLE_RINGS}) {
        rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[count++].register_op = operation;
    }
    return register_with_ring(ring, IORING_REGISTER_RESTRICTIONS, rules.data(),
                              static_cast<unsigned>(count));
}

/// Registers a buffer ring in memory that the engine allocates itself: IOU_PBUF_RING_MMAP had a use
/// after free (CVE-2024-0582).
Result<io_uring_buf_ring*> register_buffer_ring(io_uring& ring, std::uint32_t entries,
                                                unsigned short group_id) {
    void* memory = ::mmap(nullptr, entries * sizeof(io_uring_buf), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return system_error("mmap of a buffer ring", errno);
    auto* buffers = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(buffers);
    registration.ring_entries = entries;
    registration.bgid = group_id;
    if (const int error = -io_uring_register_buf_ring(&ring, &registration, 0)) {
        ::munmap(memory, entries * sizeof(io_uring_buf));
        return refusal("io_uring_register(PBUF_RING)", error);
    }
    io_uring_buf_ring_init(buffers);
    return buffers;
}

/// Room for an arrival in every buffer of both legs and for a submission of failed sends. The
/// endings of receives are left out: thousands at once are rare, a full queue loses nothing and
/// only ends multishot receives, and the queue is locked memory, which RLIMIT_MEMLOCK bounds.
unsigned completions_wanted(std::uint32_t buffers) {
    return std::min(completion_entries_max, std::bit_ceil(2 * buffers + submission_entries));
}

}  // namespace

UringBackend::State::State(const EngineSetup& setup, BufferPool request_pool, BufferPool reply_pool)
    : EngineState(setup),
      requests(std::move(request_pool), setup.slots_max),
      replies(std::move(reply_pool), setup.slots_max),
      early(2 * (std::size_t{setup.slots_max} + setup.buffers_per_leg) + submission_entries),
      to_arm(setup.slots_max),
      to_cancel(setup.slots_max),
      queued(sends_per_submission),
      outgoing(sends_per_submission),
      parts(sends_per_submission + 16 * std::size_t{train_segments_max}),
      failed(sends_per_submission),
      failed_errors(sends_per_submission) {
    receive_template.msg_namelen = name_bytes;
    receive_template.msg_controllen = control_bytes_max;
}

UringBackend::State::~State() {
    // The kernel cancels every armed receive when the ring goes; the sockets are closed afterwards.
    if (ring_open) io_uring_queue_exit(&ring);
    for (BufferGroup* group : {&requests, &replies}) {
        if (group->ring != nullptr)
            ::munmap(group->ring, group->pool.count() * sizeof(io_uring_buf));
    }
}

Result<UringBackend> UringBackend::open(const EngineSetup& setup) {
    const std::size_t buffer_bytes = payload_offset + setup.payload_bytes_max;
    Result<BufferPool> request_pool = BufferPool::create(setup.buffers_per_leg, buffer_bytes);
    if (!request_pool) return request_pool.error();
    Result<BufferPool> reply_pool = BufferPool::create(setup.buffers_per_leg, buffer_bytes);
    if (!reply_pool) return reply_pool.error();
    const std::uint32_t buffers = setup.buffers_per_leg;
    auto state = std::make_unique<State>(setup, std::move(*request_pool), std::move(*reply_pool));

    io_uring_params parameters{};
    // SINGLE_ISSUER and DEFER_TASKRUN: only this thread makes completions, and only in wait.
    // SUBMIT_ALL: one bad send does not hold up the next. R_DISABLED: the shard's thread enables
    // the ring, and so becomes its issuer.
    parameters.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                       IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                       IORING_SETUP_CLAMP;
    parameters.cq_entries = completions_wanted(buffers);
    if (const int error =
            -io_uring_queue_init_params(submission_entries, &state->ring, &parameters))
        return refusal("io_uring_setup", error);
    state->ring_open = true;
    // Stays open over execve(2): see Predecessor::close_engines().
    ::fcntl(state->ring.ring_fd, F_SETFD, 0);
    if (const int error = restrict_ring(state->ring))
        return system_error("io_uring_register(RESTRICTIONS)", error);
    if (const int error = -io_uring_register_files_sparse(&state->ring, state->slots.slots_max()))
        return system_error(
            "io_uring_register(FILES2) of " + std::to_string(state->slots.slots_max()) + " slots",
            error);
    for (const Leg leg : {Leg::request, Leg::reply}) {
        Result<io_uring_buf_ring*> buffer_ring =
            register_buffer_ring(state->ring, buffers, group_id_of(leg));
        if (!buffer_ring) return buffer_ring.error();
        state->group_of(leg).ring = *buffer_ring;
    }
    state->wake_descriptor = ::eventfd(0, EFD_CLOEXEC);
    if (state->wake_descriptor < 0) return system_error("eventfd", errno);
    return UringBackend{std::move(state)};
}

UringBackend::UringBackend(std::unique_ptr<State> state) : EngineBase(std::move(state)) {}

Result<void> UringBackend::start(std::vector<ListenerSocket> listeners) {
    State& state = this->state();
    if (state.batch_wait > Duration::zero()) make_sleep_exact();
    if (const int error = register_with_ring(state.ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0))
        return system_error("io_uring_register(ENABLE_RINGS)", error);
    // A seccomp filter may allow a ring to be made, and nothing to be done with it.
    if (const int outcome = io_uring_get_events(&state.ring); outcome < 0)
        return system_error("io_uring_enter", -outcome);
    if (const int error = state.adopt_all(std::move(listeners)))
        return system_error("io_uring_register(FILES_UPDATE)", error);
    return {};
}

/// Slots in a row, up or down, as a group's mostly are, take one system call.
int UringBackend::State::register_sockets(std::span<const Slot> at,
                                          std::span<const int> descriptors) {
    while (!at.empty()) {
        const std::uint32_t first = index_of(at[0]);
        const bool goes_down = at.size() > 1 && index_of(at[1]) + 1 == first;
        std::array<int, registered_per_call_max> run{};
        std::uint32_t length = 1;
        while (length < std::min(at.size(), run.size()) &&
               index_of(at[length]) == (goes_down ? first - length : first + length))
            ++length;
        for (std::uint32_t i = 0; i < length; ++i)
            run[goes_down ? length - 1 - i : i] = descriptors[i];
        const std::uint32_t lowest = goes_down ? first + 1 - length : first;
        for (std::uint32_t done = 0; done < length;) {
            const int updated =
                io_uring_register_files_update(&ring, lowest + done, &run[done], length - done);
            if (updated <= 0) return updated < 0 ? -updated : ENOMEM;
            done += static_cast<std::uint32_t>(updated);
        }
        at = at.subspan(length);
        descriptors = descriptors.subspan(length);
    }
    return 0;
}

void UringBackend::State::forget_socket(Slot slot) {
    int none = -1;
    io_uring_register_files_update(&ring, index_of(slot), &none, 1);
}

}  // namespace udpproxy
