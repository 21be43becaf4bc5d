// Values of the configuration and of messages as text, and addresses as bytes. What is accepted is
// accepted again when it is printed, and is the same; an error is one line. The first byte chooses
// between text and bytes.
#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/config/values.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::fuzz {

namespace {

template <class Parse>
void parse_and_print(std::string_view text, Parse&& parse) {
    const auto value = parse(text);
    if (!value) {
        UDPPROXY_ASSERT(!value.error().message.empty() && is_one_line(value.error().message));
        return;
    }
    const auto again = parse(format(*value));
    UDPPROXY_ASSERT(again && *again == *value);
}

/// An interface by number may be printed by name; both must mean the same.
void read_text(std::string_view text) {
    parse_and_print(text, parse_address);
    parse_and_print(text, parse_endpoint);
    parse_and_print(text, parse_prefix);
    parse_and_print(text, parse_source);
    if (const auto duration = parse_duration(text)) {
        UDPPROXY_ASSERT(*duration >= Duration::zero());
        const auto again = parse_duration(format_duration(*duration));
        // Below 1 us, and at the largest number, nothing of the unit is left.
        if (duration->count() % 1000 == 0) UDPPROXY_ASSERT(again && *again == *duration);
    }
    if (const auto size = parse_size(text)) {
        const auto again = parse_size(format_size(*size));
        UDPPROXY_ASSERT(again && *again == *size);
    }
    if (const auto port = parse_port(text)) UDPPROXY_ASSERT(std::to_string(*port) == text);
    if (const auto range = parse_port_range(text))
        UDPPROXY_ASSERT(range->first >= 1 && range->first <= range->last);
    if (const auto listen = parse_listen(text)) {
        UDPPROXY_ASSERT(listen->size() == (text.front() == ':' ? 2 : 1));
        for (const ListenAddress& each : *listen)
            UDPPROXY_ASSERT(each.text == text && each.endpoint.port != 0 &&
                            !each.endpoint.address.is_multicast());
    }
    if (const auto upstream = parse_upstream(text)) {
        UDPPROXY_ASSERT(upstream->port != 0 && upstream->text == text);
        UDPPROXY_ASSERT(upstream->endpoint.has_value() == upstream->host.empty());
        if (upstream->endpoint && !is_absent_interface(upstream->endpoint->scope)) {
            const auto again = parse_upstream(format(*upstream->endpoint));
            UDPPROXY_ASSERT(again && again->endpoint == upstream->endpoint);
        }
    }
    if (const auto alias = parse_alias(text, 53)) {
        UDPPROXY_ASSERT(alias->prefix.contains(alias->prefix.address));
        if (alias->is_exact() && !is_absent_interface(alias->scope)) {
            const auto again =
                parse_alias(format(Endpoint{alias->prefix.address, alias->scope, *alias->port}), 9);
            UDPPROXY_ASSERT(again && again->prefix == alias->prefix && again->port == alias->port &&
                            again->scope == alias->scope);
        }
    } else {
        UDPPROXY_ASSERT(is_one_line(alias.error().message));
    }
}

bool bit(const Address& address, std::size_t index) {
    return (address.bytes[index / 8] >> (7 - index % 8) & 1) != 0;
}

void read_bytes(Input& input) {
    const Address address = input.address();
    const auto parsed = parse_address(format(address));
    UDPPROXY_ASSERT(parsed && *parsed == address);

    Endpoint endpoint{address, 0, input.number<std::uint16_t>()};
    if (address.is_link_local()) endpoint.scope = input.number<std::uint32_t>();
    SocketName name{};
    const socklen_t length = write_socket_name(endpoint, name);
    UDPPROXY_ASSERT(length == (address.is_ipv4() ? sizeof name.ipv4 : sizeof name.ipv6));
    UDPPROXY_ASSERT(read_socket_name(name) == endpoint);

    // Containment, bit by bit.
    const bool ipv4 = address.is_ipv4();
    const Prefix prefix{address, static_cast<std::uint8_t>(input.below(ipv4 ? 33 : 129))};
    Address other = input.flag() ? input.address() : address;
    const std::size_t changed = input.below(128);
    other.bytes[changed / 8] ^= static_cast<std::uint8_t>(1U << (7 - changed % 8));
    bool agrees = other.family() == address.family();
    const std::size_t first = ipv4 ? 96 : 0;
    for (std::size_t i = first; i < first + prefix.bits; ++i)
        agrees = agrees && bit(address, i) == bit(other, i);
    UDPPROXY_ASSERT(prefix.contains(other) == agrees);
    UDPPROXY_ASSERT(prefix.contains(address));
}

}  // namespace

void addresses(Bytes bytes) {
    Input input(bytes);
    if (input.flag())
        read_bytes(input);
    else
        read_text(input.rest());
}

}  // namespace udpproxy::fuzz
