// The arithmetic of capacity: what is reserved, what a session takes, and which of the limits that
// follow from it is the smallest.
#include "udpproxy/config/capacity.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace udpproxy {

namespace {

// Number of exact aliases. With more of them one open socket is cheaper than a descriptor for each.
constexpr std::size_t connected_by_default_max = 4;
// Streams, log, signals, DNS sockets, reload, admin.
constexpr std::uint32_t descriptors_of_program = 48 + admin_connections_max;
// Ring or epoll set, eventfd, and two to spare.
constexpr std::uint32_t descriptors_per_shard = 4;
// The limit of the kernel's table of registered files (IORING_MAX_FIXED_FILES).
constexpr std::uint64_t registered_files_max = std::uint64_t{1} << 20;
// A configuration has 4096 listening addresses and source addresses at most. As many again may
// drain.
constexpr std::uint64_t draining_and_serving_max = 8192;
// With many shards each has four times its share of the descriptors: the kernel spreads clients
// evenly, and its table of registered files is memory.
constexpr std::uint64_t descriptor_share_multiple = 4;
constexpr std::uint64_t descriptor_share_least = 65536;
// Of a session, its cells in the table, its client; of a slot, its group, its place in batches; of
// a port pool, its set of ports.
constexpr std::uint64_t bytes_per_session = 384;
constexpr std::uint64_t bytes_per_slot = 512;
constexpr std::uint64_t bytes_per_pool = 8192 + 256;
constexpr std::uint64_t bytes_per_buffer = 1 << 16;
// Of the ledger (docs/ledger.md): header and configuration, a reply group, the ports of a pool.
constexpr std::uint64_t bytes_per_ledger = 33'566'720;
constexpr std::uint64_t bytes_per_record = 256;
constexpr std::uint64_t bytes_per_rests = 262'144;
// For memory outside of tables and buffers: stacks of threads, the heap, the work of a reload.
constexpr std::uint64_t address_space_spared = 128 << 20;
constexpr std::uint64_t descriptors_least = 1024;

/// How many sockets a reply group has.
struct GroupSize {
    std::uint32_t plain = 0;
    std::uint32_t watching = 0;  // for replies from unlisted sources

    explicit GroupSize(const ProxyConfig& config) {
        const bool connected = alias_members_of(config) == AliasMembers::connected;
        const auto aliases = static_cast<std::uint32_t>(config.reply_aliases.size());
        plain = connected ? 1 + aliases : 2;
        watching = connected ? 2 + aliases : 2;
    }
    /// Of the smallest groups that the proxy may have.
    [[nodiscard]] std::uint32_t least(const ProxyConfig& config) const {
        return config.unlisted_replies == UnlistedReplies::all ? watching : plain;
    }
};

struct SessionsByDescriptors {
    std::uint64_t sessions = 0;
    std::string arithmetic;  // can be computed again with a pocket calculator, fractions cut off
};

SessionsByDescriptors sessions_by_descriptors(const ProxyConfig& config, const GroupSize& size,
                                              std::uint64_t free, const std::string& budget) {
    if (config.unlisted_replies != UnlistedReplies::automatic || size.plain == size.watching) {
        const std::uint64_t sessions = free / size.least(config);
        return {sessions,
                fmt::format("{} / {} per session = {}", budget, size.least(config), sessions)};
    }
    // Half of the descriptors go to groups that all watch, the rest to groups of which one in 16
    // does.
    const std::uint64_t first_half = free / 2 / size.watching;
    const std::uint64_t other_half =
        (free - first_half * size.watching) * 16 / (15 * size.plain + size.watching);
    return {first_half + other_half,
            fmt::format("{} = {}; {} / 2 / {} = {} sessions that watch for unlisted sources; ({} - "
                        "{} * {}) * 16 / (15 * {} + {}) = {} of which one in 16 does; {} + {} = {}",
                        budget, free, free, size.watching, first_half, free, first_half,
                        size.watching, size.plain, size.watching, other_half, first_half,
                        other_half, first_half + other_half)};
}

/// What stands in the way of this proxy's number of sessions; empty when nothing does.
std::string complaint_about(const ProxyConfig& config, const ProxyCapacity& capacity,
                            std::uint64_t fit, const MachineLimits& machine) {
    const std::uint32_t ports =
        usable_ports(config.ports.value_or(machine.ephemeral), machine.reserved_ports);
    if (config.sessions_max && *config.sessions_max > fit)
        return fmt::format("sessions_max: {} do not fit: {}; use \"auto\" or at most {}",
                           *config.sessions_max, capacity.arithmetic, fit);
    if (ports < machine.shards)
        return fmt::format(
            "ports: {} for {} shards; each shard has ports of its own, so give at least {}", ports,
            machine.shards, machine.shards);
    if (fit == 0) return "no capacity for a single session: " + capacity.arithmetic;
    return {};
}

}  // namespace

AliasMembers alias_members_of(const ProxyConfig& config) {
    switch (config.alias_filter) {
        case AliasFilter::connected:
            return AliasMembers::connected;
        case AliasFilter::open:
            return config.reply_aliases.empty() ? AliasMembers::connected : AliasMembers::open;
        case AliasFilter::automatic:
            break;
    }
    const auto is_exact = [](const Alias& alias) { return alias.is_exact(); };
    const bool few = config.reply_aliases.size() <= connected_by_default_max;
    return few && std::all_of(config.reply_aliases.begin(), config.reply_aliases.end(), is_exact)
               ? AliasMembers::connected
               : AliasMembers::open;
}

TableSizes table_sizes(const MachineLimits& machine) {
    const std::uint64_t descriptors = std::min(machine.descriptors, registered_files_max);
    const std::uint64_t share =
        std::max(descriptor_share_least, descriptor_share_multiple * descriptors / machine.shards);
    TableSizes sizes;
    sizes.slots = sizes.sessions = static_cast<std::uint32_t>(std::min(descriptors, share));
    sizes.clients = static_cast<std::uint32_t>(descriptors);
    sizes.listeners = sizes.source_bindings = sizes.port_pools =
        static_cast<std::uint32_t>(draining_and_serving_max);
    sizes.buffers_per_leg = machine.shards <= 4 ? 4096 : machine.shards <= 16 ? 2048 : 1024;
    sizes.bytes =
        machine.shards * (sizes.slots * bytes_per_slot + sizes.sessions * bytes_per_session +
                          2 * sizes.buffers_per_leg * bytes_per_buffer) +
        sizes.clients * bytes_per_session + sizes.port_pools * bytes_per_pool;
    sizes.ledger_bytes = bytes_per_ledger + machine.shards * sizes.slots * bytes_per_record +
                         sizes.port_pools * bytes_per_rests;
    return sizes;
}

std::string want_of_ledger(const TableSizes& sizes) {
    if (has_address_space(sizes.bytes + sizes.ledger_bytes + address_space_spared)) return {};
    return fmt::format("RLIMIT_AS leaves no address space for the ledger ({} MB)",
                       sizes.ledger_bytes / 1'000'000);
}

MachineLimits fit_address_space(MachineLimits machine, bool (*fits)(std::size_t)) {
    while (machine.descriptors / 2 >= descriptors_least &&
           !fits(table_sizes(machine).bytes + address_space_spared))
        machine.descriptors /= 2;
    return machine;
}

Capacity compute_capacity(const Config& config, const MachineLimits& machine) {
    std::size_t listeners = 0;
    for (const ProxyConfig& proxy : config.proxies) listeners += proxy.listen.size();
    Capacity capacity;
    capacity.descriptors_reserved =
        descriptors_of_program +
        machine.shards * (descriptors_per_shard + static_cast<std::uint32_t>(listeners));
    // More than the tables hold would be promised to sessions and refused to them.
    const std::uint64_t descriptors = std::min(machine.descriptors, registered_files_max);
    const std::uint64_t free =
        descriptors - std::min<std::uint64_t>(descriptors, capacity.descriptors_reserved);
    const std::string budget =
        fmt::format("({} descriptors - {} reserved)", descriptors, capacity.descriptors_reserved);

    std::uint64_t all = 0;
    std::uint64_t all_descriptors = 0;
    std::uint64_t wanted_descriptors = 0;
    std::uint32_t fewest_members = ~0U;
    for (const ProxyConfig& proxy : config.proxies) {
        const GroupSize size(proxy);
        const SessionsByDescriptors by_descriptors =
            sessions_by_descriptors(proxy, size, free, budget);
        ProxyCapacity& of_proxy = capacity.proxies.emplace_back();
        const PortRange range = proxy.ports.value_or(machine.ephemeral);
        const std::uint32_t ports = usable_ports(range, machine.reserved_ports);
        const std::string spared =
            ports < range.ports()
                ? fmt::format(" ({} reserved ones left out)", range.ports() - ports)
                : std::string{};
        of_proxy.ports = std::uint64_t{ports} * std::max<std::size_t>(1, proxy.source.size());
        const std::uint64_t fit = std::min<std::uint64_t>(
            {by_descriptors.sessions, of_proxy.ports, sessions_per_proxy_max});
        of_proxy.arithmetic = fmt::format("{}; {} ports{}; at most {}", by_descriptors.arithmetic,
                                          of_proxy.ports, spared, sessions_per_proxy_max);
        of_proxy.sessions_max = proxy.sessions_max.value_or(static_cast<std::uint32_t>(fit));
        if (const std::string text = complaint_about(proxy, of_proxy, fit, machine); !text.empty())
            capacity.complaints.push_back(
                fmt::format("{}: proxy \"{}\": {}", proxy.position, proxy.name, text));
        all += of_proxy.sessions_max;
        all_descriptors += std::uint64_t{of_proxy.sessions_max} * size.watching;
        wanted_descriptors += std::uint64_t{proxy.sessions_max.value_or(0)} * size.least(proxy);
        fewest_members = std::min(fewest_members, size.least(proxy));
    }
    // Twice what the sessions need, so that as many groups may cool down.
    capacity.descriptors_max = static_cast<std::uint32_t>(std::min(free, 2 * all_descriptors));
    if (capacity.complaints.empty() && wanted_descriptors > free) {
        capacity.complaints.push_back(
            fmt::format("{}: the proxies' sessions_max together need {} descriptors, but {} - {} = "
                        "{} are there; lower some, or use \"auto\"",
                        config.proxies.front().position, wanted_descriptors, descriptors,
                        capacity.descriptors_reserved, free));
    }
    const std::uint64_t by_descriptors = free / fewest_members;
    capacity.sessions_max =
        config.sessions_max.value_or(static_cast<std::uint32_t>(std::min(all, by_descriptors)));
    if (config.sessions_max && *config.sessions_max > by_descriptors) {
        capacity.complaints.push_back(
            fmt::format("{}: limits.sessions_max: {} do not fit: {} / {} per session = {}; use "
                        "\"auto\" or at most that",
                        config.sessions_max_position, *config.sessions_max, budget, fewest_members,
                        by_descriptors));
    }
    const bool asks_for_no_number =
        !config.sessions_max &&
        std::any_of(config.proxies.begin(), config.proxies.end(),
                    [](const ProxyConfig& proxy) { return !proxy.sessions_max; });
    if (capacity.complaints.empty() && asks_for_no_number && by_descriptors < few_sessions)
        capacity.want_of_descriptors =
            fmt::format("{} sessions at most, for want of descriptors: {} / {} per session",
                        capacity.sessions_max, budget, fewest_members);
    return capacity;
}

}  // namespace udpproxy
