// Packets written by hand: IP header, UDP header, ICMP errors that quote both. For the load tool's
// `spoof` and `icmp`, which claim to be others, and for the frames of the benchmark (frame.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::traffic {

/// Sums of 16 bit words for the checksum of RFC 1071, which is the complement of the folded sum.
[[nodiscard]] std::uint32_t add_words(std::uint32_t sum, std::span<const std::byte> bytes);
[[nodiscard]] std::uint16_t fold(std::uint32_t sum);
/// The part of a checksum that both addresses and the protocol make up (for IPv6 all of them count,
/// for IPv4 the last four bytes). `bytes`: of the transport header and what follows it.
[[nodiscard]] std::uint32_t pseudo_header(const Address& from, const Address& to,
                                          std::uint8_t protocol, std::size_t bytes);

/// Large enough for any packet written here.
inline constexpr std::size_t packet_bytes_max = 2048;

/// A UDP packet of either family (that of `to`); returns its length. Requires: it fits `packet`.
std::size_t write_udp_packet(std::span<std::byte> packet, const Endpoint& from, const Endpoint& to,
                             std::span<const std::byte> payload);

/// What an ICMP error says: its type, code, and the second word of its header (a path MTU, a
/// pointer, a gateway).
struct IcmpError {
    std::uint8_t type = 0;
    std::uint8_t code = 0;
    std::uint32_t word = 0;
};

/// An ICMP or ICMPv6 message of `teller` to the sender of a datagram `from` -> `to`, quoting its
/// beginning; returns the length.
std::size_t write_icmp_packet(std::span<std::byte> packet, const Address& teller,
                              const IcmpError& error, const Endpoint& from, const Endpoint& to);

}  // namespace udpproxy::traffic
