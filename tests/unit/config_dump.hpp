// A configuration as text with the value of every key, so that tests can compare two of them and
// see the difference.
#pragma once

#include <sstream>
#include <string>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/config/keys.hpp"

namespace udpproxy {

/// What was configured, with the interface that was found in it.
inline std::string configured(const std::string& text, const std::string& interface) {
    return '(' + text + (interface.empty() ? "" : " on " + interface) + ')';
}

inline void dump_form(std::ostream& text, std::string_view name, const ProxyConfig& proxy) {
    if (name == "name") {
        text << proxy.name;
    } else if (name == "listen") {
        for (const ListenAddress& address : proxy.listen)
            text << ' ' << format(address.endpoint) << configured(address.text, address.interface);
    } else if (name == "upstream") {
        const UpstreamAddress& upstream = proxy.upstream;
        text << (upstream.endpoint ? format(*upstream.endpoint) : "name " + upstream.host)
             << " port " << upstream.port << configured(upstream.text, upstream.interface);
    } else if (name == "reply_aliases") {
        for (const Alias& alias : proxy.reply_aliases)
            text << ' ' << format(alias.prefix) << '%' << alias.scope << ':'
                 << (alias.port ? static_cast<int>(*alias.port) : -1)
                 << configured(alias.text, alias.interface);
    } else if (name == "source") {
        for (const Address& address : proxy.source) text << ' ' << format(address);
    } else {
        UDPPROXY_ASSERT(name == "ports");
        text << (proxy.ports ? proxy.ports->first : 0) << '-'
             << (proxy.ports ? proxy.ports->last : 0);
    }
}

inline void dump_form(std::ostream& text, std::string_view name, const Config& config) {
    UDPPROXY_ASSERT(name == "listen");
    if (config.admin.listen) text << format(*config.admin.listen);
}

template <class Owner>
void dump_keys(std::ostream& text, const Owner& owner) {
    constexpr bool is_proxy = std::is_same_v<Owner, ProxyConfig>;
    for (const ConfigKey& key : config_keys()) {
        if ((key.section == "proxy") != is_proxy) continue;
        text << key.section << '.' << key.name << ' ';
        const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
        if (member == nullptr || member->text == nullptr)
            dump_form(text, key.name, owner);
        else
            text << member->text(key, owner);
        text << '\n';
    }
}

inline std::string dump(const Config& config) {
    std::ostringstream text;
    dump_keys(text, config);
    for (const ProxyConfig& proxy : config.proxies) dump_keys(text, proxy);
    return text.str();
}

}  // namespace udpproxy
