// Control messages. The kernel tells with a received datagram which address it was sent to, its
// TOS, and where a train is to be cut; the program tells the kernel the same with a sent one. Both
// engines use them; man pages ip(7), ipv6(7) and udp(7).
#pragma once

#include <cstddef>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Bytes that hold every control message of an arrival or of a departure (packet info 40, TOS 24,
/// segment size 24), with room to spare.
inline constexpr std::size_t control_bytes_max = 128;

struct ControlIn {
    // The address to answer from: the one that the sender wrote to, or of a broadcast or IPv4
    // multicast datagram the receiving host's. Unspecified when the socket does not ask, and for
    // IPv6 multicast: the kernel chooses.
    Address local{};
    std::uint32_t interface_index = 0;  // of the receiving interface; 0 when not asked
    /// Broadcast or multicast: every socket of a SO_REUSEPORT group gets it (net/ipv4/udp.c,
    /// __udp4_lib_mcast_deliver).
    bool is_copied = false;
    // IPv4 TOS or IPv6 traffic class: DSCP in the upper six bits, ECN in the lower two.
    std::uint8_t tos = 0;
    std::uint32_t segment_bytes = 0;  // of a train (UDP_GRO); 0: one datagram
};

/// Reads the control messages of one received datagram.
[[nodiscard]] ControlIn read_control(const void* control, std::size_t bytes) noexcept;

struct ControlOut {
    Address from{};  // the source address; unspecified: the address the socket is bound to
    std::uint32_t interface_index = 0;  // for a link-local `from`: its interface; else 0
    std::uint8_t tos = 0;
    Family family = Family::ipv4;     // of the socket
    std::uint16_t segment_bytes = 0;  // of a train (UDP_SEGMENT); 0: one datagram
};

/// Writes control messages into `buffer`, which is aligned for cmsghdr and control_bytes_max long.
/// Returns the bytes used; 0 when no message is needed.
[[nodiscard]] std::size_t write_control(const ControlOut& control, void* buffer) noexcept;

}  // namespace udpproxy
