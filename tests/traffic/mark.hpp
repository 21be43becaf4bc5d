// The mark in each datagram of the load tool: whose it is, which one, whether it is whole. A reply
// that bears another client's mark is what the end-to-end tests look for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace udpproxy::traffic {

enum class Kind : std::uint8_t { request = 1, reply = 2 };

struct Mark {
    std::uint64_t client = 0;    // drawn at random by each client socket
    std::uint64_t sequence = 0;  // of that client, from 0
    std::uint64_t sent_at = 0;   // of the request, monotonic nanoseconds
    std::uint32_t bytes = 0;     // of the whole datagram
    Kind kind = Kind::request;
    std::uint8_t via = 0;    // of a reply: the index of the address that the service answered from
    std::uint16_t copy = 0;  // of a reply: 0 for the first to a request
};

/// The smallest datagram that can bear a mark.
inline constexpr std::size_t mark_bytes = 48;

/// Writes the mark, the padding and the hash of both. Requires: payload.size() >= mark_bytes
void write_mark(std::span<std::byte> payload, Mark mark);
/// The mark of a whole datagram; none when anything of it is not as it was sent.
[[nodiscard]] std::optional<Mark> read_mark(std::span<const std::byte> payload);

}  // namespace udpproxy::traffic
