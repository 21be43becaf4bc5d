// What the io_uring engine holds. Private to src/io/uring*.cpp, the only files that see liburing.
#pragma once

#include <liburing.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>

#include "engine_state.hpp"
#include "udpproxy/io/buffer_pool.hpp"
#include "udpproxy/io/uring.hpp"

namespace udpproxy {

inline constexpr unsigned submission_entries = 1024;
inline constexpr unsigned completion_entries_max = 65536;  // IORING_MAX_CQ_ENTRIES
inline constexpr std::size_t sends_per_submission = 512;
/// The kernel uses all the buffers of a ring in turn, however few are needed at a time. Trains of
/// 40 kB in 512 buffers are 20 MB, which no cache holds. So the kernel gets no more than this
/// number at first, and twice as many whenever a receive finds no buffer. It gets fewer again when
/// half would have been enough for a while. The buffers released last stay warm, in caches and page
/// tables (docs/benchmarks.md, "Buffers").
inline constexpr std::size_t buffers_provided_min = 64;
inline constexpr std::uint32_t waits_per_review = 4096;
inline constexpr std::size_t arms_per_wait = 512;  // half a millisecond

/// What a completion belongs to. user_data = kind (8 bits) | generation (24 bits) | slot or
/// departure index (32 bits).
enum class Completion : std::uint8_t { receive = 1, cancel = 2, send = 3, wake = 4 };

[[nodiscard]] constexpr std::uint64_t tag(Completion kind, std::uint32_t generation,
                                          std::uint32_t index) noexcept {
    return static_cast<std::uint64_t>(kind) << 56 |
           static_cast<std::uint64_t>(generation & 0xffffffU) << 32 | index;
}

// The layout of a received buffer: io_uring_recvmsg_out, the name (padded so that cmsghdr is
// aligned), the control messages, the payload.
inline constexpr std::size_t name_offset = sizeof(io_uring_recvmsg_out);
inline constexpr std::size_t name_bytes =
    (sizeof(SocketName) + alignof(cmsghdr) - 1) / alignof(cmsghdr) * alignof(cmsghdr);
inline constexpr std::size_t control_offset = name_offset + name_bytes;
inline constexpr std::size_t payload_offset = control_offset + control_bytes_max;

/// An io_uring_cqe without its flexible tail: arrays cannot hold the tail.
struct Completed {
    std::uint64_t user_data;
    int res;
    unsigned flags;
};

struct UringBackend::State final : EngineState {
    State(const EngineSetup& setup, BufferPool request_pool, BufferPool reply_pool);
    ~State() override;
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    /// One leg's buffers, and the ring through which the kernel takes buffers.
    struct BufferGroup {
        BufferGroup(BufferPool buffers, std::uint32_t slots_max)
            : pool(std::move(buffers)),
              provided_max(std::min<std::size_t>(pool.count(), buffers_provided_min)),
              starved(slots_max) {}

        BufferPool pool;
        io_uring_buf_ring* ring = nullptr;
        std::size_t provided_max;   // the most buffers provided at a time
        std::size_t in_kernel = 0;  // buffers provided to the kernel now
        std::size_t provided = 0;   // in_kernel when the kernel last got buffers
        std::size_t used_most = 0;  // most buffers used in one wait since the last review
        std::uint32_t waits = 0;    // since the last review
        std::size_t in_flight = 0;  // buffers that the shard holds, as arrivals or departures
        Batch<Slot> starved;        // receives that ended for lack of a buffer
    };

    [[nodiscard]] int register_sockets(std::span<const Slot> at,
                                       std::span<const int> descriptors) override;
    void forget_socket(Slot slot) override;
    void begin_receiving(Slot slot) override { queue_arming(slot); }

    [[nodiscard]] BufferGroup& group_of(Leg leg) noexcept {
        return leg == Leg::request ? requests : replies;
    }
    [[nodiscard]] io_uring_sqe& next_entry();

    // uring_receive.cpp, in the order of a wait
    void sleep_until(std::optional<Instant> deadline);
    [[nodiscard]] bool find_by_looking(std::optional<Instant> deadline);
    void submit_and_wait(unsigned wanted, std::optional<Duration> limit);
    void provide_buffers(BufferGroup& group);
    static void review_provided(BufferGroup& group);
    void feed_starved(BufferGroup& group);
    void forget_queued(Slot slot);
    void arm_queued();
    void arm(Slot slot);
    void queue_arming(Slot slot);
    void close_queued();
    void cancel(Slot slot, bool by_descriptor);
    void reap();
    void take(const Completed& completion);
    void take_receive(const Completed& completion, std::uint32_t generation, Slot slot);
    void take_arrival(const Completed& completion, SlotEntry& entry, Slot slot);
    void take_cancel(const Completed& completion, std::uint32_t generation, Slot slot);
    void finish_close(Slot slot);
    void release_buffer(Buffer buffer);

    // uring_send.cpp
    void queue_send(std::span<const Departure> departures, const Sending& sending);
    void submit_sends(std::span<const Departure> departures);
    void collect_completions();

    io_uring ring{};
    bool ring_open = false;
    std::uint64_t wake_value = 0;
    bool wake_armed = false;

    BufferGroup requests;
    BufferGroup replies;
    msghdr receive_template{};

    // Completions, other than of sends, that turned up while sends were collected. The next wait
    // begins with them.
    Batch<Completed> early;
    Batch<Slot> to_arm;
    Batch<Slot> to_cancel;     // a cancel by user_data found nothing: cancel by descriptor
    Batch<Sending> queued;     // for this submission
    Batch<Outgoing> outgoing;  // of the sends that need a message, with `parts`
    Batch<iovec> parts;
    Batch<std::uint32_t> failed;  // indices into `queued`; failed_errors has their errors
    Batch<int> failed_errors;
};

UringBackend::State& UringBackend::state() noexcept { return static_cast<State&>(*state_); }

}  // namespace udpproxy
