// Addresses in the forms of the configuration: listen addresses, upstreams, aliases, sources. What
// an address must be to serve as one of them is decided here, from its text alone; check.cpp
// compares addresses with each other.
#include <fmt/format.h>

#include <algorithm>

#include "tree.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

/// The reason why no single host can have this address; empty when one can.
std::string_view unusable(const Address& address) {
    if (address.is_unspecified()) return "the unspecified address";
    if (address.is_multicast()) return "a multicast address";
    if (address.is_broadcast()) return "the broadcast address";
    return {};
}

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }
bool is_letter(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
}

/// RFC 1123 section 2.1, RFC 1035 section 2.3.4: labels of 1 to 63 letters, digits and hyphens, no
/// hyphen at either end, 253 bytes in all. Underscores are accepted as well, because names of
/// containers have them. The last label must not be a number: a mistyped IPv4 address would pass
/// for a name. A dot at the end is accepted; the resolver then ignores resolv.conf's search list.
bool is_host_name(std::string_view name) {
    if (!name.empty() && name.back() == '.') name.remove_suffix(1);
    if (name.empty() || name.size() > 253) return false;
    for (;;) {
        const std::size_t dot = name.find('.');
        const std::string_view label = name.substr(0, dot);
        if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
            return false;
        if (!std::all_of(label.begin(), label.end(), [](char letter) {
                return is_digit(letter) || is_letter(letter) || letter == '-' || letter == '_';
            }))
            return false;
        if (dot == std::string_view::npos)
            return !std::all_of(label.begin(), label.end(), is_digit);
        name.remove_prefix(dot + 1);
    }
}

/// An alias as text, cut into its address or prefix and its port.
struct AliasParts {
    std::string_view host;
    std::optional<std::string_view> port;
};

Result<AliasParts> split_alias(std::string_view text) {
    if (!text.empty() && text.front() == '[') {
        const std::size_t close = text.find(']');
        if (close == std::string_view::npos)
            return Error{in_quotes(text) +
                         ": the closing bracket is missing, as in \"[2001:db8::1]:53\""};
        const AliasParts parts{text.substr(1, close - 1),
                               text.substr(std::min(close + 2, text.size()))};
        if (parts.host.find(':') == std::string_view::npos)
            return Error{in_quotes(text) +
                         ": brackets are for IPv6 addresses; write an IPv4 address without them"};
        if (close + 1 == text.size() || text[close + 1] != ':')
            return Error{fmt::format(
                R"({0}: a colon and a port are missing; write "[{1}]:53", or "[{1}]:*" for any port)",
                in_quotes(text), printable(parts.host))};
        return parts;
    }
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) return AliasParts{text, std::nullopt};
    // Several colons and no brackets are an IPv6 address without a port.
    if (text.find(':', colon + 1) != std::string_view::npos) return AliasParts{text, std::nullopt};
    return AliasParts{text.substr(0, colon), text.substr(colon + 1)};
}

Result<NamedEndpoint> parse_alias_address(std::string_view host) {
    if (host.find(':') != std::string_view::npos)
        return parse_named_endpoint(fmt::format("[{}]:53", host));
    const Result<Address> address = parse_address(host);
    if (!address)
        return Error{address.error().message + "; aliases are addresses and prefixes, not names"};
    return NamedEndpoint{{*address, 0, 0}, {}};
}

Error prefix_without_port(std::string_view text, std::string_view host) {
    const bool ipv6 = host.find(':') != std::string_view::npos;
    const std::string name = ipv6 ? fmt::format("[{}]", host) : std::string{host};
    return Error{fmt::format("{}: a prefix needs a port; write \"{}:53\", or \"{}:*\" for any port",
                             in_quotes(text), name, name)};
}

}  // namespace

bool Alias::is_exact() const noexcept {
    return port.has_value() && prefix.bits == (prefix.address.is_ipv4() ? 32 : 128);
}

Result<void> check_plain(std::string_view text) {
    constexpr std::string_view spaces = " \t";
    constexpr std::string_view scheme_end = "://";
    std::string_view plain = text;
    std::string_view surplus;
    if (const std::size_t first = plain.find_first_not_of(spaces); first != 0 && !plain.empty()) {
        surplus = "a space";
        plain.remove_prefix(std::min(first, plain.size()));
    }
    while (!plain.empty() && spaces.find(plain.back()) != std::string_view::npos) {
        surplus = "a space";
        plain.remove_suffix(1);
    }
    if (const std::size_t end = plain.find(scheme_end); end != std::string_view::npos) {
        surplus = "a scheme";
        plain.remove_prefix(end + scheme_end.size());
        plain = plain.substr(0, plain.find('/'));
    } else if (plain.ends_with("/udp") || plain.ends_with("/tcp")) {
        surplus = "a protocol";
        plain.remove_suffix(4);
    }
    if (surplus.empty()) return {};
    const std::string right = plain.empty() ? "an address" : in_quotes(plain);
    return Error{
        fmt::format("{}: {} has no place here; write {}", in_quotes(text), surplus, right)};
}

Result<std::vector<ListenAddress>> parse_listen(std::string_view text) {
    if (const Result<void> plain = check_plain(text); !plain) return plain.error();
    if (!text.empty() && text.front() == ':' && text.find(':', 1) == std::string_view::npos) {
        const Result<std::uint16_t> port = parse_port(text.substr(1));
        if (!port) return port.error();
        return std::vector<ListenAddress>{
            {Endpoint{Address::any(Family::ipv4), 0, *port}, std::string{text}},
            {Endpoint{Address::any(Family::ipv6), 0, *port}, std::string{text}}};
    }
    if (text.substr(0, 2) == "*:")
        return Error{fmt::format("{}: for every address write \":{}\"", in_quotes(text),
                                 printable(text.substr(2)))};
    if (const Result<std::uint16_t> port = parse_port(text))
        return Error{fmt::format("{} is a port alone; for every address write \":{}\"",
                                 in_quotes(text), *port)};
    const std::string_view host = text.substr(0, text.find(':'));
    const bool is_bracketed = !text.empty() && text.front() == '[';
    if (!is_bracketed && std::count(text.begin(), text.end(), ':') < 2 && !parse_address(host))
        return Error{in_quotes(host) +
                     " is not an address; write address:port, or :port for every address"};
    const Result<NamedEndpoint> named = parse_named_endpoint(text);
    if (!named) return named.error();
    const Address& address = named->endpoint.address;
    if (address.is_multicast() || address.is_broadcast())
        return Error{fmt::format("{} is {}; listen on an address of this host", in_quotes(text),
                                 unusable(address))};
    return std::vector<ListenAddress>{{named->endpoint, std::string{text}, named->interface}};
}

Result<UpstreamAddress> parse_upstream(std::string_view text) {
    if (const Result<void> plain = check_plain(text); !plain) return plain.error();
    UpstreamAddress upstream;
    upstream.text = text;
    const std::size_t colon = text.find(':');
    const std::string_view host = text.substr(0, colon);
    const bool one_colon =
        colon != std::string_view::npos && text.find(':', colon + 1) == std::string_view::npos;
    if (is_host_name(host)) {
        if (colon == std::string_view::npos)
            return Error{
                fmt::format("{}: the port is missing, as in \"{}:53\"", in_quotes(text), text)};
        if (one_colon) {
            const Result<std::uint16_t> port = parse_port(text.substr(colon + 1));
            if (!port) return port.error();
            upstream.host = host;
            upstream.port = *port;
            return upstream;
        }
    }
    if (text.empty() || (one_colon && host.empty()))
        return Error{in_quotes(text) +
                     ": an address or a host name is missing, as in \"192.0.2.1:53\""};
    if (one_colon && host.front() != '[' && !parse_address(host))
        return Error{in_quotes(host) +
                     " is neither an address nor a host name (letters, digits, hyphens, "
                     "underscores and dots)"};
    const Result<NamedEndpoint> named = parse_named_endpoint(text);
    if (!named) return named.error();
    if (const std::string_view reason = unusable(named->endpoint.address); !reason.empty())
        return Error{fmt::format("{} is {}; write an address that one host answers on",
                                 in_quotes(text), reason)};
    upstream.endpoint = named->endpoint;
    upstream.port = named->endpoint.port;
    upstream.interface = named->interface;
    return upstream;
}

Result<Alias> parse_alias(std::string_view text, std::uint16_t upstream_port) {
    if (const Result<void> plain = check_plain(text); !plain) return plain.error();
    const Result<AliasParts> parts = split_alias(text);
    if (!parts) return parts.error();
    Alias alias;
    alias.text = text;
    if (parts->host.find('/') != std::string_view::npos) {
        const Result<Prefix> prefix = parse_prefix(parts->host);
        if (!prefix) return prefix.error();
        if (!parts->port) return prefix_without_port(text, parts->host);
        alias.prefix = *prefix;
    } else {
        const Result<NamedEndpoint> named = parse_alias_address(parts->host);
        if (!named) return named.error();
        const Address& address = named->endpoint.address;
        if (const std::string_view reason = unusable(address); !reason.empty())
            return Error{fmt::format("{} is {}; replies come from the address of one host",
                                     in_quotes(text), reason)};
        alias.prefix = Prefix{address, static_cast<std::uint8_t>(address.is_ipv4() ? 32 : 128)};
        alias.scope = named->endpoint.scope;
        alias.interface = named->interface;
    }
    if (!parts->port) {
        alias.port = upstream_port;
    } else if (*parts->port != "*") {
        const Result<std::uint16_t> port = parse_port(*parts->port);
        if (!port) return Error{port.error().message + ", nor \"*\" for any port"};
        alias.port = *port;
    }
    return alias;
}

Result<Address> parse_source(std::string_view text) {
    if (const Result<void> plain = check_plain(text); !plain) return plain.error();
    Result<Address> address = parse_address(text);
    if (!address) {
        if (parse_endpoint(text))
            return Error{
                in_quotes(text) +
                " has a port; write the address alone (local ports have a key of their own)"};
        return Error{address.error().message + "; write an address of this host"};
    }
    if (const std::string_view reason = unusable(*address); !reason.empty())
        return Error{fmt::format("{} is {}; write an address of this host, or leave the key out",
                                 in_quotes(text), reason)};
    return address;
}

InterfaceNews find_interfaces(Config& config) {
    InterfaceNews news;
    const auto find = [&](const std::string& interface, std::uint32_t& scope) {
        if (interface.empty()) return;
        const std::uint32_t present = scope_of_interface(interface);
        news.is_complete = news.is_complete && present != 0;
        if (present == 0) return;
        news.has_changed = news.has_changed || present != scope;
        scope = present;
    };
    for (ProxyConfig& proxy : config.proxies) {
        for (ListenAddress& listen : proxy.listen) find(listen.interface, listen.endpoint.scope);
        if (proxy.upstream.endpoint) find(proxy.upstream.interface, proxy.upstream.endpoint->scope);
        for (Alias& alias : proxy.reply_aliases) find(alias.interface, alias.scope);
    }
    return news;
}

std::string_view family_name(Family family) { return family == Family::ipv4 ? "IPv4" : "IPv6"; }

}  // namespace udpproxy
