// The backend contract: everything a shard asks of the operating system for its traffic, in nine
// verbs. Five are the engine's own: start, wait, send, discard and wake. Four are those of Sockets:
// open_group, join_group, adopt and close. The io_uring engine, the epoll engine and the simulated
// backend of the tests meet the contract. The engine is chosen once, at start, as the loop's
// template argument, so that no datagram pays for an indirect call.
//
// In one turn the shard waits, handles requests, replies, faults and closed sockets, opens and
// closes sockets, and sends.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/io/sockets.hpp"
#include "udpproxy/io/traffic.hpp"

namespace udpproxy {

/// What an engine is opened with. The setup sizes memory and tables once; they never grow.
struct EngineSetup {
    std::uint32_t slots_max = 0;        // listeners and members together; at most RLIMIT_NOFILE
    std::uint32_t buffers_per_leg = 0;  // a power of two, 2 to 32768
    std::uint32_t payload_bytes_max = 65535;  // of one buffer; smaller only in tests
    Duration busy_poll{};                     // a wait polls for this long before it sleeps
    // A wait that a few datagrams ended waits this much longer for more.
    Duration batch_wait{};
};

/// The number of arrivals in a full batch: a wait that has as many waits for no more.
inline constexpr std::size_t full_batch = 32;

/// The most sockets that one wait closes, however many were asked for: a close costs some
/// microseconds.
inline constexpr std::size_t closes_per_wait = 64;

/// What an engine counts about itself. The shard's thread writes the counters; other threads read
/// them through the shard's counters.
struct EngineCounters {
    std::uint64_t receives_rearmed = 0;  // multishot receives that ended and were armed again
    // Receives that found no buffer; the data waited in the socket's queue.
    std::uint64_t buffers_exhausted = 0;
    // Completions of an earlier holder of a slot; they changed nothing.
    std::uint64_t stale_completions = 0;
    std::uint64_t trains_received = 0;  // of two datagrams or more
    std::uint64_t trains_sent = 0;      // of two datagrams or more, in one pass of the kernel
    std::uint64_t gso_fallbacks = 0;    // trains that the kernel refused and that were sent singly
};

/// What one wait brought. Valid until the next wait.
struct Completions {
    Completions(std::size_t buffers_per_leg, std::size_t slots_max)
        : requests(buffers_per_leg),
          replies(buffers_per_leg),
          faults(buffers_per_leg),
          closed(slots_max) {}

    Batch<Arrival> requests;  // from listeners, each socket's in the order it was read
    Batch<Arrival> replies;   // from members
    Batch<Fault> faults;      // of kind receive; faults beyond the batch's capacity are dropped
    Batch<Slot> closed;  // sockets whose close() is complete: their descriptors and slots are free

    void clear() noexcept {
        requests.clear();
        replies.clear();
        faults.clear();
        closed.clear();
    }
};

template <class B>
concept Backend = std::derived_from<B, Sockets> &&
    requires(B backend, std::vector<ListenerSocket> listeners, std::optional<Instant> deadline,
             std::span<const Departure> departures, Instant now, Buffer buffer) {
    // Called once, in the thread that will call everything else; adopts the listeners, each in the
    // slot of its index.
    { backend.start(std::move(listeners)) } -> std::same_as<Result<void>>;
    // The only verb that may block: until something arrived, wake() was called or `deadline` has
    // passed (none: for ever).
    { backend.wait(deadline) } -> std::same_as<const Completions&>;
    // Sends every departure now, in the order given for each slot, and never blocks. The engine
    // takes back the buffer of every departure except one that comes back as send_no_space: the
    // caller sends that departure again or discards it. Later departures on the same slot then come
    // back too, with the same error: none overtakes. Departures that are neighbours on their slot
    // may leave in one pass, their boundaries kept. A connected slot's pending error costs
    // exactly one more attempt. A train that the kernel refuses to cut is sent singly, in order.
    // `now` is the time of the turn: the engine remembers for a while what a path refused. Returns
    // the faults of sends that failed or were retried; the send_no_space faults of a slot are in
    // the order of its departures.
    { backend.send(departures, now) } -> std::same_as<std::span<const Fault>>;
    // Takes back the buffer of an arrival that is dropped.
    { backend.discard(buffer) } -> std::same_as<void>;
    // The only verb that other threads may call: ends a wait.
    { backend.wake() } -> std::same_as<void>;
    // Not a verb: what the engine has counted so far.
    { backend.counters() } -> std::same_as<const EngineCounters&>;
};

}  // namespace udpproxy
