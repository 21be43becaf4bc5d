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

struct EpollBackend::State final : EngineState {
    State(const EngineSetup& setup, BufferPool request_pool, BufferPool reply_pool)
        : EngineState(setup),
          requests(std::move(request_pool)),
          replies(std::move(reply_pool)),
          starved(setup.slots_max) {}
    ~State() override {
        if (epoll_descriptor >= 0) ::close(epoll_descriptor);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    [[nodiscard]] int register_socket(Slot slot, int descriptor) override {
        return watch(descriptor, index_of(slot));
    }
    void forget_socket(Slot) override {}    // closing the descriptor does it
    void begin_receiving(Slot) override {}  // the slot has received since register_socket()

    [[nodiscard]] BufferPool& pool_of(Leg leg) noexcept {
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
    [[nodiscard]] int receive_batch(Slot slot, std::size_t wanted);
    void take_arrival(Slot slot, const SlotEntry& entry, const mmsghdr& message,
                      const Incoming& assign);
    void close_queued();

    int epoll_descriptor = -1;
    BufferPool requests;
    BufferPool replies;
    std::array<std::size_t, 2> in_flight{};  // buffers that the shard holds, by leg
    std::size_t last_arrivals = 0;           // of the wait before
    // Sockets with data but no buffer for it: not watched until a buffer is available.
    Batch<Slot> starved;

    std::array<epoll_event, events_per_wait> events{};
    std::array<mmsghdr, receives_per_socket> receive_messages{};
    std::array<Incoming, receives_per_socket> incoming{};
};

EpollBackend::State& EpollBackend::state() noexcept { return static_cast<State&>(*state_); }

}  // namespace udpproxy
