// Setting up the io_uring engine, and taking it down: ring, restrictions, registered files, buffer
// rings.
#include <sys/eventfd.h>
#include <sys/mman.h>
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
int register_with_ring(const io_uring& ring, unsigned reconfigurer, void* argument,
                       unsigned count) {
    return ::syscall(SYS_io_uring_register, ring.ring_fd, reconfigurer, argument, count) < 0 ? errno
                                                                                             : 0;
}

constexpr unsigned short group_id_of(Leg leg) { return leg == Leg::request ? 0 : 1; }

/// The ring may do what this engine does and nothing else: io_uring operations pass by seccomp
/// filters, so the ring is its own fence. Must come before anything else is registered, on a ring
/// that is not enabled yet (io_uring_register(2), IORING_REGISTER_RESTRICTIONS).
int restrict_ring(const io_uring& ring) {
    std::array<io_uring_restriction, 8> rules{};
    std::size_t count = 0;
    for (const std::uint8_t reconfigurer : {IORING_OP_RECVMSG, IORING_OP_SEND, IORING_OP_SENDMSG,
                                            IORING_OP_ASYNC_CANCEL, IORING_OP_READ}) {
        rules[count].opcode = IORING_RESTRICTION_SQE_OP;
        rules[count++].sqe_op = reconfigurer;
    }
    rules[count].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    rules[count++].sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    for (const std::uint8_t reconfigurer :
         {IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_ENABLE_RINGS}) {
        rules[count].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[count++].register_op = reconfigurer;
    }
    return register_with_ring(ring, IORING_REGISTER_RESTRICTIONS, rules.data(),
                              static_cast<unsigned>(count));
}

/// Rings of buffers that we allocate ourselves (IOU_PBUF_RING_MMAP had a use after free,
/// CVE-2024-0582).
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
        return system_error("io_uring_register(PBUF_RING)", error);
    }
    io_uring_buf_ring_init(buffers);
    return buffers;
}

/// What can wait in the completion queue at once: every buffer of both legs, an ending and a cancel
/// per slot, a submission of failed sends. A full queue loses nothing but ends multishot receives;
/// beyond the kernel's largest the code copes with that.
unsigned completions_max(std::uint32_t slots, std::uint32_t buffers) {
    return std::min(completion_entries_max,
                    std::bit_ceil(2 * (slots + buffers) + submission_entries));
}

}  // namespace

UringBackend::State::State(EngineSetup setup, BufferPool request_pool, BufferPool reply_pool)
    : slots(setup.slots_max),
      requests(std::move(request_pool), setup.slots_max),
      replies(std::move(reply_pool), setup.slots_max),
      payload_bytes_max(setup.payload_bytes_max),
      busy_poll(setup.busy_poll),
      batch_wait(setup.batch_wait),
      early(2 * (std::size_t{setup.slots_max} + setup.buffers_per_leg) + submission_entries),
      to_arm(setup.slots_max),
      to_close(setup.slots_max),
      to_cancel(setup.slots_max),
      completions(setup.buffers_per_leg, setup.slots_max),
      sender(slots, counters, 2 * std::size_t{setup.buffers_per_leg}),
      queued(sends_per_submission),
      outgoing(sends_per_submission),
      parts(sends_per_submission + 16 * std::size_t{train_segments_max}),
      failed(sends_per_submission),
      failed_errors(sends_per_submission),
      listeners(std::move(setup.listeners)) {
    receive_template.msg_namelen = name_bytes;
    receive_template.msg_controllen = control_bytes_max;
}

UringBackend::State::~State() {
    // The kernel cancels what is armed when the ring goes; the sockets follow.
    if (ring_open) io_uring_queue_exit(&ring);
    for (BufferGroup* group : {&requests, &replies}) {
        if (group->ring != nullptr)
            ::munmap(group->ring, group->pool.count() * sizeof(io_uring_buf));
    }
    slots.for_each_descriptor([](int descriptor) { ::close(descriptor); });
    if (wake_descriptor >= 0) ::close(wake_descriptor);
}

Result<UringBackend> UringBackend::open(EngineSetup setup) {
    const std::size_t buffer_bytes = payload_offset + setup.payload_bytes_max;
    Result<BufferPool> request_pool = BufferPool::create(setup.buffers_per_leg, buffer_bytes);
    if (!request_pool) return request_pool.error();
    Result<BufferPool> reply_pool = BufferPool::create(setup.buffers_per_leg, buffer_bytes);
    if (!reply_pool) return reply_pool.error();
    const std::uint32_t buffers = setup.buffers_per_leg;
    auto state =
        std::make_unique<State>(std::move(setup), std::move(*request_pool), std::move(*reply_pool));

    io_uring_params parameters{};
    // SINGLE_ISSUER + DEFER_TASKRUN: completions are made by this thread, in wait, and nowhere
    // else. SUBMIT_ALL: one bad send does not hold up the next. R_DISABLED: until the shard's
    // thread starts it, which makes that thread the issuer.
    parameters.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                       IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                       IORING_SETUP_CLAMP;
    parameters.cq_entries = completions_max(state->slots.slots_max(), buffers);
    if (const int error =
            -io_uring_queue_init_params(submission_entries, &state->ring, &parameters))
        return system_error("io_uring_setup", error);
    state->ring_open = true;
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

UringBackend::UringBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
UringBackend::UringBackend(UringBackend&&) noexcept = default;
UringBackend::~UringBackend() = default;

Result<void> UringBackend::start() {
    State& state = *state_;
    if (state.batch_wait > Duration::zero()) make_sleep_exact();
    if (const int error = register_with_ring(state.ring, IORING_REGISTER_ENABLE_RINGS, nullptr, 0))
        return system_error("io_uring_register(ENABLE_RINGS)", error);
    for (std::uint32_t index = 0; index < state.listeners.size(); ++index) {
        if (const int error = adopt(Slot{index}, state.listeners[index]))
            return system_error("io_uring_register(FILES_UPDATE)", error);
    }
    return {};
}

int UringBackend::adopt(Slot slot, ListenerSocket& listener) {
    State& state = *state_;
    if (!state.slots.may_be_listener(slot)) return EMFILE;
    int descriptor = listener.socket.descriptor();
    const int updated = io_uring_register_files_update(&state.ring, index_of(slot), &descriptor, 1);
    if (updated < 0) return -updated;
    state.slots.assign_listener(slot, listener.socket.release(), listener.family, listener.offload);
    state.queue_arming(slot);
    return 0;
}

OpeningOutcome UringBackend::open_group(const GroupOpening& opening, std::span<Slot> slots) {
    State& state = *state_;
    UDPPROXY_ASSERT(slots.size() == opening.members());
    if (state.slots.slots_free() < slots.size()) return {OpeningStep::socket, EMFILE};
    std::array<int, 64> descriptors{};
    UDPPROXY_ASSERT(slots.size() <= descriptors.size());
    const OpeningOutcome outcome = open_group_sockets(opening, descriptors);
    if (!outcome.opened()) return outcome;
    std::size_t registered = 0;
    int error = 0;
    for (; registered < slots.size() && error == 0; ++registered) {
        slots[registered] =
            state.slots.assign(descriptors[registered], opening.local.family(), opening.offload);
        const int updated = io_uring_register_files_update(&state.ring, index_of(slots[registered]),
                                                           &descriptors[registered], 1);
        error = updated < 0 ? -updated : 0;
    }
    if (error != 0) {
        // The kernel has no memory for another registered file: the whole group goes again.
        int none = -1;
        for (const Slot slot : slots.first(registered)) {
            io_uring_register_files_update(&state.ring, index_of(slot), &none, 1);
            state.slots.vacate(slot);
        }
        for (std::size_t i = 0; i < slots.size(); ++i) ::close(descriptors[i]);
        return {OpeningStep::socket, error};
    }
    for (const Slot slot : slots) state.queue_arming(slot);
    return outcome;
}

OpeningOutcome UringBackend::join_group(std::span<const Slot> members, const MemberJoining& joining,
                                        Slot& joined) {
    State& state = *state_;
    if (state.slots.slots_free() == 0) return {OpeningStep::socket, EMFILE};
    std::array<int, 64> descriptors{};
    for (std::size_t i = 0; i < members.size(); ++i)
        descriptors[i] = state.slots[members[i]].descriptor;
    int descriptor = -1;
    const OpeningOutcome outcome =
        join_group_socket(std::span{descriptors}.first(members.size()), joining, descriptor);
    if (!outcome.opened()) return outcome;
    joined = state.slots.assign(descriptor, joining.local.family(), joining.offload);
    const int updated =
        io_uring_register_files_update(&state.ring, index_of(joined), &descriptor, 1);
    if (updated < 0) {
        state.slots.vacate(joined);
        ::close(descriptor);
        return {OpeningStep::socket, -updated};
    }
    state.queue_arming(joined);
    return outcome;
}

void UringBackend::close(Slot slot) {
    SlotEntry& entry = state_->slots[slot];
    UDPPROXY_ASSERT(entry.descriptor >= 0 && !entry.closing);
    entry.closing = true;
    state_->to_close.push(slot);
}

SourceAnswer UringBackend::source_towards(const Endpoint& upstream, const Address& wanted) {
    return udpproxy::source_towards(upstream, wanted);
}

Instant UringBackend::now() { return state_->turn_at = monotonic_now(); }

void UringBackend::wake() {
    const std::uint64_t one = 1;
    (void)!::write(state_->wake_descriptor, &one, sizeof one);
}

const EngineCounters& UringBackend::counters() const { return state_->counters; }

}  // namespace udpproxy
