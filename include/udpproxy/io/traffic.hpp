// The language between an engine and its shard: what came in, what shall go out, what went wrong.
// All are plain values. A payload stays where the kernel put it, and is named by the buffer that
// holds it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/net/train.hpp"

namespace udpproxy {

/// Which way a datagram travels, and so which of the engine's two buffer groups holds the datagram.
enum class Leg : std::uint8_t { request, reply };

/// A receive buffer of the engine. A buffer has exactly one holder at a time: the engine, an
/// arrival, or the departure made of that arrival.
enum class Buffer : std::uint32_t {};

/// A train that came in; most often it is one datagram.
struct Arrival {
    Slot slot = no_slot;
    Buffer buffer{};
    const std::byte* payload = nullptr;
    // Of all segments; 0 is a valid datagram. When truncated, the bytes that were sent: the buffer
    // holds fewer.
    std::uint32_t bytes = 0;
    std::uint32_t segment_bytes = 0;  // one datagram: 0, or at least `bytes`
    Endpoint from;
    Address local;  // to answer from; unspecified: the listener's own, or the kernel's choice
    std::uint32_t interface_index = 0;  // with `local`
    std::uint8_t tos = 0;
    bool truncated = false;  // longer than the buffer: never forwarded
    /// Broadcast or multicast: the kernel gave each shard's socket of the listener a copy.
    bool is_copied = false;

    [[nodiscard]] std::uint32_t datagrams() const noexcept {
        return segments_of(bytes, segment_bytes);
    }
};

/// A train that shall go out, whole or in parts, its boundaries kept. A departure is an arrival's
/// buffer with a destination.
struct Departure {
    Slot slot = no_slot;
    Buffer buffer{};
    const std::byte* payload = nullptr;
    std::uint32_t bytes = 0;
    std::uint32_t segment_bytes = 0;
    Endpoint to;                        // port 0: the slot is connected and needs no name
    Address from;                       // unspecified: the address the slot is bound to
    std::uint32_t interface_index = 0;  // with a link-local `from`
    std::uint8_t tos = 0;
    Leg leg = Leg::request;
    std::uint16_t proxy = 0;  // for the counters of a send that fails

    [[nodiscard]] std::uint32_t datagrams() const noexcept {
        return segments_of(bytes, segment_bytes);
    }
};

enum class FaultKind : std::uint8_t {
    receive,     // a receive took out a pending socket error: an ICMP message, only a hint
    send_retry,  // a send reported an older datagram's error and succeeded at the second attempt
    send,        // datagrams of the departure are lost; `error` says why
    // EAGAIN or ENOBUFS: from `offset` on nothing was sent. The buffer stays with the caller, which
    // may send it again.
    send_no_space,
};

struct Fault {
    FaultKind kind = FaultKind::receive;
    int error = 0;  // errno
    Slot slot = no_slot;
    // The fields below belong to the send kinds. A train that had to be sent singly may have
    // several faults, each about different datagrams of the train.
    std::uint32_t departure = 0;  // index into the batch that was sent
    std::uint32_t datagrams = 0;
    std::uint32_t bytes = 0;  // of these datagrams
    // Where these datagrams begin in the departure's payload. Those of send_no_space reach to its
    // end. When too many stretches of a train are lost, one fault stands for several of them, and
    // `offset` is where the first begins.
    std::uint32_t offset = 0;
};

}  // namespace udpproxy
