// Packets written by hand: IP header, UDP header, ICMP errors that quote both. For `spoof` and
// `icmp`, which claim to be others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::traffic {

/// Large enough for any packet written here.
inline constexpr std::size_t packet_bytes_max = 2048;

/// A UDP packet of either family (that of `to`); returns its length. Requires: the payload fits
/// packet_bytes_max.
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

/// Sends one row of ready packets on a raw socket to the address `to`.
class RawRow {
public:
    RawRow(int descriptor, const Address& to);
    ~RawRow();
    RawRow(const RawRow&) = delete;
    RawRow& operator=(const RawRow&) = delete;

    /// Where the next packet is to be written; its length then goes to push().
    [[nodiscard]] std::span<std::byte> next();
    /// Takes the packet, sends the row when it is full. Returns how many packets were sent.
    std::size_t push(std::size_t bytes);
    std::size_t flush();

private:
    struct Memory;
    int descriptor_;
    std::size_t count_ = 0;
    Memory* memory_;
};

}  // namespace udpproxy::traffic
