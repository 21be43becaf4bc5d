// Addresses, endpoints, prefixes: values, with no socket behind them. One 16-byte form for both
// families keeps keys and comparisons branch-free; an IPv4 address has the form ::ffff:a.b.c.d (RFC
// 4291 section 2.5.5.2). Every IPv6 socket is opened V6ONLY, so the mapped range is never
// ambiguous.
#pragma once

#include <netinet/in.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "udpproxy/base/result.hpp"

namespace udpproxy {

enum class Family : std::uint8_t { ipv4, ipv6 };

/// An IPv4 or IPv6 address. The default is `::` (the unspecified IPv6 address).
struct Address {
    std::array<std::uint8_t, 16> bytes{};  // network byte order; IPv4 as ::ffff:a.b.c.d

    [[nodiscard]] static Address ipv4(std::uint32_t network_order) noexcept;
    [[nodiscard]] static Address ipv6(const in6_addr& address) noexcept;
    /// 0.0.0.0 or ::
    [[nodiscard]] static Address any(Family family) noexcept;

    [[nodiscard]] bool is_ipv4() const noexcept;
    [[nodiscard]] Family family() const noexcept { return is_ipv4() ? Family::ipv4 : Family::ipv6; }
    [[nodiscard]] std::uint32_t ipv4_network_order() const noexcept;  // Requires: is_ipv4()
    [[nodiscard]] bool is_unspecified() const noexcept;               // 0.0.0.0 or ::
    [[nodiscard]] bool is_multicast() const noexcept;                 // 224.0.0.0/4, ff00::/8
    [[nodiscard]] bool is_link_local() const noexcept;                // fe80::/10
    [[nodiscard]] bool is_loopback() const noexcept;                  // 127.0.0.0/8, ::1
    /// 255.255.255.255; the kernel refuses directed broadcasts.
    [[nodiscard]] bool is_broadcast() const noexcept;

    friend bool operator==(const Address&, const Address&) = default;
    friend auto operator<=>(const Address&, const Address&) = default;
};

/// An address and a UDP port; `scope` is the interface index of a link-local IPv6 address, else 0.
struct Endpoint {
    Address address;
    std::uint32_t scope = 0;
    std::uint16_t port = 0;  // host byte order

    [[nodiscard]] Family family() const noexcept { return address.family(); }
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
    friend auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

/// Whether one datagram may be for sockets at both endpoints.
[[nodiscard]] bool overlap(const Endpoint& one, const Endpoint& other) noexcept;

/// An address block. `bits` counts from the family's own first bit: 0 to 32 for IPv4, 0 to 128 for
/// IPv6.
struct Prefix {
    Address address;
    std::uint8_t bits = 0;

    /// Whether the family is the same and the first `bits` bits agree.
    [[nodiscard]] bool contains(const Address& candidate) const noexcept;
    friend bool operator==(const Prefix&, const Prefix&) = default;
};

/// Large enough for sockaddr_in and sockaddr_in6, and no larger: the engine writes one name per
/// departure that names its receiver.
union SocketName {
    sockaddr any;
    sockaddr_in ipv4;
    sockaddr_in6 ipv6;
};

/// Fills `name` and returns its length (16 or 28 bytes).
socklen_t write_socket_name(const Endpoint& endpoint, SocketName& name) noexcept;
/// The endpoint in a name that the kernel wrote: AF_INET or AF_INET6. Any other family gives
/// `[::]:0`.
[[nodiscard]] Endpoint read_socket_name(const SocketName& name) noexcept;

/// `192.0.2.1` or `2001:db8::1`; no scope, no brackets.
[[nodiscard]] Result<Address> parse_address(std::string_view text);
/// A port, 1 to 65535.
[[nodiscard]] Result<std::uint16_t> parse_port(std::string_view text);
/// `192.0.2.1:53`, `[2001:db8::1]:53`, `[fe80::1%eth0]:53`.
[[nodiscard]] Result<Endpoint> parse_endpoint(std::string_view text);
/// An endpoint and the name of its interface, which may be made anew under another index, or come
/// later.
struct NamedEndpoint {
    Endpoint endpoint;
    std::string interface;  // empty: the text has no scope, or the scope is an index
};
/// As parse_endpoint(), also where no interface has that name now; the scope is then one of
/// scope_of_interface().
[[nodiscard]] Result<NamedEndpoint> parse_named_endpoint(std::string_view text);
/// The index of the interface of that name; while there is none, a number that depends on the name
/// alone; 0, with errno set, when that cannot be asked (descriptors are short).
[[nodiscard]] std::uint32_t scope_of_interface(const std::string& name);
/// Whether the scope stands for the name of an interface that was absent.
[[nodiscard]] constexpr bool is_absent_interface(std::uint32_t scope) noexcept {
    return scope >= 1U << 31;  // the kernel's indices are positive ints
}
/// Whether the scope is the index of an interface that has gone, or never was.
[[nodiscard]] bool is_lost_interface(std::uint32_t scope);
/// `192.0.2.0/24` or `2001:db8::/32`; the bits beyond the prefix length must be zero.
[[nodiscard]] Result<Prefix> parse_prefix(std::string_view text);

[[nodiscard]] std::string format(const Address& address);
[[nodiscard]] std::string format(const Endpoint& endpoint);
[[nodiscard]] std::string format(const Prefix& prefix);

}  // namespace udpproxy
