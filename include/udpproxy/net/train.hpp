// Trains: segments of equal length back to back; only the last may be shorter. Pure arithmetic
// decides how many datagrams a train is, how a train is split to fit a send, and which neighbours
// coalesce into one train. The engines call it. What a socket is told about segments is in
// cmsg.hpp; which paths take trains is remembered in src/io/segment_limits.hpp.
#pragma once

#include <algorithm>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// The most segments in one send. The kernel takes 64 (UDP_MAX_SEGMENTS, include/linux/udp.h), 128
/// since Linux 6.9. Segments beyond 64 cost as much as another send.
inline constexpr std::uint32_t train_segments_max = 64;

/// The most payload bytes in one send. The kernel takes what the length fields allow: 65507 (IPv4)
/// and 65527 (IPv6). But the kernel cuts a packet in software if the packet with its link header is
/// as long as the device's gso_max_size (65536; gso_features_check in net/core/dev.c). So 64 bytes
/// are left for that header.
[[nodiscard]] constexpr std::uint32_t train_bytes_max(Family family) noexcept {
    constexpr std::uint32_t link = 64;
    constexpr std::uint32_t udp = 8;
    return 65535 - link - udp - (family == Family::ipv4 ? 20 : 40);
}

/// Datagrams in `bytes` of payload. A segment_bytes of 0, or of at least `bytes`, means one
/// datagram, which may be empty.
[[nodiscard]] constexpr std::uint32_t segments_of(std::uint32_t bytes,
                                                  std::uint32_t segment_bytes) noexcept {
    if (segment_bytes == 0 || bytes <= segment_bytes) return 1;
    return (bytes + segment_bytes - 1) / segment_bytes;
}

/// What one send may carry to one destination.
struct TrainLimits {
    std::uint32_t bytes = 0;          // train_bytes_max() of the socket's family
    std::uint32_t segment_bytes = 0;  // longer segments travel alone; 0: all segments do
};

/// How many bytes of a train its first send carries: the whole train, or as many whole segments as
/// the limits allow. The kernel is left to refuse a datagram that is larger than any send can be.
/// Requires: bytes > 0 for a train.
[[nodiscard]] constexpr std::uint32_t split(std::uint32_t bytes, std::uint32_t segment_bytes,
                                            const TrainLimits& limits) noexcept {
    if (segment_bytes == 0 || bytes <= segment_bytes) return bytes;
    if (segment_bytes > limits.segment_bytes) return segment_bytes;
    const std::uint32_t segments = std::clamp(limits.bytes / segment_bytes, 1U, train_segments_max);
    return std::min(bytes, segments * segment_bytes);
}

/// A train that grows. The train begins with what leaves first, and takes neighbours of equal
/// length, and one shorter neighbour at the very end.
class Coalescing {
public:
    /// Requires: the beginning is within `limits` (see split()).
    constexpr Coalescing(std::uint32_t bytes, std::uint32_t segment_bytes,
                         const TrainLimits& limits) noexcept
        : limits_(limits),
          bytes_(bytes),
          segment_bytes_(segment_bytes == 0 ? bytes : std::min(bytes, segment_bytes)),
          segments_(segments_of(bytes, segment_bytes)),
          // An empty datagram has no place in a train, neither first nor last.
          open_(bytes > 0 && segment_bytes_ <= limits.segment_bytes &&
                bytes % segment_bytes_ == 0) {}

    /// Takes a neighbour in if the neighbour fits; returns whether it did.
    constexpr bool take(std::uint32_t bytes, std::uint32_t segment_bytes) noexcept {
        if (!open_ || bytes == 0) return false;
        const bool is_train = segment_bytes != 0 && bytes > segment_bytes;
        if (is_train ? segment_bytes != segment_bytes_ : bytes > segment_bytes_) return false;
        const std::uint32_t segments = is_train ? segments_of(bytes, segment_bytes) : 1;
        if (segments_ + segments > train_segments_max || bytes_ + bytes > limits_.bytes)
            return false;
        segments_ += segments;
        bytes_ += bytes;
        open_ = bytes % segment_bytes_ == 0 && segments_ < train_segments_max;
        return true;
    }

    [[nodiscard]] constexpr bool is_open() const noexcept { return open_; }
    [[nodiscard]] constexpr std::uint32_t bytes() const noexcept { return bytes_; }
    [[nodiscard]] constexpr std::uint32_t segments() const noexcept { return segments_; }
    /// 0: one datagram, no train.
    [[nodiscard]] constexpr std::uint32_t segment_bytes() const noexcept {
        return segments_ > 1 ? segment_bytes_ : 0;
    }

private:
    TrainLimits limits_;
    std::uint32_t bytes_;
    std::uint32_t segment_bytes_;
    std::uint32_t segments_;
    bool open_;
};

}  // namespace udpproxy
