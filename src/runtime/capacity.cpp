// The arithmetic of room.
#include "udpproxy/runtime/capacity.hpp"

#include <fmt/format.h>

#include <algorithm>


namespace udpproxy {

namespace {

constexpr std::size_t connected_by_default_max =
    4;  // exact aliases; beyond, one open socket is cheaper than a descriptor each
constexpr std::uint64_t member_buffer_share =
    4;  // of receive_buffer; the system's default holds less than a millisecond of 1 Gbit/s
constexpr std::uint32_t descriptors_of_program =
    48 + static_cast<std::uint32_t>(
             admin_connections_max);  // streams, log, signals, resolver, reload, admin
constexpr std::uint32_t descriptors_per_shard = 4;  // ring or epoll set, eventfd, and two to spare

std::uint64_t sessions_by_descriptors(const ProxySetup& proxy, std::uint64_t descriptors) {
    const std::uint64_t plain = proxy.upstream->members(false);
    const std::uint64_t watched = proxy.upstream->members(true);
    switch (proxy.watch) {
        case Watch::none:
            return descriptors / plain;
        case Watch::all:
            return descriptors / watched;
        case Watch::spare_capacity:
            break;
    }
    // Half of the descriptors go to groups that all watch, the rest to groups of which one in 16
    // does.
    const std::uint64_t first_half = (descriptors / 2) / watched;
    return first_half + (descriptors - first_half * watched) * 16 / (15 * plain + watched);
}

std::string per_session(const ProxySetup& proxy) {
    if (proxy.watch != Watch::spare_capacity ||
        proxy.upstream->members(false) == proxy.upstream->members(true))
        return fmt::format("{}", proxy.upstream->members(proxy.watch == Watch::all));
    return fmt::format("{} (watching for unlisted sources) or {}", proxy.upstream->members(true),
                       proxy.upstream->members(false));
}

}  // namespace

Rate rate_of(const NewSessions& limit) {
    return Rate{limit.per_second, std::max(1U, limit.burst.value_or(limit.per_second))};
}

std::shared_ptr<const Upstream> upstream_of(const ProxyConfig& config, const Endpoint& endpoint,
                                            std::uint32_t version,
                                            std::vector<std::uint8_t> counter_indices) {
    std::vector<AliasRule> aliases;
    bool all_exact = true;
    for (const Alias& alias : config.reply_aliases) {
        aliases.push_back(AliasRule{alias.prefix, alias.scope, alias.port});
        all_exact = all_exact && aliases.back().is_exact();
    }
    const bool connected = config.alias_filter == AliasFilter::connected ||
                           (config.alias_filter == AliasFilter::automatic && all_exact &&
                            aliases.size() <= connected_by_default_max);
    return std::make_shared<Upstream>(endpoint, std::move(aliases),
                                      connected ? AliasMembers::connected : AliasMembers::open,
                                      version, std::move(counter_indices));
}

Address routed_source_towards(const Endpoint& upstream) {
    return source_towards(upstream, Address::any(upstream.family())).source.address;
}

std::string text_of(const Upstream& upstream, const ProxyConfig& proxy) {
    return upstream.is_resolved() ? format(upstream.endpoint()) : proxy.upstream.text;
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

Room reckon_room(const Config& config, const std::vector<ProxySetup>& proxies,
                 const MachineRoom& machine) {
    std::size_t listeners = 0;
    for (const ProxyConfig& proxy : config.proxies) listeners += proxy.listen.size();
    Room room;
    room.descriptors_reserved =
        descriptors_of_program +
        machine.shards * (descriptors_per_shard + static_cast<std::uint32_t>(listeners));
    const std::uint64_t descriptors = std::min<std::uint64_t>(machine.descriptors, 1U << 24);
    const std::uint64_t free =
        descriptors > room.descriptors_reserved ? descriptors - room.descriptors_reserved : 0;
    const std::string budget =
        fmt::format("({} descriptors - {} reserved)", descriptors, room.descriptors_reserved);

    std::uint64_t all = 0;
    std::uint64_t all_descriptors = 0;
    std::uint64_t wanted_descriptors = 0;
    std::uint32_t fewest_members = ~0U;
    for (std::size_t i = 0; i < proxies.size(); ++i) {
        const ProxySetup& proxy = proxies[i];
        const std::uint64_t ports = std::uint64_t{proxy.ports.ports()} * proxy.sources.size();
        const std::uint64_t by_descriptors = sessions_by_descriptors(proxy, free);
        const std::uint64_t fit =
            std::min<std::uint64_t>({by_descriptors, ports, sessions_per_proxy_max});
        fewest_members =
            std::min(fewest_members, proxy.upstream->members(proxy.watch == Watch::all));
        ProxyRoom& place = room.proxies.emplace_back();
        place.arithmetic =
            fmt::format("{} / {} per session = {}; {} ports; at most {}", budget,
                        per_session(proxy), by_descriptors, ports, sessions_per_proxy_max);
        const std::optional<std::uint32_t> wanted = config.proxies[i].sessions_max;
        place.sessions_max = wanted.value_or(static_cast<std::uint32_t>(fit));
        if (wanted && *wanted > fit) {
            room.complaints.push_back(fmt::format(
                "{}: proxy \"{}\": sessions_max: {} do not fit: {}; use \"auto\" or at most {}",
                config.proxies[i].position, proxy.name, *wanted, place.arithmetic, fit));
        } else if (proxy.ports.ports() < machine.shards) {
            room.complaints.push_back(
                fmt::format("{}: proxy \"{}\": ports: {} for {} shards; each shard has ports of "
                            "its own, so give at least {}",
                            config.proxies[i].position, proxy.name, proxy.ports.ports(),
                            machine.shards, machine.shards));
        } else if (fit == 0) {
            room.complaints.push_back(
                fmt::format("{}: proxy \"{}\": no room for a single session: {}",
                            config.proxies[i].position, proxy.name, place.arithmetic));
        }
        all += place.sessions_max;
        all_descriptors += std::uint64_t{place.sessions_max} * proxy.upstream->members(true);
        if (wanted)
            wanted_descriptors +=
                std::uint64_t{*wanted} * proxy.upstream->members(proxy.watch == Watch::all);
    }
    // Twice what the sessions need, so that as many groups may rest; the kernel's tables of
    // registered files end at 2^20 (IORING_MAX_FIXED_FILES).
    const std::uint64_t table_max =
        (std::uint64_t{1} << 20) - std::min<std::uint64_t>(listeners, 1U << 16);
    room.descriptors_max =
        static_cast<std::uint32_t>(std::min({free, 2 * all_descriptors, table_max}));
    if (room.complaints.empty() && wanted_descriptors > free) {
        room.complaints.push_back(
            fmt::format("{}: the proxies' sessions_max together need {} descriptors, but {} - {} = "
                        "{} are there; lower some, or use \"auto\"",
                        config.proxies.front().position, wanted_descriptors, descriptors,
                        room.descriptors_reserved, free));
    }
    const std::uint64_t by_descriptors = free / fewest_members;
    room.sessions_max =
        config.sessions_max.value_or(static_cast<std::uint32_t>(std::min(all, by_descriptors)));
    if (config.sessions_max && *config.sessions_max > by_descriptors) {
        room.complaints.push_back(
            fmt::format("{}: limits.sessions_max: {} do not fit: {} / {} per session = {}; use "
                        "\"auto\" or at most that",
                        config.sessions_max_position, *config.sessions_max, budget, fewest_members,
                        by_descriptors));
    }
    return room;
}

}  // namespace udpproxy
