// The stamp: what every datagram of the benchmark carries, so that whoever receives it knows whose
// it is, which one it is, and that its parts belong together. Written by the clients, read by the
// service and by the clients again; the proxies between them never know. The load tool's mark
// (mark.hpp) covers every byte, which would cost more than what the benchmark measures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace udpproxy::traffic {

struct Stamp {
    std::uint32_t client = 0;
    std::uint32_t sequence = 0;
};

// Head (16 bytes: magic, client, sequence, size) and tail (8 bytes: a mix of client and sequence).
inline constexpr std::size_t stamp_bytes_min = 24;

// Requires: payload.size() >= stamp_bytes_min.
void write_stamp(std::span<std::byte> payload, Stamp stamp);

// Nothing when the payload was not written by write_stamp, was cut, or has the tail of another
// datagram.
std::optional<Stamp> read_stamp(std::span<const std::byte> payload);

}  // namespace udpproxy::traffic
