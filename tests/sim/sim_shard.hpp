// SimShard: a shard in a SimWorld with a small proxy on it, the way most tests want it.
#pragma once

#include <algorithm>

#include "sim/sim_world.hpp"
#include "udpproxy/shard/loop.hpp"

namespace udpproxy::sim {

inline Endpoint at(std::string_view text) { return *parse_endpoint(text); }

/// 10.0.0.254:53, which also answers from .253 and .252.
inline std::shared_ptr<const Upstream> small_upstream(
    AliasMembers members = AliasMembers::connected) {
    std::vector<AliasRule> aliases;
    for (const char* alias : {"10.0.0.253", "10.0.0.252"})
        aliases.push_back(AliasRule{Prefix{*parse_address(alias), 32}, 0, 53});
    return std::make_shared<Upstream>(at("10.0.0.254:53"), std::move(aliases), members);
}

/// 10.1.0.1:53 in front of 10.0.0.254:53, which also answers from .253 and .252; ports 20000 to
/// 20099; a group is four sockets, one of them open.
inline ShardSetup small_setup() {
    ShardSetup setup;
    ProxySetup proxy;
    proxy.name = "dns";
    proxy.upstream = small_upstream();
    proxy.watch = Watch::all;
    proxy.sources = {Address::any(Family::ipv4)};
    proxy.ports = PortRange{20000, 20099};
    proxy.port_cooldown = std::chrono::seconds{10};
    proxy.idle_timeout = std::chrono::minutes{5};
    proxy.unassured_timeout = std::chrono::seconds{30};
    proxy.sessions_max = 64;
    setup.proxies.push_back(proxy);
    setup.listeners.push_back(ListenerSetup{0, at("10.1.0.1:53")});
    setup.sessions_max = 64;
    setup.descriptors_max = 400;
    setup.slots_max = 401;
    setup.buffers_per_leg = 256;
    setup.report_sessions = true;
    setup.key = SipKey{1, 2};
    return setup;
}

inline std::size_t sources_of(const ShardSetup& setup) {
    std::size_t sources = 0;
    for (const ProxySetup& proxy : setup.proxies) sources += proxy.sources.size();
    return sources;
}

/// Whether each proxy's arrivals are its departures, its drops, and what waits.
inline bool accounts_balance(Shard& shard) {
    for (std::uint16_t proxy = 0; proxy < shard.proxies.size(); ++proxy) {
        const ProxyCounters& counters = shard.counters.proxies[proxy];
        std::uint64_t accounted =
            counters.departures_request.read() + counters.departures_reply.read();
        for (const Counter& drop : counters.drops) accounted += drop.read();
        for (const NewClient& each : shard.new_clients)
            if (each.proxy == proxy) accounted += each.arrival.datagrams();
        for (const PendingDeparture& each : shard.pending)
            if (each.departure.proxy == proxy) accounted += each.departure.datagrams();
        if (counters.arrivals_request.read() + counters.arrivals_reply.read() != accounted)
            return false;
    }
    return true;
}

class SimShard {
public:
    explicit SimShard(ShardSetup setup = small_setup(), std::uint64_t seed = 1)
        : world(std::make_shared<SimWorld>(seed)) {
        for (const ListenerSetup& listener : setup.listeners)
            world->listeners.push_back(SimListener{listener.endpoint, {}});
        // Slots that commands may give to listeners; the test sets their endpoints.
        while (world->listeners.size() < setup.listeners_max)
            world->listeners.push_back(SimListener{{}, {}, false});
        make_loop(std::move(setup));
    }

    /// Another process goes on: the shard that was is gone, its sockets are in world->left.
    void go_on(ShardSetup setup, Adoption& adoption) {
        make_loop(std::move(setup));
        loop->adopt(adoption);
    }

    void make_loop(ShardSetup setup) {
        if (!setup.use)
            setup.use = std::make_shared<SharedUse>(
                std::max<std::size_t>(setup.proxies.size(), setup.proxies_max),
                std::max<std::size_t>(sources_of(setup), setup.port_pools_max), setup.sessions_max,
                setup.key, 64, 64, setup.shards);
        const std::uint32_t slots_max = setup.slots_max;
        const std::uint32_t buffers = setup.buffers_per_leg;
        loop = std::make_unique<Loop<SimBackend, SimClock>>(
            std::move(setup), SimBackend(world, slots_max, buffers), SimClock{world});
        loop->shard().source_towards = [kernel = world](const Endpoint& to, const Address& wanted) {
            return kernel->source_towards(to, wanted);
        };
    }

    /// Turns; time stands still meanwhile. Whoever has advanced it far, or sends many new clients,
    /// sees what follows once the shard has caught up.
    void turns(int count = 1) {
        for (int i = 0; i < count; ++i) {
            loop->turn();
            while (loop->is_catching_up() || loop->shard().admission_bound_met) loop->turn();
        }
    }
    void advance(Duration by) { world->now += by; }

    void ask(const Endpoint& client, std::string payload, std::uint8_t tos = 0) {
        world->client_sends(client, at("10.1.0.1:53"), std::move(payload), tos);
    }
    /// What the service has got since the last call.
    std::vector<Packet> asked() { return std::exchange(world->at_upstream, {}); }
    /// What clients have got since the last call.
    std::vector<Packet> answered() { return std::exchange(world->at_clients, {}); }

    [[nodiscard]] Shard& shard() { return loop->shard(); }
    [[nodiscard]] ProxyCounters& counters(std::uint16_t proxy = 0) {
        return loop->shard().counters.proxies[proxy];
    }
    [[nodiscard]] std::uint64_t dropped(Drop reason, std::uint16_t proxy = 0) {
        return counters(proxy).dropped(reason);
    }

    std::shared_ptr<SimWorld> world;
    std::unique_ptr<Loop<SimBackend, SimClock>> loop;
};

}  // namespace udpproxy::sim
