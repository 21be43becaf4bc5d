// Lanes and port pools of proxies that come or change: which there must be, which are there, and what the shards are brought.
#include <algorithm>

#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

/// What the place's configuration and upstream ask for; pools and ranges are not chosen yet.
std::vector<LanePlace> Operation::lanes_wanted(std::uint16_t proxy) const {
    const ProxyPlace& place = proxies_[proxy];
    const Endpoint& upstream = place.upstream->endpoint();
    const Address routed = place.upstream->is_resolved() ? routed_source_towards(upstream) : Address{};
    std::vector<Address> sources = place.config.source;
    if (sources.empty()) sources.push_back(Address::any(upstream.family()));
    std::vector<LanePlace> lanes;
    for (const Address& source : sources) {
        LanePlace& lane = lanes.emplace_back();
        lane.proxy = proxy;
        lane.source = source;
        lane.pool_address = source.is_unspecified() && !routed.is_unspecified() ? routed : source;
        lane.ports = place.config.ports.value_or(ephemeral_ports());
    }
    return lanes;
}

/// A row of lanes that no shard uses.
std::optional<PoolLane> Operation::find_lanes(std::size_t count) const {
    const SharedUse& use = *start_.use();
    std::size_t run = 0;
    for (PoolLane lane = 0; lane < start_.lanes_max(); ++lane) {
        run = use.lanes_held[lane].load(std::memory_order_acquire) == 0 ? run + 1 : 0;
        if (run == count) return lane + 1 - static_cast<PoolLane>(count);
    }
    return std::nullopt;
}

/// Each lane's pool and its range in it; `changed` names pools that are new or have a range more. Empty, or why there is no room.
std::string Operation::find_pools(std::vector<LanePlace>& lanes, std::vector<std::uint32_t>& changed) {
    for (LanePlace& lane : lanes) {
        const auto known = std::find_if(pools_.begin(), pools_.end(), [&](const Pool& pool) { return pool.address == lane.pool_address; });
        lane.port_pool = static_cast<std::uint32_t>(known - pools_.begin());
        if (known == pools_.end()) {
            if (pools_.size() >= start_.port_pools_max()) return "more source addresses than reloads have room for; it needs a restart";
            pools_.push_back({lane.pool_address, {}});
        }
        std::vector<PortRange>& ranges = pools_[lane.port_pool].ranges;
        const auto range = std::find(ranges.begin(), ranges.end(), lane.ports);
        lane.port_range = static_cast<std::uint32_t>(range - ranges.begin());
        if (range != ranges.end()) continue;
        ranges.push_back(lane.ports);
        if (std::find(changed.begin(), changed.end(), lane.port_pool) == changed.end()) changed.push_back(lane.port_pool);
    }
    return {};
}

/// Sessions keep the lanes they have; when the place's are not those it should have, newcomers get new ones.
void Operation::set_lanes(std::uint16_t proxy) {
    ProxyPlace& place = proxies_[proxy];
    std::vector<LanePlace> lanes = lanes_wanted(proxy);
    const auto same = [](const LanePlace& a, const LanePlace& b) {
        return a.source == b.source && a.pool_address == b.pool_address && a.ports == b.ports;
    };
    if (std::equal(lanes.begin(), lanes.end(), place.lanes.begin(), place.lanes.end(), same)) return;
    const std::optional<PoolLane> first = find_lanes(lanes.size());
    std::vector<std::uint32_t> changed;
    const std::string refusal = first ? find_pools(lanes, changed) : "more sources than reloads have room for until earlier sessions end";
    if (!refusal.empty()) {
        log_.warn("sources_kept", {{"proxy", place.config.name}, {"reason", refusal}});
        return;
    }
    const auto shards = static_cast<std::uint32_t>(start_.shards().size());
    for (PoolLane lane = 0; lane < lanes.size(); ++lane) start_.use()->lanes_held[*first + lane] = shards;
    for (std::uint32_t shard = 0; shard < shards; ++shard) {
        const auto change = std::make_shared<LaneChange>();
        change->first = *first;
        for (const LanePlace& lane : lanes) change->lanes.push_back({lane.source, lane.port_pool, lane.port_range});
        for (const std::uint32_t pool : changed)
            change->pools.push_back({pool, PortPool(pools_[pool].ranges, shard, shards, start_.ports_start())});
        brought_.push_back(change);
        Command command;
        command.kind = CommandKind::set_lanes;
        command.proxy = proxy;
        command.lanes = change;
        start_.shards()[shard]->tell(std::move(command));
    }
    place.lanes = std::move(lanes);
}

}  // namespace udpproxy
