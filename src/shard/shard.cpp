// How a shard is put together: source bindings from sources, port pools from source bindings, and
// the batches of a turn.
#include "udpproxy/shard/shard.hpp"
#include "steps.hpp"

#include <algorithm>

namespace udpproxy {

namespace {

std::vector<SessionTimeouts> timeouts_of(const ShardSetup& setup) {
    std::vector<SessionTimeouts> timeouts;
    for (const ProxySetup& proxy : setup.proxies)
        timeouts.push_back({proxy.idle_timeout, proxy.unassured_timeout});
    timeouts.resize(std::max<std::size_t>(timeouts.size(), setup.proxies_max));
    return timeouts;
}

std::vector<Duration> cooldowns_of(const ShardSetup& setup) {
    std::vector<Duration> cooldowns;
    for (const ProxySetup& proxy : setup.proxies)
        cooldowns.insert(cooldowns.end(), proxy.sources.size(), proxy.port_cooldown);
    return cooldowns;
}

std::vector<Proxy> proxies_of(const ShardSetup& setup,
                              const std::shared_ptr<const Upstream>& no_upstream) {
    std::vector<Proxy> proxies;
    BindingIndex next_binding = 0;
    for (const ProxySetup& from : setup.proxies) {
        Proxy& proxy = proxies.emplace_back(from);
        proxy.first_binding = next_binding;
        proxy.bindings = static_cast<BindingIndex>(from.sources.size());
        next_binding += proxy.bindings;
    }
    ProxySetup vacant;
    vacant.upstream = no_upstream;
    while (proxies.size() < setup.proxies_max) proxies.emplace_back(vacant);
    return proxies;
}

std::vector<SourceBinding> bindings_of(const std::vector<BindingLocation>& locations,
                                       std::uint32_t bindings_max) {
    std::vector<SourceBinding> bindings;
    bindings.reserve(bindings_max);
    for (const BindingLocation& location : locations) {
        SourceBinding& binding = bindings.emplace_back();
        binding.proxy = location.proxy;
        binding.wanted = location.source;
        binding.port_pool = location.port_pool;
        binding.port_range = location.port_range;
    }
    return bindings;
}

/// The addresses known at start. Look-ups keep them up to date, and later source bindings fill in
/// the remaining ones.
PoolSources pool_sources_of(const ShardSetup& setup, std::size_t pools) {
    PoolSources sources(std::max<std::size_t>(pools, setup.port_pools_max));
    for (std::uint32_t pool = 0; pool < pools; ++pool) sources.set(pool, Address{});
    for (const BindingLocation& location : binding_locations(setup.proxies))
        sources.set(location.port_pool, location.source.is_unspecified()
                                            ? setup.proxies[location.proxy].routed_source
                                            : location.source);
    return sources;
}

std::shared_ptr<const KnownEndpoints> known_endpoints_of(const ShardSetup& setup) {
    std::vector<Endpoint> listeners;
    for (const ListenerSetup& listener : setup.listeners) listeners.push_back(listener.endpoint);
    std::vector<std::shared_ptr<const Upstream>> upstreams;
    for (const ProxySetup& proxy : setup.proxies) upstreams.push_back(proxy.upstream);
    return std::make_shared<const KnownEndpoints>(listeners, upstreams);
}

std::vector<PortPool> port_pools_of(const ShardSetup& setup) {
    std::vector<std::vector<PortRange>> ranges;
    for (const BindingLocation& location : binding_locations(setup.proxies)) {
        if (location.port_pool >= ranges.size()) ranges.resize(location.port_pool + 1);
        ranges[location.port_pool].push_back(location.ports);
    }
    std::vector<PortPool> pools;
    pools.reserve(setup.port_pools_max);
    for (const std::vector<PortRange>& pool : ranges)
        pools.emplace_back(pool, setup.shard, setup.shards, setup.ports_start,
                           setup.reserved_ports);
    return pools;
}

}  // namespace

std::vector<BindingLocation> binding_locations(const std::vector<ProxySetup>& proxies) {
    std::vector<BindingLocation> locations;
    std::vector<Address> pools;
    std::vector<std::uint32_t> ranges_in_pool;
    for (std::uint16_t proxy = 0; proxy < proxies.size(); ++proxy) {
        for (const Address& source : proxies[proxy].sources) {
            // A routed source and a listed one may be the same address.
            const Address& routed = proxies[proxy].routed_source;
            const Address& address =
                source.is_unspecified() && !routed.is_unspecified() ? routed : source;
            const auto found = std::find(pools.begin(), pools.end(), address);
            const auto pool = static_cast<std::uint32_t>(found - pools.begin());
            if (found == pools.end()) {
                pools.push_back(address);
                ranges_in_pool.push_back(0);
            }
            locations.push_back(BindingLocation{proxy, source, address, pool,
                                                ranges_in_pool[pool]++, proxies[proxy].ports});
        }
    }
    return locations;
}

Shard::Shard(ShardSetup from)
    : setup(std::move(from)),
      proxies(proxies_of(setup, no_upstream)),
      listeners(setup.listeners.size()),
      known_endpoints(known_endpoints_of(setup)),
      listeners_open(static_cast<std::uint32_t>(setup.listeners.size())),
      table(std::max(setup.table_sessions_max, setup.sessions_max), timeouts_of(setup), setup.key,
            setup.shard, setup.shards),
      bindings(bindings_of(binding_locations(setup.proxies), setup.bindings_max)),
      groups(setup.slots_max, cooldowns_of(setup), setup.bindings_max),
      ports(port_pools_of(setup)),
      pool_sources(pool_sources_of(setup, ports.size())),
      pools_searched_at(std::max<std::size_t>(ports.size(), setup.port_pools_max),
                        Instant{} - port_pool_searched_every),
      upstreams(upstream_versions_max),
      group_of_slot(setup.slots_max),
      counters(proxies.size()),
      departures(2 * std::size_t{setup.buffers_per_leg}),
      dropped(2 * std::size_t{setup.buffers_per_leg}),
      new_clients(std::max<std::size_t>(1, setup.buffers_per_leg / 4 * 3)),
      pending(std::min<std::size_t>(pending_max, setup.buffers_per_leg / 4)),
      resumed(pending.capacity()),
      suspect_groups(suspect_groups_max),
      changed_groups(setup.ledger ? 2 * std::size_t{setup.slots_max} : 0) {
    for (Listener& listener : listeners) listener.open = true;
    const std::size_t listeners_max = std::max<std::size_t>(listeners.size(), setup.listeners_max);
    listeners.reserve(listeners_max);
    setup.listeners.reserve(listeners_max);
    setup.proxies.clear();  // `proxies` holds them from now on
    for (BindingIndex binding = 0; binding < bindings.size(); ++binding)
        groups.set_upstream(binding, proxies[bindings[binding].proxy].setup.upstream.get());
}

Departure& Shard::depart(const Arrival& arrival, Leg leg, std::uint16_t proxy) {
    Departure& departure = departures.append();
    departure = Departure{};  // clears the destination that the entry's last user left
    departure.buffer = arrival.buffer;
    departure.payload = arrival.payload;
    departure.bytes = arrival.bytes;
    departure.segment_bytes = arrival.segment_bytes;
    departure.leg = leg;
    departure.proxy = proxy;
    // DSCP is the upper six bits (RFC 2474), ECN the lower two (RFC 3168); ECN is always carried
    // through.
    departure.tos = proxies[proxy].setup.copy_dscp ? arrival.tos
                                                   : static_cast<std::uint8_t>(arrival.tos & 0x03U);
    return departure;
}

void Shard::drop(const Arrival& arrival, std::uint16_t proxy, Drop reason) {
    counters_of(proxy).drop(reason, arrival.datagrams());
    if (trace.is_on()) trace_dropped(*this, arrival, proxy, reason);
    drops_total += arrival.datagrams();
    dropped.push(arrival.buffer);
}

std::optional<Arrival> Shard::drop_long(const Arrival& arrival, std::uint16_t proxy) {
    const std::uint32_t before_last = (arrival.datagrams() - 1) * arrival.segment_bytes;
    Arrival last = arrival;
    last.payload += before_last;
    last.bytes -= before_last;
    last.segment_bytes = 0;
    if (is_long(last, proxy)) {
        drop(arrival, proxy, Drop::datagram_limit);
        return std::nullopt;
    }
    Arrival others = arrival;
    others.bytes = before_last;
    counters_of(proxy).drop(Drop::datagram_limit, others.datagrams());
    if (trace.is_on()) trace_dropped(*this, others, proxy, Drop::datagram_limit);
    drops_total += others.datagrams();
    return last;
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
    gauges.groups_cooling.set(groups.cooling());
    std::uint64_t leased = 0;
    for (const PortPool& pool : ports) leased += pool.leased();
    gauges.ports_leased.set(leased);
    gauges.longest_probe.set(table.longest_probe());
}

void Shard::report(const Event& event) {
    if (!events.post(event)) counters.events_lost.add(1);
}

}  // namespace udpproxy
