// Chooses source bindings and port pools for proxies that are added or changed: which are needed,
// which exist, and which the shards get. Bindings that no shard holds are reused.
#include <algorithm>

#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

// Beyond this number, ranges without a source binding are replaced by new ones. The cooldown of
// their ports is forgotten then.
constexpr std::size_t ranges_remembered = 16;

}  // namespace

/// Marks rows that shards have released as free, unless a grant has taken them since.
void Reconfigurer::note_held(Sources& sources) const {
    const SharedUse& use = *bootstrap_.use();
    sources.held.resize(sources.rows.size());
    for (std::size_t row = 0; row < sources.rows.size(); ++row)
        sources.held[row] = use.bindings_held[row].load(std::memory_order_acquire) > 0;
}

/// Chooses a run of free rows, and for each source a pool and a range in it. Returns an empty
/// string, or what has run out.
std::string Reconfigurer::grant_bindings(Sources& sources, std::vector<BindingLocation> bindings,
                                         BindingGrant& grant) const {
    const TableSizes& tables = bootstrap_.tables();
    std::size_t run = 0;
    BindingIndex end = 0;
    for (; end < tables.source_bindings && run < bindings.size(); ++end)
        run = end < sources.rows.size() && sources.held[end] ? 0 : run + 1;
    if (run < bindings.size())
        return "more source addresses are there, with those that drain, than there is room for; "
               "try again when earlier sessions have ended";
    if (sources.rows.size() < end) {
        sources.rows.resize(end);
        sources.held.resize(end, false);
    }
    grant.first = end - static_cast<BindingIndex>(bindings.size());
    ++sources.grants;

    const auto is_used = [&](std::uint32_t pool, std::optional<std::uint32_t> range) {
        for (std::size_t row = 0; row < sources.rows.size(); ++row)
            if (sources.held[row] && sources.rows[row].port_pool == pool &&
                (!range || sources.rows[row].port_range == *range))
                return true;
        return false;
    };
    for (std::size_t i = 0; i < bindings.size(); ++i) {
        BindingLocation& binding = bindings[i];
        auto pool =
            std::find_if(sources.pools.begin(), sources.pools.end(),
                         [&](const Pool& known) { return known.address == binding.pool_address; });
        bool is_fresh = false;
        if (pool == sources.pools.end()) {
            is_fresh = true;
            if (sources.pools.size() < tables.port_pools) {
                pool = sources.pools.insert(pool, Pool{});
            } else {
                // Take the pool that was unused for longest: its ports have passed their cooldown.
                for (auto other = sources.pools.begin(); other != sources.pools.end(); ++other)
                    if ((pool == sources.pools.end() || other->used < pool->used) &&
                        !is_used(static_cast<std::uint32_t>(other - sources.pools.begin()), {}))
                        pool = other;
                if (pool == sources.pools.end())
                    return "every port pool is in use; try again when earlier sessions have ended";
            }
            *pool = Pool{binding.pool_address, {}, 0};
        }
        pool->used = sources.grants;
        binding.port_pool = static_cast<std::uint32_t>(pool - sources.pools.begin());
        const auto known = std::find(pool->ranges.begin(), pool->ranges.end(), binding.ports);
        binding.port_range = static_cast<std::uint32_t>(known - pool->ranges.begin());
        if (known == pool->ranges.end()) {
            for (std::uint32_t range = 0;
                 pool->ranges.size() >= ranges_remembered &&
                 binding.port_range == pool->ranges.size() && range < pool->ranges.size();
                 ++range)
                if (!is_used(binding.port_pool, range)) binding.port_range = range;
            if (binding.port_range == pool->ranges.size())
                pool->ranges.push_back(binding.ports);
            else
                pool->ranges[binding.port_range] = binding.ports;
            grant.changes.push_back({binding.port_pool, is_fresh});
        }
        sources.rows[grant.first + i] = binding;
        sources.held[grant.first + i] = true;
    }
    grant.bindings = std::move(bindings);
    return {};
}

/// Sessions keep their source bindings; new clients get the new ones.
void Reconfigurer::bring_bindings(std::uint16_t proxy, BindingGrant grant) {
    const auto shards = static_cast<std::uint32_t>(bootstrap_.shards().size());
    for (BindingIndex binding = 0; binding < grant.bindings.size(); ++binding)
        state_.newly_held.push_back(&bootstrap_.use()->bindings_held[grant.first + binding]);
    const std::vector<PortRange> reserved = reserved_ports();
    for (std::uint32_t shard = 0; shard < shards; ++shard) {
        const auto change = std::make_shared<SourceBindingChange>();
        change->first = grant.first;
        for (const BindingLocation& binding : grant.bindings)
            change->bindings.push_back({binding.source, binding.port_pool, binding.port_range});
        for (const BindingGrant::Change& changed : grant.changes)
            change->pools.push_back({changed.pool,
                                     PortPool(state_.sources.pools[changed.pool].ranges, shard,
                                              shards, bootstrap_.ports_start(), reserved),
                                     changed.is_fresh});
        state_.brought.push_back(change);
        Command command;
        command.kind = CommandKind::set_source_bindings;
        command.proxy = proxy;
        command.bindings = change;
        state_.outbox[shard].push_back(std::move(command));
    }
    state_.proxies[proxy].first_binding = grant.first;
    state_.proxies[proxy].bindings = std::move(grant.bindings);
}

/// Called when the proxy's upstream has got an address: its route may have another source address.
void Reconfigurer::set_source_bindings(std::uint16_t proxy) {
    const ProxySlot& slot = state_.proxies[proxy];
    std::vector<BindingLocation> wanted =
        bindings_wanted(proxy, slot.config, slot.upstream->endpoint());
    if (same_bindings(wanted, slot.bindings)) return;
    Sources sources = state_.sources;
    note_held(sources);
    BindingGrant grant;
    if (const std::string reason = grant_bindings(sources, std::move(wanted), grant);
        !reason.empty()) {
        log_.warn("sources_kept", {{"proxy", slot.config.name}, {"reason", reason}});
        return;
    }
    state_.sources = std::move(sources);
    bring_bindings(proxy, std::move(grant));
}

}  // namespace udpproxy
