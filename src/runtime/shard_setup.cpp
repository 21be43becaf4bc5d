// Decides which shard setting each key of a proxy becomes.
#include "udpproxy/runtime/shard_setup.hpp"

#include <algorithm>

#include "udpproxy/config/capacity.hpp"
#include "udpproxy/host/limits.hpp"

namespace udpproxy {

namespace {

// Default of receive_buffer. The system's own default holds less than a millisecond of 1 Gbit/s.
constexpr std::uint64_t member_buffer_share = 4;

}  // namespace

Rate rate_of(const NewSessions& limit) {
    return Rate{limit.per_second, std::max(1U, limit.burst.value_or(limit.per_second))};
}

std::shared_ptr<const Upstream> upstream_of(const ProxyConfig& config, const Endpoint& endpoint,
                                            std::uint32_t version,
                                            std::vector<std::uint8_t> counter_indices) {
    std::vector<AliasRule> aliases;
    for (const Alias& alias : config.reply_aliases)
        aliases.push_back(AliasRule{alias.prefix, alias.scope, alias.port});
    return std::make_shared<Upstream>(endpoint, std::move(aliases), alias_members_of(config),
                                      version, std::move(counter_indices));
}

Address routed_source_towards(const Endpoint& upstream) {
    return source_towards(upstream, Address::any(upstream.family())).source.address;
}

std::vector<BindingLocation> bindings_wanted(std::uint16_t proxy, const ProxyConfig& config,
                                             const Endpoint& upstream) {
    const Address routed = upstream.port != 0 ? routed_source_towards(upstream) : Address{};
    std::vector<Address> sources = config.source;
    if (sources.empty()) sources.push_back(Address::any(upstream.family()));
    std::vector<BindingLocation> bindings;
    for (const Address& source : sources) {
        BindingLocation& binding = bindings.emplace_back();
        binding.proxy = proxy;
        binding.source = source;
        binding.pool_address =
            source.is_unspecified() && !routed.is_unspecified() ? routed : source;
        binding.ports = config.ports.value_or(ephemeral_ports());
    }
    return bindings;
}

bool same_bindings(const std::vector<BindingLocation>& one,
                   const std::vector<BindingLocation>& other) {
    const auto same = [](const BindingLocation& a, const BindingLocation& b) {
        return a.source == b.source && a.pool_address == b.pool_address && a.ports == b.ports;
    };
    return std::equal(one.begin(), one.end(), other.begin(), other.end(), same);
}

std::string text_of(const Upstream& upstream, const ProxyConfig& proxy) {
    return upstream.is_resolved() && !is_absent_interface(upstream.endpoint().scope)
               ? format(upstream.endpoint())
               : proxy.upstream.text;
}

ProxySettings settings_of(const ProxyConfig& config) {
    ProxySettings settings;
    settings.watch = config.unlisted_replies == UnlistedReplies::all   ? Watch::all
                     : config.unlisted_replies == UnlistedReplies::off ? Watch::none
                                                                       : Watch::spare_capacity;
    settings.port_cooldown = config.port_cooldown;
    settings.idle_timeout = config.idle_timeout;
    settings.unassured_timeout = config.unassured_timeout;
    settings.sessions_per_client_max = config.sessions_per_client_max;
    settings.new_sessions = rate_of(config.new_sessions);
    settings.amplification_limit = config.amplification_limit;
    settings.replies_max = config.replies_max;
    settings.end_after_replies = config.end_after_replies;
    settings.end_after_requests = config.end_after_requests;
    settings.datagram_max = config.datagram_max;
    settings.copy_dscp = config.dscp == DscpPolicy::copy;
    settings.path_mtu = config.path_mtu;
    settings.offload = config.offload == Offload::automatic && trains_supported();
    settings.member_receive_buffer_bytes = config.receive_buffer_bytes / member_buffer_share;
    return settings;
}

ProxySetup setup_of(const ProxyConfig& config, const Endpoint& upstream,
                    const PortRange& ephemeral) {
    ProxySetup setup;
    static_cast<ProxySettings&>(setup) = settings_of(config);
    setup.name = config.name;
    setup.upstream = upstream_of(config, upstream, 1);
    setup.sources = config.source;
    if (setup.sources.empty()) setup.sources.push_back(Address::any(upstream.family()));
    setup.ports = config.ports.value_or(ephemeral);
    return setup;
}

}  // namespace udpproxy
