// What the epoll engine holds. Private to src/io/epoll.cpp.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "sender.hpp"
#include "slot_table.hpp"
#include "udpproxy/io/buffer_pool.hpp"
#include "udpproxy/io/epoll.hpp"

namespace udpproxy {

inline constexpr std::size_t events_per_wait = 512;
inline constexpr std::size_t receives_per_socket =
    64;  // per wait: one busy socket cannot starve the others
inline constexpr std::uint64_t wake_event = ~std::uint64_t{0};

/// One place of a recvmmsg: where name and control messages of a datagram go.
struct Incoming {
    iovec payload;
    SocketName name;
    alignas(cmsghdr) std::byte control[control_bytes_max];
    std::uint32_t buffer;
};

struct EpollBackend::State {
    State(EngineSetup setup, BufferPool request_pool, BufferPool reply_pool)
        : slots(setup.slots_max),
          requests(std::move(request_pool)),
          replies(std::move(reply_pool)),
          payload_bytes_max(setup.payload_bytes_max),
          busy_poll(setup.busy_poll),
          batch_wait(setup.batch_wait),
          to_close(setup.slots_max),
          starved(setup.slots_max),
          completions(setup.buffers_per_leg, setup.slots_max),
          sender(slots, counters, 2 * std::size_t{setup.buffers_per_leg}),
          listeners(std::move(setup.listeners)) {}

    ~State() {
        slots.for_each_descriptor([](int descriptor) { ::close(descriptor); });
        if (wake_descriptor >= 0) ::close(wake_descriptor);
        if (epoll_descriptor >= 0) ::close(epoll_descriptor);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

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
    int wake_descriptor = -1;
    EngineCounters counters;
    SlotTable slots;
    BufferPool requests;
    BufferPool replies;
    std::array<std::size_t, 2> in_flight{};  // buffers with the shard, by leg
    std::uint32_t payload_bytes_max;
    Duration busy_poll;
    Duration batch_wait;
    std::size_t last_arrivals = 0;  // of the wait before
    Batch<Slot> to_close;
    Batch<Slot>
        starved;  // sockets with data but no buffer for it: not watched until one has come home
    Completions completions;

    std::array<epoll_event, events_per_wait> events{};
    std::array<mmsghdr, receives_per_socket> receive_messages{};
    std::array<Incoming, receives_per_socket> incoming{};
    Sender sender;
    Instant turn_at{};  // the last reading of the clock
    std::vector<ListenerSocket> listeners;
};

}  // namespace udpproxy
