// An upstream that is configured as a name is checked here when it is resolved; one that is
// configured as an address was checked with the file, in check.cpp.
#include "udpproxy/config/upstream_choice.hpp"

#include <fmt/format.h>

namespace udpproxy {

std::optional<Family> upstream_family(const ProxyConfig& proxy) {
    if (!proxy.source.empty()) return proxy.source.front().family();
    if (!proxy.reply_aliases.empty()) return proxy.reply_aliases.front().prefix.address.family();
    return std::nullopt;
}

namespace {

/// Why the resolved address cannot be the upstream; empty when it can.
std::string fault_of_resolved(const Config& config, const ProxyConfig& proxy,
                              const Endpoint& upstream) {
    if (upstream.address.is_unspecified() || upstream.address.is_multicast() ||
        upstream.address.is_broadcast())
        return "not the address of a host";
    for (const Alias& alias : proxy.reply_aliases) {
        if (alias.is_exact() && alias.prefix.address == upstream.address &&
            alias.port == upstream.port)
            return "listed in reply_aliases too; take it out there";
    }
    const bool is_loopback = upstream.address.is_ipv4() ? upstream.address.bytes[12] == 127
                                                        : upstream.address == *parse_address("::1");
    for (const ProxyConfig& other : config.proxies) {
        for (const ListenAddress& listen : other.listen) {
            const bool meets =
                listen.endpoint == upstream ||
                (is_loopback && listen.endpoint.address == Address::any(upstream.family()));
            if (meets && listen.endpoint.port == upstream.port)
                return fmt::format("the listener of proxy \"{}\": a forwarding loop", other.name);
        }
    }
    return {};
}

}  // namespace

UpstreamChoice choose_upstream(const Config& config, const ProxyConfig& proxy,
                               const std::vector<Endpoint>& found,
                               const std::optional<Endpoint>& preferred) {
    UpstreamChoice choice;
    for (const Endpoint& endpoint : found) {
        const std::string fault = fault_of_resolved(config, proxy, endpoint);
        if (!fault.empty()) {
            if (choice.refused.empty())
                choice.refused = fmt::format("upstream \"{}\" is {}: {}", proxy.upstream.text,
                                             format(endpoint), fault);
        } else if (!choice.endpoint || endpoint == preferred) {
            choice.endpoint = endpoint;
        }
    }
    return choice;
}

}  // namespace udpproxy
