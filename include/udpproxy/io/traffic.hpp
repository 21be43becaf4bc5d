// The language between an engine and its shard: what came in, what shall go out, what went wrong.
// Plain values; payloads stay where the kernel put them and are named by the buffer that holds
// them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/slot.hpp"
#include "udpproxy/net/train.hpp"

namespace udpproxy {

/// Which way a datagram travels; also which of the engine's two buffer groups holds it.
enum class Leg : std::uint8_t { request, reply };

/// A receive buffer of the engine. Exactly one holder at a time: the engine, an arrival, or the
/// departure made of it.
enum class Buffer : std::uint32_t {};

/// A train that came in; most often of one datagram.
struct Arrival {
    Slot slot = no_slot;
    Buffer buffer{};
    const std::byte* payload = nullptr;
    std::uint32_t bytes = 0;  // of all segments; 0 is a valid datagram. When truncated: what was
                              // sent, the buffer holds less
    std::uint32_t segment_bytes = 0;  // 0, or at least `bytes`: one datagram
    Endpoint from;
    Address local;  // where it was sent to; unspecified unless the listener is a wildcard
    std::uint32_t interface_index = 0;  // with `local`
    std::uint8_t tos = 0;
    bool truncated = false;  // longer than the buffer: never forwarded

    [[nodiscard]] std::uint32_t datagrams() const noexcept {
        return segments_of(bytes, segment_bytes);
    }
};

/// A train that shall go out, whole or in parts, its boundaries kept: an arrival's buffer with a
/// destination.
struct Departure {
    Slot slot = no_slot;
    Buffer buffer{};
    const std::byte* payload = nullptr;
    std::uint32_t bytes = 0;
    std::uint32_t segment_bytes = 0;
    Endpoint to;                        // port 0: the slot is connected, no name needed
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
    receive,     // a pending socket error taken out by a receive: an ICMP message, a hint only
    send_retry,  // a send failed with an older datagram's error and went out at the second attempt
    send,        // datagrams of the departure are lost; `error` says why
    send_no_space,  // EAGAIN or ENOBUFS: from `offset` on nothing was sent, and the buffer stays
                    // with the caller, who may send it again
};

struct Fault {
    FaultKind kind = FaultKind::receive;
    int error = 0;  // errno
    Slot slot = no_slot;
    // For the send kinds. A train that had to be sent singly may have more than one fault, each
    // about other datagrams of it.
    std::uint32_t departure = 0;  // index into the batch that was sent
    std::uint32_t datagrams = 0;
    std::uint32_t bytes = 0;  // of these datagrams
    std::uint32_t offset =
        0;  // of send_no_space: where they begin in the departure's payload; they end where it ends
};

}  // namespace udpproxy
