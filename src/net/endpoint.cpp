// Which texts are addresses, endpoints and prefixes, and how they become bytes and socket names.
// The configuration and messages use the texts, the engines the socket names. Host names are
// deliberately resolved elsewhere: nothing here asks the network. The system is asked only for the
// number behind an interface name (`%eth0`), and for the name behind a number.
#include "udpproxy/net/endpoint.hpp"

#include <arpa/inet.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};  // RFC 4291 section 2.5.5.2
constexpr unsigned mapped_bits = 96;

/// The text in quotation marks, on one line and of bounded length: the text came from outside and
/// may contain anything.
std::string quoted_ascii(std::string_view text) {
    constexpr std::size_t shown_max = 100;
    std::string out{'"'};
    for (const char letter : text.substr(0, shown_max)) {
        if (letter >= ' ' && letter <= '~') {
            out += letter;
        } else {
            std::array<char, 5> escape{};
            std::snprintf(escape.data(), escape.size(), "\\x%02x",
                          static_cast<unsigned>(static_cast<unsigned char>(letter)));
            out += escape.data();
        }
    }
    if (text.size() > shown_max) out += "...";
    return out + '"';
}

/// Reads a decimal number of at most `digits_max` digits, without sign and without leading zeros.
/// Nine digits keep the number within 32 bits.
bool read_number(std::string_view text, std::size_t digits_max, std::uint32_t& number) {
    if (text.empty() || text.size() > digits_max || (text.size() > 1 && text.front() == '0'))
        return false;
    number = 0;
    for (const char letter : text) {
        if (letter < '0' || letter > '9') return false;
        number = number * 10 + static_cast<std::uint32_t>(letter - '0');
    }
    return true;
}

struct Scope {
    std::uint32_t number = 0;
    std::string interface;  // empty: given as an index
};

/// The scope behind `%`: an interface's name, or the interface's index (RFC 4007 section 11).
Result<Scope> parse_scope(std::string_view zone, std::string_view text) {
    std::uint32_t index = 0;
    if (read_number(zone, 9, index) && index > 0) return Scope{index, {}};
    // The names that the kernel takes (net/core/dev.c, dev_valid_name).
    const bool is_name =
        zone.find_first_not_of("0123456789") != std::string_view::npos &&
        zone.size() < IF_NAMESIZE && zone != "." && zone != ".." &&
        std::all_of(zone.begin(), zone.end(), [](char letter) {
            return letter > ' ' && letter != 0x7f && letter != '/' && letter != ':';
        });
    if (!is_name)
        return Error{quoted_ascii(text) + ": " + quoted_ascii(zone) +
                     " is not the name of an interface"};
    Scope scope{0, std::string{zone}};
    scope.number = scope_of_interface(scope.interface);
    if (scope.number == 0)
        return Error{quoted_ascii(text) + ": interface " + quoted_ascii(zone) + ": " +
                     error_text(errno)};
    return scope;
}

/// The text between the brackets of an IPv6 endpoint: an address, and a scope if the address is
/// link-local.
Result<NamedEndpoint> parse_scoped_address(std::string_view inner, std::string_view text) {
    NamedEndpoint named;
    const std::size_t percent = inner.find('%');
    Result<Address> address = parse_address(inner.substr(0, percent));
    if (!address) return address.error();
    named.endpoint.address = *address;
    if (address->is_ipv4())
        return Error{quoted_ascii(text) +
                     ": brackets are for IPv6 addresses; write an IPv4 address without them"};
    if (percent == std::string_view::npos) {
        if (address->is_link_local())
            return Error{quoted_ascii(text) +
                         ": a link-local address needs its interface, as in \"[" +
                         std::string{inner} + "%eth0]:53\""};
        return named;
    }
    if (!address->is_link_local())
        return Error{quoted_ascii(text) +
                     ": only a link-local address (fe80::/10) takes an interface"};
    Result<Scope> scope = parse_scope(inner.substr(percent + 1), text);
    if (!scope) return scope.error();
    named.endpoint.scope = scope->number;
    named.interface = scope->interface;
    return named;
}

}  // namespace

Address Address::ipv4(std::uint32_t network_order) noexcept {
    Address address;
    std::copy(mapped_prefix.begin(), mapped_prefix.end(), address.bytes.begin());
    std::memcpy(address.bytes.data() + mapped_prefix.size(), &network_order, sizeof(network_order));
    return address;
}

Address Address::ipv6(const in6_addr& address) noexcept {
    Address result;
    std::memcpy(result.bytes.data(), &address, sizeof(address));
    return result;
}

Address Address::any(Family family) noexcept {
    return family == Family::ipv4 ? ipv4(0) : Address{};
}

bool Address::is_ipv4() const noexcept {
    return std::memcmp(bytes.data(), mapped_prefix.data(), mapped_prefix.size()) == 0;
}

std::uint32_t Address::ipv4_network_order() const noexcept {
    UDPPROXY_ASSERT(is_ipv4());
    std::uint32_t network_order = 0;
    std::memcpy(&network_order, bytes.data() + mapped_prefix.size(), sizeof(network_order));
    return network_order;
}

bool Address::is_unspecified() const noexcept { return *this == any(family()); }

bool Address::is_multicast() const noexcept {
    return is_ipv4() ? (bytes[12] & 0xf0U) == 0xe0U : bytes[0] == 0xffU;
}

bool Address::is_link_local() const noexcept {
    return bytes[0] == 0xfeU && (bytes[1] & 0xc0U) == 0x80U;
}

bool Address::is_loopback() const noexcept {
    if (is_ipv4()) return bytes[12] == 127;
    return bytes == std::array<std::uint8_t, 16>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
}

bool Address::is_broadcast() const noexcept {
    return is_ipv4() && ipv4_network_order() == 0xffffffffU;
}

bool overlap(const Endpoint& one, const Endpoint& other) noexcept {
    const bool same_interface = one.scope == 0 || other.scope == 0 || one.scope == other.scope;
    return one.port == other.port && one.family() == other.family() && same_interface &&
           (one.address == other.address || one.address.is_unspecified() ||
            other.address.is_unspecified());
}

bool Prefix::contains(const Address& candidate) const noexcept {
    if (candidate.family() != address.family()) return false;
    const unsigned shared_bits = bits + (address.is_ipv4() ? mapped_bits : 0U);
    const std::size_t whole = shared_bits / 8;
    if (std::memcmp(address.bytes.data(), candidate.bytes.data(), whole) != 0) return false;
    const unsigned bits_left = shared_bits % 8;
    if (bits_left == 0) return true;
    return ((address.bytes[whole] ^ candidate.bytes[whole]) >> (8U - bits_left)) == 0;
}

socklen_t write_socket_name(const Endpoint& endpoint, SocketName& name) noexcept {
    if (endpoint.address.is_ipv4()) {
        name.ipv4 = sockaddr_in{};
        name.ipv4.sin_family = AF_INET;
        name.ipv4.sin_port = htons(endpoint.port);
        name.ipv4.sin_addr.s_addr = endpoint.address.ipv4_network_order();
        return sizeof(name.ipv4);
    }
    name.ipv6 = sockaddr_in6{};
    name.ipv6.sin6_family = AF_INET6;
    name.ipv6.sin6_port = htons(endpoint.port);
    std::memcpy(&name.ipv6.sin6_addr, endpoint.address.bytes.data(), endpoint.address.bytes.size());
    name.ipv6.sin6_scope_id = endpoint.scope;
    return sizeof(name.ipv6);
}

Endpoint read_socket_name(const SocketName& name) noexcept {
    if (name.any.sa_family == AF_INET)
        return Endpoint{Address::ipv4(name.ipv4.sin_addr.s_addr), 0, ntohs(name.ipv4.sin_port)};
    if (name.any.sa_family != AF_INET6) return Endpoint{};
    const Address address = Address::ipv6(name.ipv6.sin6_addr);
    // The kernel sets a scope only for addresses of link scope (include/net/ipv6.h,
    // ipv6_iface_scope_id). Dropping any other scope keeps endpoints comparable.
    const std::uint32_t scope = address.is_link_local() ? name.ipv6.sin6_scope_id : 0;
    return Endpoint{address, scope, ntohs(name.ipv6.sin6_port)};
}

Result<Address> parse_address(std::string_view text) {
    std::array<char, INET6_ADDRSTRLEN> terminated{};
    if (!text.empty() && text.size() < terminated.size() &&
        text.find('\0') == std::string_view::npos) {
        std::copy(text.begin(), text.end(), terminated.begin());
        in_addr ipv4{};
        if (inet_pton(AF_INET, terminated.data(), &ipv4) == 1) return Address::ipv4(ipv4.s_addr);
        in6_addr ipv6{};
        if (inet_pton(AF_INET6, terminated.data(), &ipv6) == 1) {
            const Address address = Address::ipv6(ipv6);
            if (address.is_ipv4())
                return Error{quoted_ascii(text) + " is an IPv4-mapped address; write \"" +
                             format(address) + "\""};
            return address;
        }
    }
    return Error{quoted_ascii(text) + " is not an IPv4 or IPv6 address"};
}

Result<std::uint16_t> parse_port(std::string_view text) {
    std::uint32_t port = 0;
    if (!read_number(text, 5, port) || port == 0 || port > 65535)
        return Error{quoted_ascii(text) + " is not a port (1 to 65535)"};
    return static_cast<std::uint16_t>(port);
}

std::uint32_t scope_of_interface(const std::string& name) {
    if (const std::uint32_t index = if_nametoindex(name.c_str()); index > 0) return index;
    if (errno != ENODEV) return 0;
    std::uint32_t hash = 2'166'136'261;  // FNV-1a; two names that meet would only look alike
    for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 16'777'619U;
    return hash | 1U << 31;
}

bool is_lost_interface(std::uint32_t scope) {
    std::array<char, IF_NAMESIZE> name{};
    return scope != 0 && if_indextoname(scope, name.data()) == nullptr && errno == ENXIO;
}

Result<Endpoint> parse_endpoint(std::string_view text) {
    const Result<NamedEndpoint> named = parse_named_endpoint(text);
    if (!named) return named.error();
    if (is_absent_interface(named->endpoint.scope))
        return Error{quoted_ascii(text) + ": there is no interface " +
                     quoted_ascii(named->interface)};
    return named->endpoint;
}

Result<NamedEndpoint> parse_named_endpoint(std::string_view text) {
    NamedEndpoint named;
    Endpoint& endpoint = named.endpoint;
    std::string_view port_text;
    if (!text.empty() && text.front() == '[') {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos)
            return Error{quoted_ascii(text) +
                         ": the closing bracket is missing, as in \"[2001:db8::1]:53\""};
        Result<NamedEndpoint> inner = parse_scoped_address(text.substr(1, close - 1), text);
        if (!inner) return inner.error();
        named = std::move(*inner);
        const std::string_view rest = text.substr(close + 1);
        if (rest.empty() || rest.front() != ':')
            return Error{quoted_ascii(text) +
                         ": a colon and a port are missing, as in \"[2001:db8::1]:53\""};
        port_text = rest.substr(1);
    } else {
        const std::size_t colon = text.find(':');
        if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos)
            return Error{
                quoted_ascii(text) +
                ": an IPv6 address with a port needs brackets, as in \"[2001:db8::1]:53\""};
        Result<Address> address = parse_address(text.substr(0, colon));
        if (!address) return address.error();
        if (colon == std::string_view::npos)
            return Error{quoted_ascii(text) + ": the port is missing, as in \"" +
                         std::string{text} + ":53\""};
        endpoint.address = *address;
        port_text = text.substr(colon + 1);
    }
    Result<std::uint16_t> port = parse_port(port_text);
    if (!port) return port.error();
    endpoint.port = *port;
    return named;
}

Result<Prefix> parse_prefix(std::string_view text) {
    const std::size_t slash = text.find('/');
    if (slash == std::string_view::npos)
        return Error{quoted_ascii(text) + ": the length is missing, as in \"192.0.2.0/24\""};
    Result<Address> address = parse_address(text.substr(0, slash));
    if (!address) return address.error();
    const std::uint32_t bits_max = address->is_ipv4() ? 32 : 128;
    std::uint32_t bits = 0;
    if (!read_number(text.substr(slash + 1), 3, bits) || bits > bits_max)
        return Error{quoted_ascii(text) + ": the length must be a number from 0 to " +
                     std::to_string(bits_max)};
    const Prefix prefix{*address, static_cast<std::uint8_t>(bits)};
    Prefix cleared = prefix;
    const std::size_t kept = bits + (address->is_ipv4() ? mapped_bits : 0U);
    for (std::size_t bit = kept; bit < 128; ++bit)
        cleared.address.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
    if (cleared != prefix)
        return Error{quoted_ascii(text) + " has bits set beyond its length; write \"" +
                     format(cleared) + "\""};
    return prefix;
}

std::string format(const Address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool ipv4 = address.is_ipv4();
    const void* bytes = address.bytes.data() + (ipv4 ? mapped_prefix.size() : 0);
    const char* written = inet_ntop(ipv4 ? AF_INET : AF_INET6, bytes, text.data(), text.size());
    UDPPROXY_ASSERT(written != nullptr);
    return written;
}

std::string format(const Endpoint& endpoint) {
    std::string text = format(endpoint.address);
    if (endpoint.family() == Family::ipv6) {
        if (endpoint.scope != 0) {
            std::array<char, IF_NAMESIZE> name{};
            const bool named = if_indextoname(endpoint.scope, name.data()) != nullptr;
            text += '%' + (named ? std::string{name.data()} : std::to_string(endpoint.scope));
        }
        text = '[' + text + ']';
    }
    return text + ':' + std::to_string(endpoint.port);
}

std::string format(const Prefix& prefix) {
    return format(prefix.address) + '/' + std::to_string(prefix.bits);
}

}  // namespace udpproxy
