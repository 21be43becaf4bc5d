// What the epoll engine holds. Private to src/io/epoll.cpp.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "engine_state.hpp"
#include "udpproxy/io/buffer_pool.hpp"
#include "udpproxy/io/epoll.hpp"

namespace udpproxy {

inline constexpr std::size_t events_per_wait = 512;
inline constexpr std::size_t watches_per_wait = 512;  // half a millisecond
inline constexpr int watch_again_ms = 10;
// Per wait: one busy socket cannot starve the others.
inline constexpr std::size_t receives_per_socket = 64;
inline constexpr std::uint64_t wake_event = ~std::uint64_t{0};

/// One place of a recvmmsg: the name and control messages of one datagram are written here.
struct Incoming {
    iovec payload;
    SocketName name;
    alignas(cmsghdr) std::byte control[control_bytes_max];
    std::uint32_t buffer;
};

/// The receives of one leg. The first `ready` places have a buffer, and keep it until a datagram
/// comes: most sockets that are ready have one datagram, and all places would be prepared for it.
struct Receiving {
    Receiving(BufferPool from, std::size_t bytes) : pool(std::move(from)), payload_bytes(bytes) {}

    void prepare(std::size_t place, std::uint32_t buffer);
    /// Prepares as many places as there are buffers for. Whether there is one.
    [[nodiscard]] bool prepare_all();
    /// Datagrams came to the first `taken` places.
    void refill(std::size_t taken);
    [[nodiscard]] bool has_buffer() const noexcept { return ready > 0 || pool.available() > 0; }

    BufferPool pool;
    std::size_t payload_bytes;  // of a buffer
    std::size_t in_flight = 0;  // buffers that the shard holds
    std::size_t ready = 0;
    std::array<mmsghdr, receives_per_socket> messages{};
    std::array<Incoming, receives_per_socket> incoming{};
};

struct EpollBackend::State final : EngineState {
    State(const EngineSetup& setup, BufferPool request_pool, BufferPool reply_pool)
        : EngineState(setup),
          requests(std::move(request_pool), setup.payload_bytes_max),
          replies(std::move(reply_pool), setup.payload_bytes_max),
          starved(setup.slots_max),
          to_watch(setup.slots_max) {}
    ~State() override {
        if (epoll_descriptor >= 0) ::close(epoll_descriptor);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    [[nodiscard]] int register_sockets(std::span<const Slot> at,
                                       std::span<const int> descriptors) override {
        int error = 0;
        for (std::size_t i = 0; i < at.size() && error == 0; ++i)
            error = watch(descriptors[i], index_of(at[i]));
        return error;
    }
    [[nodiscard]] int take_over_sockets(std::span<const Slot> at, std::span<const int>) override {
        for (const Slot slot : at) {
            slots[slot].queued = true;
            to_watch.push(slot);
        }
        return 0;
    }
    void forget_socket(Slot) override {}    // closing the descriptor does it
    void begin_receiving(Slot) override {}  // the slot has received since it was watched

    [[nodiscard]] Receiving& receiving(Leg leg) noexcept {
        return leg == Leg::request ? requests : replies;
    }
    [[nodiscard]] int wait_for_events(int limit_ms);
    [[nodiscard]] int look_for_events(int limit_ms) {
        return ::epoll_wait(epoll_descriptor, events.data(), static_cast<int>(events.size()),
                            limit_ms);
    }
    [[nodiscard]] int watch(int descriptor, std::uint64_t data) const;
    void watch_again(Slot slot, std::uint32_t events_wanted);
    void starve(Slot slot);
    void feed_starved();
    void receive_from(Slot slot);
    [[nodiscard]] int receive_batch(Slot slot);
    void take_arrival(Slot slot, const SlotEntry& entry, const mmsghdr& message,
                      const Incoming& assign);
    [[nodiscard]] bool watch_queued();
    void close_queued();

    int epoll_descriptor = -1;
    Receiving requests;
    Receiving replies;
    std::size_t last_arrivals = 0;  // of the wait before
    // Sockets with data but no buffer for it: not watched until a buffer is available.
    Batch<Slot> starved;
    Batch<Slot> to_watch;  // sockets of an earlier process, not watched yet

    std::array<epoll_event, events_per_wait> events{};
};

EpollBackend::State& EpollBackend::state() noexcept { return static_cast<State&>(*state_); }

}  // namespace udpproxy
