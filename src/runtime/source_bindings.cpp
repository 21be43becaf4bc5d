// Source bindings and port pools of proxies that come or change: which there must be, which are
// there, and what the shards are brought.
#include <algorithm>

#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

/// What the place's configuration and upstream ask for; pools and ranges are not chosen yet.
std::vector<BindingLocation> Reconfigurer::bindings_wanted(std::uint16_t proxy) const {
    const ProxySlot& slot = proxies_[proxy];
    const Endpoint& upstream = slot.upstream->endpoint();
    const Address routed =
        slot.upstream->is_resolved() ? routed_source_towards(upstream) : Address{};
    std::vector<Address> sources = slot.config.source;
    if (sources.empty()) sources.push_back(Address::any(upstream.family()));
    std::vector<BindingLocation> bindings;
    for (const Address& source : sources) {
        BindingLocation& binding = bindings.emplace_back();
        binding.proxy = proxy;
        binding.source = source;
        binding.pool_address =
            source.is_unspecified() && !routed.is_unspecified() ? routed : source;
        binding.ports = slot.config.ports.value_or(ephemeral_ports());
    }
    return bindings;
}

/// A row of source bindings that no shard uses.
std::optional<BindingIndex> Reconfigurer::find_bindings(std::size_t count) const {
    const SharedUse& use = *bootstrap_.use();
    std::size_t run = 0;
    for (BindingIndex binding = 0; binding < bootstrap_.tables().source_bindings; ++binding) {
        run = use.bindings_held[binding].load(std::memory_order_acquire) == 0 ? run + 1 : 0;
        if (run == count) return binding + 1 - static_cast<BindingIndex>(count);
    }
    return std::nullopt;
}

/// Each source binding's pool and its range in it; `changed` names pools that are new or have a
/// range more. Empty, or why there is no room.
std::string Reconfigurer::find_pools(std::vector<BindingLocation>& bindings,
                                     std::vector<std::uint32_t>& changed) {
    for (BindingLocation& binding : bindings) {
        const auto known = std::find_if(pools_.begin(), pools_.end(), [&](const Pool& pool) {
            return pool.address == binding.pool_address;
        });
        binding.port_pool = static_cast<std::uint32_t>(known - pools_.begin());
        if (known == pools_.end()) {
            if (pools_.size() >= bootstrap_.tables().port_pools)
                return "more source addresses than reloads have room for; it needs a restart";
            pools_.push_back({binding.pool_address, {}});
        }
        std::vector<PortRange>& ranges = pools_[binding.port_pool].ranges;
        const auto range = std::find(ranges.begin(), ranges.end(), binding.ports);
        binding.port_range = static_cast<std::uint32_t>(range - ranges.begin());
        if (range != ranges.end()) continue;
        ranges.push_back(binding.ports);
        if (std::find(changed.begin(), changed.end(), binding.port_pool) == changed.end())
            changed.push_back(binding.port_pool);
    }
    return {};
}

/// Sessions keep the source bindings they have; when the place's are not those it should have, new
/// clients get new ones.
void Reconfigurer::set_source_bindings(std::uint16_t proxy) {
    ProxySlot& slot = proxies_[proxy];
    std::vector<BindingLocation> bindings = bindings_wanted(proxy);
    const auto same = [](const BindingLocation& a, const BindingLocation& b) {
        return a.source == b.source && a.pool_address == b.pool_address && a.ports == b.ports;
    };
    if (std::equal(bindings.begin(), bindings.end(), slot.bindings.begin(), slot.bindings.end(),
                   same))
        return;
    const std::optional<BindingIndex> first = find_bindings(bindings.size());
    std::vector<std::uint32_t> changed;
    const std::string refusal =
        first ? find_pools(bindings, changed)
              : "more sources than reloads have room for until earlier sessions end";
    if (!refusal.empty()) {
        log_.warn("sources_kept", {{"proxy", slot.config.name}, {"reason", refusal}});
        return;
    }
    const auto shards = static_cast<std::uint32_t>(bootstrap_.shards().size());
    for (BindingIndex binding = 0; binding < bindings.size(); ++binding)
        bootstrap_.use()->bindings_held[*first + binding] = shards;
    for (std::uint32_t shard = 0; shard < shards; ++shard) {
        const auto change = std::make_shared<SourceBindingChange>();
        change->first = *first;
        for (const BindingLocation& binding : bindings)
            change->bindings.push_back({binding.source, binding.port_pool, binding.port_range});
        for (const std::uint32_t pool : changed)
            change->pools.push_back(
                {pool, PortPool(pools_[pool].ranges, shard, shards, bootstrap_.ports_start())});
        brought_.push_back(change);
        Command command;
        command.kind = CommandKind::set_source_bindings;
        command.proxy = proxy;
        command.bindings = change;
        bootstrap_.shards()[shard]->send(std::move(command));
    }
    slot.bindings = std::move(bindings);
}

}  // namespace udpproxy
