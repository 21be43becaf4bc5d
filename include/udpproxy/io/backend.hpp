// The backend contract: everything a shard asks of the operating system for its traffic, in nine
// verbs: start, wait, send, discard and wake, and those of Sockets: open_group, join_group, adopt
// and close. Met by the io_uring engine, the epoll engine and the simulated backend of the tests;
// chosen once, at start, as the loop's template argument, so that no datagram pays for an indirect
// call.
//
// A turn of the shard is: wait, look at requests, replies, faults and closed, open and close
// sockets, send, and wait again.
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

/// What an engine is opened with. Memory and tables are sized from this once and never grow.
struct EngineSetup {
    std::vector<ListenerSocket> listeners;
    std::uint32_t slots_max = 0;        // listeners and members together; at most RLIMIT_NOFILE
    std::uint32_t buffers_per_leg = 0;  // a power of two, 2 to 32768
    std::uint32_t payload_bytes_max = 65535;  // of one buffer; smaller only in tests
    Duration busy_poll{};                     // a wait looks on for this long before it sleeps
    Duration
        batch_wait{};  // a wait that was ended by a few datagrams waits this much longer for more
};

/// As many arrivals are a full batch: nothing more is waited for.
inline constexpr std::size_t full_batch = 32;

/// As many sockets are closed in one wait at most, whatever was asked for: a close costs some
/// microseconds.
inline constexpr std::size_t closes_per_wait = 64;

/// What an engine counts about itself. Written by the shard's thread, read by others through the
/// shard's counters.
struct EngineCounters {
    std::uint64_t receives_rearmed = 0;  // multishot receives that ended and were armed again
    std::uint64_t buffers_exhausted =
        0;  // receives that found no buffer; the data waited in the socket's queue
    std::uint64_t stale_completions =
        0;  // completions of an earlier holder of a slot: changed nothing
    std::uint64_t trains_received = 0;  // of two datagrams and more
    std::uint64_t trains_sent = 0;      // likewise; in one pass of the kernel
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
    Batch<Fault> faults;      // of kind receive; more than fit are as good as one
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
    requires(B backend, std::optional<Instant> deadline, std::span<const Departure> departures,
             Instant now, Buffer buffer) {
    // Called once, in the thread that will call everything else; arms the listeners.
    { backend.start() } -> std::same_as<Result<void>>;
    // The only verb that may block: until something arrived, wake() was called or `deadline` has
    // passed (none: for ever).
    { backend.wait(deadline) } -> std::same_as<const Completions&>;
    // Sends every departure now, in the order given for each slot, and takes their buffers back but
    // for those that come back as send_no_space: the caller sends these again or discards them.
    // Never blocks. Departures that are neighbours on their slot may leave in one pass, their
    // boundaries kept. A connected slot's pending error costs one more attempt, exactly one; a
    // train that the kernel refuses to cut is sent singly, in order. `now` is the turn's: what a
    // path refused is remembered for a while. Returns what failed or was retried; what had no room
    // stands in the order of each slot.
    { backend.send(departures, now) } -> std::same_as<std::span<const Fault>>;
    // Takes back the buffer of an arrival that is dropped.
    { backend.discard(buffer) } -> std::same_as<void>;
    // The one verb for other threads: ends a wait.
    { backend.wake() } -> std::same_as<void>;
    // No verb: what the engine has counted so far.
    { backend.counters() } -> std::same_as<const EngineCounters&>;
};

}  // namespace udpproxy
