// Putting a shard together: lanes from sources, port pools from lanes, and the batches of a turn.
#include "udpproxy/shard/shard.hpp"

#include <algorithm>

namespace udpproxy {

namespace {

std::vector<SessionTimeouts> timeouts_of(const ShardSetup& setup) {
    std::vector<SessionTimeouts> timeouts;
    for (const ProxySetup& proxy : setup.proxies) timeouts.push_back({proxy.idle_timeout, proxy.unassured_timeout});
    return timeouts;
}

std::vector<Duration> rests_of(const ShardSetup& setup) {
    std::vector<Duration> rests;
    for (const ProxySetup& proxy : setup.proxies) rests.insert(rests.end(), proxy.sources.size(), proxy.port_rest);
    return rests;
}

std::vector<Proxy> proxies_of(const ShardSetup& setup) {
    std::vector<Proxy> proxies;
    PoolLane next_lane = 0;
    for (const ProxySetup& from : setup.proxies) {
        Proxy& proxy = proxies.emplace_back(from);
        proxy.first_lane = next_lane;
        proxy.lanes = static_cast<PoolLane>(from.sources.size());
        next_lane += proxy.lanes;
    }
    return proxies;
}

/// One lane per proxy and source; lanes with the same source share a port pool, so that no port is ever leased twice.
std::vector<SourceLane> lanes_of(const ShardSetup& setup) {
    std::vector<SourceLane> lanes;
    std::vector<Address> pools;
    std::vector<std::uint32_t> ranges_in_pool;
    for (std::uint16_t proxy = 0; proxy < setup.proxies.size(); ++proxy) {
        for (const Address& source : setup.proxies[proxy].sources) {
            // A routed source and a listed one may be the same address.
            const Address& routed = setup.proxies[proxy].routed_source;
            const Address& address = source.is_unspecified() && !routed.is_unspecified() ? routed : source;
            const auto found = std::find(pools.begin(), pools.end(), address);
            const auto pool = static_cast<std::size_t>(found - pools.begin());
            if (found == pools.end()) {
                pools.push_back(address);
                ranges_in_pool.push_back(0);
            }
            SourceLane& lane = lanes.emplace_back();
            lane.proxy = proxy;
            lane.wanted = source;
            lane.port_pool = static_cast<std::uint32_t>(pool);
            lane.port_range = ranges_in_pool[pool]++;
        }
    }
    return lanes;
}

/// What is known at start; look-ups keep it up to date.
std::vector<Address> pool_sources_of(const ShardSetup& setup, const std::vector<SourceLane>& lanes) {
    std::vector<Address> sources;
    for (const SourceLane& lane : lanes) {
        if (lane.port_pool >= sources.size()) sources.resize(lane.port_pool + 1);
        sources[lane.port_pool] = lane.wanted.is_unspecified() ? setup.proxies[lane.proxy].routed_source : lane.wanted;
    }
    return sources;
}

std::vector<PortPool> port_pools_of(const ShardSetup& setup, const std::vector<SourceLane>& lanes) {
    std::vector<std::vector<PortRange>> ranges;
    for (const SourceLane& lane : lanes) {
        if (lane.port_pool >= ranges.size()) ranges.resize(lane.port_pool + 1);
        ranges[lane.port_pool].push_back(setup.proxies[lane.proxy].ports);
    }
    std::vector<PortPool> pools;
    for (const std::vector<PortRange>& pool : ranges) pools.emplace_back(pool, setup.shard, setup.shards, setup.ports_start);
    return pools;
}

}  // namespace

Shard::Shard(ShardSetup from)
    : setup(std::move(from)),
      proxies(proxies_of(setup)),
      table(setup.sessions_max, timeouts_of(setup), setup.key, setup.shard, setup.shards),
      lanes(lanes_of(setup)),
      groups(setup.slots_max, rests_of(setup)),
      ports(port_pools_of(setup, lanes)),
      pool_sources(pool_sources_of(setup, lanes)),
      upstreams(upstream_versions_max),
      group_of_slot(setup.slots_max, no_index),
      counters(setup.proxies.size()),
      departures(2 * std::size_t{setup.buffers_per_leg}),
      dropped(2 * std::size_t{setup.buffers_per_leg}),
      strangers(std::max<std::size_t>(1, setup.buffers_per_leg / 4 * 3)),
      pending(std::min<std::size_t>(pending_max, setup.buffers_per_leg / 4)),
      resumed(pending.capacity()),
      astray(astray_max) {
    setup.proxies.clear();  // they live in `proxies` from now on
    for (PoolLane lane = 0; lane < lanes.size(); ++lane) groups.set_upstream(lane, proxies[lanes[lane].proxy].setup.upstream.get());
}

Departure& Shard::depart(const Arrival& arrival, Leg leg, std::uint16_t proxy) {
    Departure& departure = departures.append();
    departure.buffer = arrival.buffer;
    departure.payload = arrival.payload;
    departure.bytes = arrival.bytes;
    departure.segment_bytes = arrival.segment_bytes;
    departure.interface_index = 0;
    departure.leg = leg;
    departure.proxy = proxy;
    // DSCP is the upper six bits (RFC 2474), ECN the lower two (RFC 3168); ECN is always carried through.
    departure.tos = proxies[proxy].setup.copy_dscp ? arrival.tos : static_cast<std::uint8_t>(arrival.tos & 0x03U);
    return departure;
}

void Shard::drop(const Arrival& arrival, std::uint16_t proxy, Drop reason) {
    counters_of(proxy).drop(reason, arrival.datagrams());
    drops_total += arrival.datagrams();
    dropped.push(arrival.buffer);
}

void Shard::cut(Departure& departure, std::uint32_t datagrams, Drop reason) {
    const std::uint32_t dropped_datagrams = departure.datagrams() - datagrams;
    departure.bytes = datagrams * departure.segment_bytes;
    counters_of(departure.proxy).drop(reason, dropped_datagrams);
    drops_total += dropped_datagrams;
}

void Shard::note_gauges() {
    gauges.sessions.set(table.size());
    gauges.groups.set(groups.size());
    gauges.groups_resting.set(groups.resting());
    std::uint64_t leased = 0;
    for (const PortPool& pool : ports) leased += pool.leased();
    gauges.ports_leased.set(leased);
    gauges.longest_probe.set(table.longest_probe());
}

void Shard::report(const Event& event) {
    if (!events.post(event)) counters.events_lost.add(1);
}

}  // namespace udpproxy
