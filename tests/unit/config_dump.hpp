// A configuration as text with every field but the positions, so that tests can compare two of them
// and see the difference.
#pragma once

#include <sstream>
#include <string>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

inline std::string dump(const ProxyConfig& proxy) {
    std::ostringstream text;
    text << "name " << proxy.name << "\nlisten";
    for (const ListenAddress& address : proxy.listen)
        text << ' ' << format(address.endpoint) << '(' << address.text << ')';
    text << "\nupstream "
         << (proxy.upstream.endpoint ? format(*proxy.upstream.endpoint)
                                     : "name " + proxy.upstream.host)
         << " port " << proxy.upstream.port << '(' << proxy.upstream.text << ")\nreply_aliases";
    for (const Alias& alias : proxy.reply_aliases)
        text << ' ' << format(alias.prefix) << '%' << alias.scope << ':'
             << (alias.port ? static_cast<int>(*alias.port) : -1) << '(' << alias.text << ')';
    text << "\non_change " << static_cast<int>(proxy.on_change) << "\nalias_filter "
         << static_cast<int>(proxy.alias_filter) << "\nunlisted_replies "
         << static_cast<int>(proxy.unlisted_replies) << "\nsource";
    for (const Address& address : proxy.source) text << ' ' << format(address);
    text << "\nports " << (proxy.ports ? proxy.ports->first : 0) << '-'
         << (proxy.ports ? proxy.ports->last : 0);
    text << "\nport_cooldown " << proxy.port_cooldown.count() << "\nidle_timeout "
         << proxy.idle_timeout.count() << "\nunassured_timeout " << proxy.unassured_timeout.count();
    text << "\nsessions_max " << proxy.sessions_max.value_or(0) << "\ndscp "
         << static_cast<int>(proxy.dscp) << "\nsessions_per_client_max "
         << proxy.sessions_per_client_max << "\nnew_sessions " << proxy.new_sessions.per_second
         << " burst " << proxy.new_sessions.burst.value_or(0) << "\namplification_limit "
         << proxy.amplification_limit << "\nreplies_max " << proxy.replies_max << "\npath_mtu "
         << static_cast<int>(proxy.path_mtu) << "\noffload " << static_cast<int>(proxy.offload)
         << "\nreceive_buffer " << proxy.receive_buffer_bytes << "\nsend_buffer "
         << proxy.send_buffer_bytes << '\n';
    return text.str();
}

inline std::string dump(const Config& config) {
    std::ostringstream text;
    text << "engine " << static_cast<int>(config.engine) << "\nshards " << config.shards.value_or(0)
         << "\ncpu_pinning " << config.cpu_pinning << "\nlevel "
         << static_cast<int>(config.log_level) << "\nformat " << static_cast<int>(config.log_format)
         << "\nfile " << config.log_file << "\nsessions " << config.log_sessions
         << "\nsessions_max " << config.sessions_max.value_or(0) << "\nnew_sessions "
         << config.new_sessions.per_second << " burst " << config.new_sessions.burst.value_or(0)
         << "\nadmin " << config.admin.socket << ' ' << config.admin.group << ' '
         << (config.admin.listen ? format(*config.admin.listen) : "") << '\n';
    for (const ProxyConfig& proxy : config.proxies) text << dump(proxy);
    return text.str();
}

}  // namespace udpproxy
