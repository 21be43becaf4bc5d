// Source prefixes: before a source address is counted, the bits that one host or one site can vary
// at will are cut off. A host has an IPv4 address or an IPv6 /64 (RFC 4291 section 2.5.1), a site
// an IPv4 /24 or an IPv6 /48 (RFC 6177).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

// Lengths count from the first bit of Address::bytes, where IPv4 has 96 bits in front.
[[nodiscard]] inline unsigned host_bits(const Address& source) noexcept {
    return source.is_ipv4() ? 96 + 32 : 64;
}
[[nodiscard]] inline unsigned site_bits(const Address& source) noexcept {
    return source.is_ipv4() ? 96 + 24 : 48;
}

/// The first `bits` (1 to 128) bits, the others zero, as two words for hashing and comparing.
[[nodiscard]] inline std::array<std::uint64_t, 2> leading_bits(const Address& source,
                                                               unsigned bits) noexcept {
    std::array<std::uint8_t, 16> kept = source.bytes;
    for (unsigned byte = 0; byte < kept.size(); ++byte) {
        const unsigned before = byte * 8;
        if (before >= bits)
            kept[byte] = 0;
        else if (bits - before < 8)
            kept[byte] = static_cast<std::uint8_t>(kept[byte] & (0xff00U >> (bits - before)));
    }
    return std::bit_cast<std::array<std::uint64_t, 2>>(kept);
}

}  // namespace udpproxy
