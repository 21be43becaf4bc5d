// What a shard refuses and keeps: limits of clients, pace and replies, loops through our own ports,
// datagrams that the kernel has no room for, and sessions whose source address has moved. Over a
// simulated kernel with virtual time.
#include <doctest/doctest.h>

#include <cerrno>

#include "shard/steps.hpp"
#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

const Endpoint client = at("192.0.2.7:4000");
const Endpoint upstream = at("10.0.0.254:53");

Endpoint numbered(const char* address, std::uint32_t number) {
    return Endpoint{*parse_address(address), 0, static_cast<std::uint16_t>(1000 + number)};
}

/// A capacity of `sessions`, with ports and descriptors for all of them.
ShardSetup ample_setup(std::uint32_t sessions) {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, static_cast<std::uint16_t>(20000 + 2 * sessions)};
    setup.proxies[0].sessions_max = sessions;
    setup.sessions_max = sessions;
    setup.descriptors_max = 8 * sessions;
    setup.slots_max = setup.descriptors_max + 1;
    setup.buffers_per_leg = 4096;
    return setup;
}

void ask_from(SimShard& sim, const char* address, std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = first; i < first + count; ++i) sim.ask(numbered(address, i), "x");
    sim.turns(static_cast<int>(count / admissions_per_turn) + 2);
}

/// The group that the client's next datagram leaves from.
Endpoint group_of(SimShard& sim, const Endpoint& asking) {
    sim.asked();
    sim.ask(asking, "question");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    return asked[0].from;
}

}  // namespace

TEST_CASE(
    "a client has as many sessions as sessions_per_client_max says, and another when one has "
    "ended") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sessions_per_client_max = 3;
    SimShard sim(setup);
    ask_from(sim, "192.0.2.7", 0, 5);
    ask_from(sim, "192.0.2.8", 0, 1);
    CHECK(sim.shard().table.size() == 4);
    CHECK(sim.dropped(Drop::client_limit) == 2);
    sim.advance(31s);
    sim.turns(2);
    ask_from(sim, "192.0.2.7", 0, 5);
    CHECK(sim.shard().table.size() == 3);
    CHECK(sim.dropped(Drop::client_limit) == 4);
}

TEST_CASE("no session is evicted in favour of a client that may have no more") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sessions_per_client_max = 64;
    SimShard sim(setup);
    ask_from(sim, "192.0.2.7", 0, 64);
    REQUIRE(sim.shard().table.size() == 64);
    sim.advance(2s);
    ask_from(sim, "192.0.2.7", 64, 10);
    CHECK(sim.dropped(Drop::client_limit) == 10);
    CHECK(sim.counters().sessions_evicted.read() == 0);
    ask_from(sim, "192.0.2.8", 0, 1);
    CHECK(sim.counters().sessions_evicted.read() == 1);
}

namespace {

/// Two shards that count against the same limits. Time passes for both.
struct TwoShards {
    explicit TwoShards(ShardSetup setup) {
        setup.shards = 2;
        setup.use = std::make_shared<SharedUse>(1, 1, setup.sessions_max, setup.key, 64, 64, 2);
        first = std::make_unique<SimShard>(setup, 1);
        setup.shard = 1;
        second = std::make_unique<SimShard>(setup, 2);
        first->shard().wake_others = [this] { ++second_woken; };
        second->shard().wake_others = [this] { ++first_woken; };
    }
    void advance(Duration by) {
        first->advance(by);
        second->advance(by);
    }
    void turns(int count = 1) {
        for (int i = 0; i < count; ++i) {
            first->turns();
            second->turns();
        }
    }
    /// Turns until nothing waits.
    void pass(Duration time) {
        for (Duration passed{}; passed < time; passed += 1ms) {
            advance(1ms);
            turns();
        }
    }
    [[nodiscard]] bool asks() const {
        return first->shard().setup.use->eviction_requests.are_any();
    }

    std::unique_ptr<SimShard> first, second;
    int first_woken = 0;
    int second_woken = 0;
};

ShardSetup one_session_setup() {
    ShardSetup setup = small_setup();
    setup.proxies[0].sessions_max = 1;
    return setup;
}

}  // namespace

TEST_CASE("a session of one shard is evicted for a new client of another") {
    // Each shard looked among its own sessions only: with four shards none of six new clients were
    // served where one shard served all of them.
    for (const bool of_all : {false, true}) {
        CAPTURE(of_all);
        ShardSetup setup = small_setup();
        (of_all ? setup.sessions_max : setup.proxies[0].sessions_max) = 1;
        TwoShards shards(setup);
        for (std::uint32_t i = 0; i < 6; ++i) {
            SimShard& here = *(i % 2 == 0 ? shards.first : shards.second);
            here.ask(numbered("192.0.2.7", i), "x");
            shards.turns(3);
            CHECK(here.asked().size() == 1);
            shards.advance(1500ms);
            shards.turns();
        }
        CHECK(shards.first->counters().sessions_evicted.read() == 3);
        CHECK(shards.second->counters().sessions_evicted.read() == 2);
        CHECK(shards.first->dropped(Drop::session_limit) == 0);
        CHECK(shards.second->dropped(Drop::session_limit) == 0);
        CHECK(shards.first_woken == 3);
        CHECK(shards.second_woken == 2);
        CHECK_FALSE(shards.asks());
    }
}

TEST_CASE("a group of one shard cools down no longer when another lacks its descriptors") {
    ShardSetup setup = small_setup();
    setup.descriptors_max = 4;  // one group
    TwoShards shards(setup);
    shards.first->ask(numbered("192.0.2.7", 1), "x");
    shards.turns(3);
    REQUIRE(shards.first->asked().size() == 1);
    shards.advance(31s);  // unassured, so it ends; its group cools down
    shards.turns(3);
    REQUIRE(shards.first->shard().table.size() == 0);
    shards.second->ask(numbered("192.0.2.7", 2), "x");
    shards.pass(50ms);
    CHECK(shards.second->asked().size() == 1);
    // An unassured session's as well.
    shards.advance(1500ms);
    shards.first->ask(numbered("192.0.2.7", 3), "x");
    shards.pass(50ms);
    CHECK(shards.first->asked().size() == 1);
    CHECK(shards.second->counters().sessions_evicted.read() == 1);
}

TEST_CASE("a new client waits for other shards a moment only, and only a few at a time") {
    TwoShards shards(one_session_setup());
    shards.first->ask(numbered("192.0.2.7", 0), "x");
    shards.turns(3);
    // Idle for less than a second.
    for (std::uint32_t i = 1; i <= 100; ++i) shards.second->ask(numbered("192.0.2.8", i), "x");
    shards.turns(3);
    CHECK(shards.second->dropped(Drop::session_limit) == 100 - other_shards_waiting_max);
    CHECK(shards.second->shard().new_clients.size() == other_shards_waiting_max);
    CHECK(shards.asks());
    shards.pass(101ms);
    CHECK(shards.second->dropped(Drop::session_limit) == 100);
    CHECK(shards.first->counters().sessions_evicted.read() == 0);
    CHECK_FALSE(shards.asks());
    CHECK(shards.first_woken <= 6);
}

TEST_CASE("a client that waits for descriptors of other shards holds up none behind it") {
    // Each turn tried the first two again, and those behind them waited for half a second.
    ShardSetup setup = small_setup();
    setup.slots_max = 5;  // the kernel has no more descriptors than these
    TwoShards shards(setup);
    shards.second->ask(numbered("192.0.2.7", 0), "x");
    shards.turns(3);
    REQUIRE(shards.second->asked().size() == 1);
    for (std::uint32_t i = 1; i <= 100; ++i) shards.second->ask(numbered("192.0.2.8", i), "x");
    for (int i = 0; i < 100; ++i) shards.second->loop->turn();
    CHECK(shards.second->dropped(Drop::descriptor_limit) == 100 - other_shards_waiting_max);
    for (int i = 0; i < 130; ++i) {
        shards.advance(1ms);
        shards.second->loop->turn();
    }
    CHECK(shards.second->dropped(Drop::descriptor_limit) == 100);
    CHECK(shards.second->shard().new_clients.empty());
}

TEST_CASE(
    "further datagrams of a client that waits for other shards take no more room than others") {
    TwoShards shards(one_session_setup());
    shards.first->ask(numbered("192.0.2.7", 0), "x");
    shards.turns(3);
    for (int i = 0; i < 100; ++i) shards.second->ask(numbered("192.0.2.8", 1), "x");
    shards.turns(3);
    CHECK(shards.second->shard().new_clients.size() == other_shards_waiting_max);
    shards.advance(1s);
    shards.turns();
    shards.pass(50ms);
    CHECK(shards.second->asked().size() == other_shards_waiting_max);
}

TEST_CASE("where every session is assured, no other shard is asked") {
    TwoShards shards(one_session_setup());
    for (int datagram = 0; datagram < 2; ++datagram) {
        shards.first->ask(numbered("192.0.2.7", 0), "x");
        shards.turns(3);
        for (const Packet& asked : shards.first->asked())
            shards.first->world->service_sends(asked.to, asked.from, "y");
        shards.turns(3);
    }
    REQUIRE(shards.first->counters().sessions_assured.read() == 1);
    shards.advance(2s);
    shards.second->ask(numbered("192.0.2.8", 1), "x");
    shards.second->turns(2);
    CHECK(shards.second->dropped(Drop::session_limit) == 1);
    CHECK(shards.first_woken == 0);
}

TEST_CASE("evictions for other shards keep the pace of all evictions") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20079};
    setup.proxies[0].sessions_max = 64;  // of 80 ports: 2 evictions at once, then 1 a second
    setup.descriptors_max = 4 * 54;
    TwoShards shards(setup);
    ask_from(*shards.first, "192.0.2.7", 0, 30);
    REQUIRE(shards.first->shard().table.size() == 30);
    ask_from(*shards.second, "192.0.2.7", 100, 24);
    REQUIRE(shards.second->shard().table.size() == 24);
    // The second shard's own are assured, so that it has none to evict.
    for (const Packet& asked : shards.second->asked())
        shards.second->world->service_sends(asked.to, asked.from, "y");
    shards.turns();
    ask_from(*shards.second, "192.0.2.7", 100, 24);
    REQUIRE(shards.second->counters().sessions_assured.read() == 24);
    shards.advance(2s);
    shards.turns();
    for (std::uint32_t i = 0; i < 10; ++i) shards.second->ask(numbered("192.0.2.8", i), "x");
    shards.pass(50ms);
    CHECK(shards.first->counters().sessions_evicted.read() == 2);
}

TEST_CASE("groups of a port pool are not searched again at once after a search in vain") {
    // With thousands of source bindings such a search is long, and each refused client made one.
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20000};
    setup.proxies.push_back(setup.proxies[0]);
    setup.proxies[1].port_cooldown = 5ms;
    setup.proxies[1].unassured_timeout = 100ms;
    setup.listeners.push_back({1, at("10.1.0.1:54")});
    SimShard sim(setup);
    sim.world->client_sends(numbered("192.0.2.7", 1), at("10.1.0.1:54"), "x");
    sim.turns();
    REQUIRE(sim.asked().size() == 1);
    // Ends within a tick of the wheel; then its group cools down for 5 ms.
    while (sim.shard().groups.cooling() == 0) {
        sim.advance(10ms);
        sim.turns();
    }
    sim.ask(numbered("192.0.2.7", 2), "in vain");
    sim.turns();
    CHECK(sim.dropped(Drop::ports_exhausted) == 1);
    sim.advance(6ms);
    sim.ask(numbered("192.0.2.7", 3), "not searched");
    sim.turns();
    CHECK(sim.dropped(Drop::ports_exhausted) == 2);
    sim.advance(4ms);
    sim.ask(numbered("192.0.2.7", 4), "found");
    sim.turns(4);
    CHECK(sim.dropped(Drop::ports_exhausted) == 2);
}

TEST_CASE("nobody is evicted for a client of another shard that is gone, or served by now") {
    TwoShards shards(one_session_setup());
    shards.first->ask(numbered("192.0.2.7", 0), "x");
    shards.turns(3);
    shards.second->ask(numbered("192.0.2.8", 1), "x");
    shards.second->turns(2);
    REQUIRE(shards.asks());
    SUBCASE("it gave up") {
        shards.second->advance(150ms);
        shards.second->turns(2);
        CHECK(shards.second->dropped(Drop::session_limit) == 1);
        shards.first->advance(2s);
        shards.first->turns(2);
        CHECK(shards.first->counters().sessions_evicted.read() == 0);
    }
    SUBCASE("the limit is no longer met") {
        shards.first->shard().proxies[0].setup.sessions_max = 2;
        shards.second->shard().proxies[0].setup.sessions_max = 2;
        shards.first->advance(2s);
        shards.first->turns(2);
        CHECK(shards.first->counters().sessions_evicted.read() == 0);
        shards.second->turns(2);
        CHECK(shards.second->asked().size() == 1);
    }
    CHECK_FALSE(shards.asks());
}

TEST_CASE("however many sources there are, a turn looks up a few of them") {
    // 256 proxies with 16 sources each made turns of 20 ms.
    ShardSetup setup = small_setup();
    setup.proxies[0].sources.clear();
    setup.proxies[0].ports = PortRange{20000, 20000};
    for (std::uint32_t source = 1; source <= 16; ++source)
        setup.proxies[0].sources.push_back(Address::ipv4(0x0a010200U + source));
    const ProxySetup first = setup.proxies[0];
    for (std::uint16_t proxy = 1; proxy < 32; ++proxy) {
        setup.proxies.push_back(first);
        setup.listeners.push_back(ListenerSetup{proxy, numbered("10.1.0.1", proxy)});
    }
    setup.sessions_max = 1024;
    setup.descriptors_max = 4096;
    setup.slots_max = 4200;
    SimShard sim(setup);
    int lookups = 0;
    sim.shard().source_towards = [&](const Endpoint& to, const Address& wanted) {
        ++lookups;
        return sim.world->source_towards(to, wanted);
    };
    // Ports for 16 sessions in all.
    for (std::uint16_t round = 0; round < 3; ++round) {
        for (std::uint16_t proxy = 1; proxy < 32; ++proxy)
            sim.world->client_sends(numbered("192.0.2.7", proxy + 100U * round),
                                    numbered("10.1.0.1", proxy), "x");
        for (int turn = 0; turn < 100; ++turn) {
            lookups = 0;
            sim.loop->turn();
            CHECK(lookups <= static_cast<int>(admission_lookups_per_turn + 16));
        }
        CHECK(sim.shard().new_clients.empty());
        sim.advance(1500ms);
    }
}

TEST_CASE("with a limit for each client, a host beyond sessions_max is one counted drop") {
    ShardSetup setup = small_setup();
    setup.sessions_max = 4;
    setup.proxies[0].sessions_per_client_max = 2;
    SimShard sim(setup);
    for (std::uint32_t host = 1; host <= 5; ++host)
        sim.ask(Endpoint{Address::ipv4(0xc0000200U + host), 0, 4000}, "x");
    sim.turns(3);
    CHECK(sim.shard().table.size() == 4);
    CHECK(sim.dropped(Drop::session_limit) == 1);
    CHECK(sim.shard().setup.use->client_counts.clients() == 4);
    // Nothing was left behind by the one that was refused.
    sim.advance(31s);
    sim.turns(2);
    CHECK(sim.shard().setup.use->client_counts.clients() == 0);
    CHECK(sim.shard().setup.use->sessions.read() == 0);
}

TEST_CASE("a client that is refused at any step gives back all that was taken for it before") {
    ShardSetup setup = small_setup();
    setup.sessions_max = 8;
    setup.proxies[0].sessions_per_client_max = 4;
    setup.proxies[0].new_sessions = setup.new_sessions = Rate{1, 8};
    SimShard sim(setup);
    const auto nothing_is_taken = [&] {
        const SharedUse& use = *sim.shard().setup.use;
        CHECK(use.sessions.read() == 0);
        CHECK(use.proxies[0].sessions.read() == 0);
        CHECK(use.unassured.read() == 0);
        CHECK(use.descriptors.read() == 0);
        CHECK(sim.shard().setup.use->client_counts.clients() == 0);
        CHECK(sim.shard().ports[0].leased() == 0);
    };
    const std::pair<OpeningOutcome, Drop> failures[] = {
        {{OpeningStep::socket, ENOMEM}, Drop::group_failed},
        {{OpeningStep::bind, EADDRNOTAVAIL}, Drop::source_unavailable},
        {{OpeningStep::connect, ENETUNREACH}, Drop::upstream_unroutable},
    };
    for (const auto& [outcome, reason] : failures) {
        sim.world->next_opening = outcome;
        sim.ask(client, "x");
        sim.turns();
        CHECK(sim.dropped(reason) == 1);
        nothing_is_taken();
        sim.advance(source_check_every);
    }
    sim.shard().setup.descriptors_max = 3;  // a group is four
    sim.ask(client, "x");
    sim.turns();
    CHECK(sim.dropped(Drop::descriptor_limit) == 1);
    nothing_is_taken();
    sim.shard().setup.descriptors_max = 400;
    ask_from(sim, "192.0.2.7", 0, 4);
    ask_from(sim, "192.0.2.8", 0, 4);  // every token is there still
    CHECK(sim.shard().table.size() == 8);
}

TEST_CASE(
    "new sessions begin at the pace that is set, of the proxy and of all, and known clients are "
    "not held back") {
    for (const bool of_all : {false, true}) {
        CAPTURE(of_all);
        ShardSetup setup = small_setup();
        (of_all ? setup.new_sessions : setup.proxies[0].new_sessions) = Rate{10, 20};
        SimShard sim(setup);
        ask_from(sim, "192.0.2.7", 0, 30);
        CHECK(sim.shard().table.size() == 20);
        CHECK(sim.dropped(Drop::session_rate) == 10);
        sim.advance(1s);
        ask_from(sim, "192.0.2.7", 0, 40);
        CHECK(sim.shard().table.size() == 30);
        CHECK(sim.dropped(Drop::session_rate) == 20);
        CHECK(sim.asked().size() == 20 + 30);
    }
}

TEST_CASE("a new client that is refused for another reason takes no token") {
    ShardSetup setup = small_setup();
    setup.proxies[0].new_sessions = Rate{1, 2};
    setup.new_sessions = Rate{1, 2};
    SimShard sim(setup);
    sim.world->source_error = ENETUNREACH;
    ask_from(sim, "192.0.2.7", 0, 10);
    CHECK(sim.dropped(Drop::source_unavailable) == 10);
    sim.world->source_error = 0;
    sim.advance(source_check_every);
    ask_from(sim, "192.0.2.7", 0, 2);
    CHECK(sim.shard().table.size() == 2);
}

TEST_CASE("half of the capacity is for the clients that come first, of one address too") {
    SimShard sim(ample_setup(5000));
    ask_from(sim, "192.0.2.7", 0, 2500);
    CHECK(sim.shard().table.size() == 2500);
    CHECK(sim.dropped(Drop::source_rate) == 0);
}

TEST_CASE(
    "while capacity is short one source gets its share, one site its own, and others come in "
    "beside them") {
    SimShard sim(ample_setup(8000));
    for (std::uint32_t host = 0; host < 40; ++host) {
        const std::string address = "198.51." + std::to_string(host) + ".1";
        ask_from(sim, address.c_str(), 0, 101);
    }
    REQUIRE(sim.shard().table.size() == 4040);
    REQUIRE(sim.dropped(Drop::source_rate) == 0);
    ask_from(sim, "192.0.2.7", 0, 1500);
    CHECK(sim.shard().table.size() == 4040 + 1000);
    CHECK(sim.dropped(Drop::source_rate) == 500);
    ask_from(sim, "192.0.2.8", 0, 1500);
    CHECK(sim.shard().table.size() == 4040 + 2000);
    ask_from(sim, "192.0.2.9", 0, 1500);  // the site's quarter is used up
    CHECK(sim.shard().table.size() == 4040 + 2000);
    ask_from(sim, "203.0.113.1", 0, 100);
    CHECK(sim.shard().table.size() == 4040 + 2100);
}

TEST_CASE("sessions that are assured do not make capacity short") {
    SimShard sim(ample_setup(1000));
    for (std::uint32_t i = 0; i < 600; ++i) {
        const Endpoint asking = numbered("192.0.2.7", i);
        REQUIRE(sim.world->service_sends(upstream, group_of(sim, asking), "reply"));
        sim.turns();
        sim.ask(asking, "again");
        sim.turns();
    }
    CHECK(sim.shard().setup.use->unassured.read() == 0);
    ask_from(sim, "192.0.2.8", 0, 399);
    CHECK(sim.dropped(Drop::source_rate) == 0);
    CHECK(sim.shard().setup.use->unassured.read() == 399);
}

TEST_CASE("a flood of new clients leaves ports for the clients that come after it") {
    ShardSetup setup = ample_setup(200);
    setup.descriptors_max = 850;  // none for cooling groups: they close, and their ports cool down
    SimShard sim(setup);
    std::uint32_t number = 0;
    for (int tenth = 0; tenth < 300; ++tenth) {
        for (int i = 0; i < 50; ++i, ++number)
            sim.ask(Endpoint{Address::ipv4(number * 2654435761U), 0, 1000}, "x");
        sim.turns(2);
        sim.advance(100ms);
    }
    CHECK(sim.counters().sessions_evicted.read() > 400);
    CHECK(sim.dropped(Drop::ports_exhausted) == 0);
    sim.advance(3s);  // ten may be ended for ten new clients by then
    sim.turns(2);
    sim.asked();
    for (std::uint32_t i = 0; i < 10; ++i) sim.ask(numbered("203.0.113.1", i), "after");
    for (int i = 0; i < 20; ++i) sim.turns();
    CHECK(sim.asked().size() == 10);
}

namespace {

/// One proxy with two sources of two ports each, and a client for each port: the first and third at
/// the first source, the second and fourth at the other.
ShardSetup two_sources_setup(Duration cooldown) {
    ShardSetup setup = small_setup();
    setup.proxies[0].sources = {*parse_address("10.0.0.1"), *parse_address("10.0.0.2")};
    setup.proxies[0].ports = PortRange{20000, 20001};
    setup.proxies[0].port_cooldown = cooldown;
    return setup;
}

bool has_session(SimShard& sim, std::uint32_t number) {
    const Endpoint who = numbered("192.0.2.7", number);
    const ClientKey key{who.address, Address{}, 0, who.port, 0};
    return sim.shard().table.find(sim.shard().table.hash(key), key).has_value();
}

}  // namespace

// Each of the next three was decided by the first source binding, whatever the others had.
TEST_CASE("no session is evicted for a port while another source has a free one") {
    SimShard sim(two_sources_setup(10s));
    ask_from(sim, "192.0.2.7", 0, 3);
    sim.advance(2s);
    sim.shard().proxies[0].next_binding = 0;  // whose two ports are taken
    ask_from(sim, "192.0.2.7", 3, 1);
    CHECK(sim.counters().sessions_evicted.read() == 0);
    CHECK(sim.dropped(Drop::ports_exhausted) == 0);
    CHECK(sim.shard().table.size() == 4);
}

TEST_CASE("no group is closed for descriptors while another source has one that is ready") {
    ShardSetup setup = two_sources_setup(10s);
    setup.descriptors_max = 4 * 2;
    SimShard sim(setup);
    ask_from(sim, "192.0.2.7", 0, 2);
    sim.advance(31s);
    sim.turns();
    sim.advance(11s);
    ask_from(sim, "192.0.2.7", 0, 1);         // takes the group at the first source
    sim.shard().proxies[0].next_binding = 0;  // which has none that is ready now
    ask_from(sim, "192.0.2.7", 1, 1);
    CHECK(sim.shard().table.size() == 2);
    CHECK(sim.counters().groups_opened.read() == 2);
    CHECK(sim.counters().groups_reused.read() == 2);
    CHECK(sim.counters().groups_closed.read() == 0);
}

TEST_CASE(
    "ports that other programs hold at one source cost a new client one turn, not its place") {
    SimShard sim(two_sources_setup(10s));
    for (std::uint16_t port = 20000; port < 20002; ++port)
        sim.world->taken.insert(Endpoint{*parse_address("10.0.0.1"), 0, port});
    sim.ask(client, "question");
    sim.turns(2);
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].from.address == *parse_address("10.0.0.2"));
}

TEST_CASE("the session that is evicted for a port is one that holds such a port") {
    // The least recently active one was evicted, though its port was of another source.
    SimShard sim(two_sources_setup(0s));
    for (std::uint32_t number : {1U, 0U, 2U}) {
        sim.shard().proxies[0].next_binding = number % 2;
        ask_from(sim, "192.0.2.7", number, 1);
        sim.advance(1ms);
    }
    sim.advance(2s);
    SourceBinding& other = sim.shard().bindings[1];
    other.error = ENETUNREACH;  // it has ports, and no use for them
    other.checked_at = sim.world->now;
    ask_from(sim, "192.0.2.7", 3, 1);
    CHECK(sim.dropped(Drop::ports_exhausted) == 0);
    CHECK(has_session(sim, 3));
    CHECK(has_session(sim, 1));
    CHECK_FALSE(has_session(sim, 0));
    CHECK(sim.counters().sessions_evicted.read() == 1);
}

TEST_CASE("sessions are evicted for ports at the pace of all evictions, and never most of them") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20009};
    setup.proxies[0].sessions_max = 10;
    setup.proxies[0].port_cooldown = 1min;
    setup.proxies[0].unassured_timeout = 5min;
    setup.sessions_max = 64;
    SimShard sim(setup);
    ask_from(sim, "192.0.2.7", 0, 10);
    sim.shard().proxies[0].setup.sessions_max = 64;
    std::uint32_t next = 100;
    for (int second = 1; second <= 20; ++second) {
        sim.advance(1s);
        ask_from(sim, "192.0.2.8", next, 10);
        next += 10;
        CHECK(sim.counters().sessions_evicted.read() <= static_cast<std::uint64_t>(second));
    }
    CHECK(sim.counters().sessions_evicted.read() == 5);
    CHECK(sim.dropped(Drop::ports_exhausted) == 200);
}

TEST_CASE(
    "groups stand ready as pool_min says, new clients take them without a system call, and they "
    "are opened anew") {
    ShardSetup setup = ample_setup(100);
    setup.pool_min = 10;
    SimShard sim(setup);
    const auto let_prewarm = [&] {
        for (int i = 0; i < 10; ++i) {
            sim.advance(1ms);
            sim.turns();
        }
    };
    let_prewarm();
    CHECK(sim.shard().groups.cooling() == 10);
    CHECK(sim.counters().groups_opened.read() == 10);
    ask_from(sim, "192.0.2.7", 0, 10);
    CHECK(sim.shard().table.size() == 10);
    CHECK(sim.counters().groups_reused.read() == 10);
    let_prewarm();
    CHECK(sim.shard().groups.cooling() == 10);
    CHECK(sim.counters().groups_opened.read() == 20);
    // Sessions end: their groups come on top, and close when they are not reused.
    sim.advance(32s);
    sim.turns(3);
    CHECK(sim.shard().groups.cooling() == 20);
    sim.advance(surplus_after + 10s);
    sim.turns(3);
    CHECK(sim.shard().groups.cooling() == 10);
    CHECK(sim.counters().groups_opened.read() == 20);
    CHECK_FALSE(sim.shard().prewarming);
}

TEST_CASE("the pool takes only what is to spare, and gives it to new clients") {
    ShardSetup setup = small_setup();
    setup.pool_min = 1000;
    SimShard sim(setup);
    for (int i = 0; i < 2000; ++i) {
        sim.advance(1ms);
        sim.turns();
    }
    const std::uint32_t ready = sim.shard().groups.cooling();
    CHECK(ready > 64);
    CHECK(ready * 4 <= setup.descriptors_max / 4 * 3);
    ask_from(sim, "192.0.2.7", 0, 64);
    CHECK(sim.shard().table.size() == 64);
    CHECK(sim.dropped(Drop::descriptor_limit) == 0);
}

TEST_CASE(
    "a client that is not assured gets amplification_limit times what it sent, an assured one "
    "everything") {
    ShardSetup setup = small_setup();
    setup.proxies[0].amplification_limit = 3;
    SimShard sim(setup);
    const Endpoint group = group_of(sim, client);  // eight bytes
    for (int i = 0; i < 5; ++i) REQUIRE(sim.world->service_sends(upstream, group, "tenletters"));
    sim.turns();
    CHECK(sim.answered().size() == 2);
    CHECK(sim.dropped(Drop::amplification) == 3);
    sim.ask(client, "");
    sim.turns();
    for (int i = 0; i < 5; ++i) REQUIRE(sim.world->service_sends(upstream, group, "tenletters"));
    sim.turns();
    CHECK(sim.answered().size() == 5);
}

TEST_CASE("replies_max lets as many replies by as the client has earned") {
    ShardSetup setup = small_setup();
    setup.proxies[0].replies_max = 2;
    SimShard sim(setup);
    const Endpoint group = group_of(sim, client);
    for (int i = 0; i < 5; ++i) REQUIRE(sim.world->service_sends(upstream, group, "reply"));
    sim.turns();
    CHECK(sim.answered().size() == 2);
    CHECK(sim.dropped(Drop::reply_limit) == 3);
    sim.ask(client, "next");
    sim.turns();
    for (int i = 0; i < 5; ++i) REQUIRE(sim.world->service_sends(upstream, group, "reply"));
    sim.turns();
    CHECK(sim.answered().size() == 2);
}

TEST_CASE(
    "a session ends with the reply that end_after_replies says, and not before its last one") {
    ShardSetup setup = small_setup();
    setup.proxies[0].end_after_replies = 1;
    SimShard sim(setup);
    const Endpoint group = group_of(sim, client);
    const auto ended = [&] { return sim.counters().sessions_finished.read(); };
    sim.ask(client, "another question before the first answer");
    sim.turns();
    const std::uint64_t asked = sim.shard().table[0].requests.datagrams;
    for (std::uint64_t reply = 1; reply < asked; ++reply) {
        REQUIRE(sim.world->service_sends(upstream, group, "answer"));
        sim.turns();
        CHECK(ended() == 0);
    }
    REQUIRE(sim.world->service_sends(upstream, group, "the last answer"));
    REQUIRE(sim.world->service_sends(upstream, group, "once more"));
    sim.turns();
    CHECK(sim.answered().size() == asked);
    CHECK(ended() == 1);
    CHECK(sim.dropped(Drop::late_reply) == 1);
    CHECK(sim.shard().table.size() == 0);
    // The group cools down as ever: the client's next session has another port.
    CHECK(group_of(sim, client) != group);
}

TEST_CASE("a client has a new session after as many requests as end_after_requests says") {
    ShardSetup setup = small_setup();
    setup.proxies[0].end_after_requests = 2;
    SimShard sim(setup);
    std::vector<Endpoint> groups;
    for (int question = 0; question < 6; ++question) {
        sim.ask(client, "question");
        sim.turns();
        groups.push_back(sim.asked().back().from);
    }
    CHECK(groups[0] == groups[1]);
    CHECK(groups[2] == groups[3]);
    CHECK(groups[4] == groups[5]);
    CHECK(groups[0] != groups[2]);
    CHECK(groups[2] != groups[4]);
    CHECK(sim.shard().table.size() == 3);
    // Each of them has its answers, and ends with the last one; the youngest goes on.
    for (const Endpoint& group : groups) {
        REQUIRE(sim.world->service_sends(upstream, group, "answer"));
        sim.turns();
    }
    CHECK(sim.answered().size() == 6);
    CHECK(sim.dropped(Drop::late_reply) == 0);
    CHECK(sim.counters().sessions_finished.read() == 2);
    // It has been answered, so that it ends with the next request.
    sim.ask(client, "question");
    sim.turns();
    CHECK(sim.counters().sessions_finished.read() == 3);
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE("requests that come in one turn are as many sessions as in several turns") {
    ShardSetup setup = small_setup();
    setup.proxies[0].end_after_requests = 2;
    SimShard sim(setup);
    for (int question = 0; question < 6; ++question) sim.ask(client, "question");
    sim.turns();
    CHECK(sim.shard().table.size() == 3);
    CHECK(sim.asked().size() == 6);
}

TEST_CASE("a session that waits for its last replies ends like any other when none come") {
    ShardSetup setup = small_setup();
    setup.proxies[0].end_after_requests = 1;
    SimShard sim(setup);
    sim.ask(client, "one");
    sim.turns();
    sim.ask(client, "two");
    sim.turns();
    REQUIRE(sim.shard().table.size() == 2);
    sim.world->now += setup.proxies[0].unassured_timeout + std::chrono::seconds{1};
    sim.turns();
    CHECK(sim.shard().table.size() == 0);
    CHECK(sim.counters().sessions_expired.read() == 2);
    sim.ask(client, "three");
    sim.turns();
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE("of a train only what is longer than datagram_max is dropped, either way") {
    ShardSetup setup = small_setup();
    setup.proxies[0].datagram_max = 8;
    SimShard sim(setup);
    const Endpoint group = group_of(sim, client);
    sim.ask(client, "12345678");
    sim.ask(client, "123456789");
    sim.turns();
    CHECK(sim.dropped(Drop::datagram_limit) == 1);
    sim.world->train_chance = 1;
    for (const char* reply : {"123456789", "123456789", "1234"})
        REQUIRE(sim.world->service_sends(upstream, group, reply));
    sim.turns();
    CHECK(sim.dropped(Drop::datagram_limit) == 3);
    REQUIRE(sim.answered().size() == 1);
    CHECK(sim.loop->backend().buffers_out() == 0);
}

TEST_CASE(
    "of a train of replies as many datagrams pass as the client has earned, not all and not none") {
    for (const bool by_bytes : {false, true}) {
        CAPTURE(by_bytes);
        ShardSetup setup = small_setup();
        (by_bytes ? setup.proxies[0].amplification_limit : setup.proxies[0].replies_max) = 3;
        SimShard sim(setup);
        sim.world->train_chance = 1;
        const Endpoint group = group_of(sim, client);
        const std::size_t asked = sim.shard().arrivals_total;
        const std::string reply(sim.counters().bytes_request.read(),
                                'r');  // each as long as all that was asked
        for (int i = 0; i < 7; ++i) REQUIRE(sim.world->service_sends(upstream, group, reply));
        sim.turns();
        CHECK(sim.shard().arrivals_total == asked + 7);
        CHECK(sim.shard().departures_total == asked + 3);
        const std::vector<Packet> answers = sim.answered();
        REQUIRE(answers.size() == 3);
        for (const Packet& answer : answers) CHECK(answer.payload == reply);
        CHECK(sim.dropped(by_bytes ? Drop::amplification : Drop::reply_limit) == 4);
        CHECK(sim.loop->backend().buffers_out() == 0);
    }
}

TEST_CASE(
    "one forged datagram goes round for ever unless what the program listens on and sends to is no "
    "client") {
    ShardSetup setup = small_setup();
    setup.proxies_max = 2;
    ProxySetup other = setup.proxies[0];
    other.upstream = std::make_shared<Upstream>(
        at("10.0.0.99:5000"),
        std::vector{AliasRule{Prefix{*parse_address("10.0.0.98"), 32}, 0, std::nullopt}},
        AliasMembers::open);
    other.ports = PortRange{21000, 21099};
    setup.proxies.push_back(other);
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:5000")});
    setup.listeners.push_back(ListenerSetup{1, at("0.0.0.0:6000")});
    SimShard sim(setup);
    sim.world->own_addresses = {*parse_address("10.1.0.1"), *parse_address("10.1.0.9")};
    for (const char* source : {
             "10.0.0.254:53",   // the upstream
             "10.0.0.253:53",   // an alias
             "10.0.0.99:5000",  // another proxy's upstream
             "10.1.0.1:53",     // the very same listener
             "10.1.0.1:5000",   // another listener
             "10.1.0.1:6000",   // the wildcard listener, at one address of this host
             "10.1.0.9:6000",   // and at another
         }) {
        CAPTURE(source);
        const std::uint64_t before = sim.dropped(Drop::forwarding_loop);
        sim.ask(at(source), "round and round");
        sim.turns();
        CHECK(sim.dropped(Drop::forwarding_loop) == before + 1);
        CHECK(sim.asked().empty());
    }
    // Other sockets of these hosts are clients, and so are hosts of which any port may answer.
    for (const char* source : {"10.0.0.254:54", "10.0.0.98:5000", "10.1.0.1:54", "192.0.2.7:6000"})
        sim.ask(at(source), "a client");
    sim.turns();
    sim.turns();
    CHECK(sim.asked().size() == 4);
    // A wildcard listener writes from whatever address it was asked at, though routing does not
    // tell that it is local.
    sim.world->client_sends(at("10.1.0.7:6000"), at("10.1.0.7:6000"), "to itself");
    sim.turns();
    CHECK(sim.dropped(Drop::forwarding_loop, 1) == 1);
    CHECK(sim.asked().empty());
}

TEST_CASE("a new client that is a session of ours begins no loop, and its neighbours are welcome") {
    SimShard sim;
    const Endpoint group = group_of(sim, client);
    sim.ask(group, "back again");
    sim.turns();
    CHECK(sim.shard().table.size() == 1);
    CHECK(sim.dropped(Drop::forwarding_loop) == 1);
    sim.ask(Endpoint{group.address, 0, static_cast<std::uint16_t>(group.port + 1)},
            "another program of this host");
    sim.ask(Endpoint{*parse_address("10.0.0.9"), 0, group.port}, "the same port elsewhere");
    sim.turns();
    CHECK(sim.shard().table.size() == 3);
    // Once the group is gone, its port is anybody's.
    for (int i = 0; i < 60; ++i) {
        sim.advance(3s);
        sim.turns(6);
    }
    REQUIRE(sim.world->open_members() == 0);
    sim.ask(group, "a client by now");
    sim.turns();
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE(
    "what the kernel has no room for is sent in the next turn, once, ahead of what came later") {
    for (const int error : {EAGAIN, ENOBUFS}) {
        SimShard sim;
        group_of(sim, client);
        sim.world->next_send_error = error;
        sim.ask(client, "first");
        sim.turns();
        CHECK(sim.asked().empty());
        CHECK(sim.counters().sends_deferred.read() == 1);
        sim.ask(client, "second");
        sim.turns();
        const std::vector<Packet> asked = sim.asked();
        REQUIRE(asked.size() == 2);
        CHECK(asked[0].payload == "first");
        CHECK(asked[1].payload == "second");
        sim.turns();
        CHECK(sim.asked().empty());
        CHECK(sim.loop->backend().buffers_out() == 0);
    }
}

TEST_CASE("what still has no room after a tenth of a second is dropped under its reason") {
    SimShard sim;
    group_of(sim, client);
    sim.ask(client, "never");
    for (int i = 0; i < 200; ++i) {
        sim.world->next_send_error = EAGAIN;
        sim.turns();
        sim.advance(1ms);
    }
    sim.world->next_send_error = 0;
    sim.turns();
    CHECK(sim.asked().empty());
    CHECK(sim.counters().sends_deferred.read() == 1);
    CHECK(sim.dropped(Drop::send_would_block) == 1);
    CHECK(sim.loop->backend().buffers_out() == 0);
}

TEST_CASE(
    "a full queue of pending departures drops what comes on top, and the loop never waits long "
    "while it has some") {
    SimShard sim;  // 256 buffers a leg, so 64 may wait
    group_of(sim, client);
    sim.world->send_errors = EAGAIN;
    for (int i = 0; i < 100; ++i) sim.ask(client, "x");
    sim.turns();
    CHECK(sim.shard().pending.size() == 64);
    CHECK(sim.dropped(Drop::send_would_block) == 36);
    CHECK(next_deadline(sim.shard(), sim.world->now) == sim.world->now + 1ms);
    sim.world->send_errors = 0;
    sim.turns();
    CHECK(sim.asked().size() == 64);
    CHECK(sim.shard().pending.empty());
}

TEST_CASE("a pending request never leaves from a group whose session has ended meanwhile") {
    ShardSetup setup = small_setup();
    setup.proxies[0].unassured_timeout = 100ms;
    SimShard sim(setup);
    group_of(sim, client);
    sim.world->send_errors = EAGAIN;
    sim.ask(client, "late");
    sim.turns();
    REQUIRE(sim.shard().pending.size() == 1);
    sim.shard().pending[0].since += 10s;  // not given up for its age
    sim.advance(100ms + 2 * ExpiryWheel::tick);
    sim.turns();
    CHECK(sim.shard().table.size() == 0);
    CHECK(sim.shard().pending.empty());
    CHECK(sim.dropped(Drop::send_would_block) == 1);
    sim.world->send_errors = 0;
    sim.turns(3);
    CHECK(sim.asked().empty());
    CHECK(sim.loop->backend().buffers_out() == 0);
}

TEST_CASE(
    "after a stall no session expires whose datagram was in the queue all the while, and the "
    "others do") {
    SimShard sim;
    const Endpoint other = at("192.0.2.8:4000");
    const Endpoint group = group_of(sim, client);
    group_of(sim, other);
    sim.advance(1h);
    sim.loop->turn();  // the wait ends before the queues are looked at: a signal woke it
    sim.ask(client, "still here");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].from == group);
    CHECK(sim.shard().table.size() == 1);
    CHECK(sim.counters().sessions_expired.read() == 1);
}

namespace {

/// One turn at full load, a few milliseconds after the last: a known client has written again.
void busy_turn(SimShard& sim) {
    sim.advance(5ms);
    sim.ask(client, "busy");
    sim.loop->turn();
}

}  // namespace

TEST_CASE("at full load sessions that expire together all end, a bounded number in each turn") {
    constexpr std::uint32_t sessions = 3000;
    SimShard sim(ample_setup(2 * sessions));
    ask_from(sim, "192.0.2.9", 0, sessions - 1);
    sim.ask(client, "busy");
    sim.turns();
    REQUIRE(sim.shard().table.size() == sessions);
    for (int i = 0; i < 5900; ++i) busy_turn(sim);
    REQUIRE(sim.counters().sessions_expired.read() == 0);
    int turns = 0;
    while (sim.shard().table.size() > 1 && turns < 1000) {
        busy_turn(sim);
        ++turns;
    }
    CHECK(sim.counters().sessions_expired.read() == sessions - 1);
    // Half a second until they are due, and then 12 turns, though each is late for its work.
    CHECK(turns < 100 + static_cast<int>(ExpiryWheel::tick / 5ms) + 20);
}

TEST_CASE("at full load groups that a reload outdates close, a bounded number in each turn") {
    constexpr std::uint32_t sessions = 500;
    ShardSetup setup = ample_setup(2 * sessions);
    setup.proxies[0].port_cooldown = 1h;
    setup.proxies[0].unassured_timeout = 5s;
    SimShard sim(setup);
    ask_from(sim, "192.0.2.9", 0, sessions - 1);
    sim.advance(6s);
    sim.ask(client, "busy");
    sim.turns(3);
    REQUIRE(sim.shard().groups.cooling() == sessions - 1);
    sim.advance(1s);
    sim.ask(client, "busy");
    sim.turns(2);
    sim.shard().groups.outdate(0);
    for (int i = 0; i < 40; ++i) busy_turn(sim);
    CHECK(sim.shard().groups.cooling() == 0);
}

TEST_CASE(
    "a stall is noticed though work was left over, and expiry goes on when it is made up for") {
    constexpr std::uint32_t sessions = 2000;
    SimShard sim(ample_setup(2 * sessions));
    ask_from(sim, "192.0.2.9", 0, sessions - 1);
    sim.ask(client, "known");
    sim.turns();
    for (int i = 0; i < 10; ++i) {  // time goes on in steps that are no stall
        sim.advance(10ms);
        sim.loop->turn();
    }
    sim.advance(31s);
    sim.loop->turn();  // late for the first that are due
    CHECK(sim.loop->is_catching_up());
    CHECK(sim.counters().sessions_expired.read() == 0);
    sim.loop->turn();
    REQUIRE(sim.counters().sessions_expired.read() == retirements_per_turn);
    sim.advance(stall_noticed + 1ms);
    sim.ask(client, "still here");
    sim.loop->turn();
    CHECK(sim.loop->is_catching_up());
    CHECK(sim.counters().sessions_expired.read() == retirements_per_turn);
    sim.turns(10);
    CHECK(sim.shard().table.size() <= 1);
}

TEST_CASE("a turn that was held up is a stall as well, and a long one is not") {
    for (const bool held_up : {false, true}) {
        CAPTURE(held_up);
        SimShard sim;
        group_of(sim, client);
        sim.advance(30s);
        sim.world->next_send_takes = held_up ? 5s : turn_held_up;
        sim.ask(client, "question");
        sim.loop->turn();
        sim.loop->turn();
        CHECK(sim.loop->is_catching_up() == held_up);
    }
}

TEST_CASE(
    "when routing has settled on another source, sessions of the lost one end and go on from the "
    "new one") {
    SimShard sim;
    const Endpoint before = group_of(sim, client);
    sim.world->absent.insert(before.address);
    sim.world->routed = *parse_address("10.0.0.2");
    sim.advance(source_check_every);
    sim.ask(client, "lost");
    sim.turns(2);
    CHECK(sim.dropped(Drop::send_net_unreachable) == 1);
    CHECK(sim.counters().sessions_moved.read() == 1);
    const Endpoint after = group_of(sim, client);
    CHECK(after.address == *parse_address("10.0.0.2"));
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE("sessions stay while routing has nothing better, however long the source is away") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sources = {*parse_address("10.0.0.1")};
    SimShard sim(setup);
    const Endpoint before = group_of(sim, client);
    sim.world->absent.insert(before.address);
    for (int i = 0; i < 10; ++i) {
        sim.advance(5s);
        sim.ask(client, "lost");
        sim.turns(2);
    }
    CHECK(sim.dropped(Drop::send_net_unreachable) == 10);
    sim.world->absent.clear();
    CHECK(group_of(sim, client) == before);
    CHECK(sim.counters().sessions_moved.read() == 0);
}

TEST_CASE(
    "a trace tells of a datagram that a buffer cut, and does not read on behind that buffer") {
    SimShard sim;
    sim.shard().trace.begin(client.address, 0, Instant::max());
    sim.ask(client, "whole");
    sim.turns();
    TraceRecord record;
    REQUIRE(sim.shard().trace.take(record));
    CHECK(record.kept == 5);
    const std::byte one_byte{};
    Arrival cut;
    cut.slot = Slot{0};
    cut.from = client;
    cut.payload = &one_byte;
    cut.bytes = 60'000;
    cut.truncated = true;
    trace_dropped(sim.shard(), cut, 0, Drop::truncated);
    REQUIRE(sim.shard().trace.take(record));
    CHECK(record.bytes == 60'000);
    CHECK(record.kept == 0);
}

TEST_CASE("a trace tells which datagrams of a reply train were forwarded and which dropped") {
    // The trace showed the whole train as forwarded.
    ShardSetup setup = small_setup();
    setup.proxies[0].replies_max = 2;
    SimShard sim(setup);
    sim.shard().trace.begin(client.address, 0, Instant::max());
    sim.ask(client, "question");
    sim.turns();
    TraceRecord record;
    REQUIRE(sim.shard().trace.take(record));
    const ReplyGroup& group = sim.shard().groups[0];
    const std::array<std::byte, 12> train{};
    Arrival arrival;
    arrival.slot = group.primary();
    arrival.from = group.upstream->endpoint();
    arrival.payload = train.data();
    arrival.bytes = 12;
    arrival.segment_bytes = 5;
    forward_replies(sim.shard(), sim.loop->backend(), std::span{&arrival, 1}, Instant{});
    for (const bool is_dropped : {false, false, true}) {
        REQUIRE(sim.shard().trace.take(record));
        CHECK(record.bytes == (is_dropped ? 2 : 5));
        CHECK(record.dropped == (is_dropped ? std::optional{Drop::reply_limit} : std::nullopt));
    }
    CHECK_FALSE(sim.shard().trace.take(record));
}

TEST_CASE("a trace tells which datagrams of a train could not be sent") {
    // When one was lost, the trace showed all of them as lost.
    SimShard sim;
    group_of(sim, client);
    sim.world->train_chance = 1;
    sim.world->refusal_chance = 1;
    sim.shard().trace.begin(client.address, 0, Instant::max());
    for (const char* request : {"first", "again", "last"}) sim.ask(client, request);
    sim.world->next_send_error = EPERM;
    sim.turns();
    CHECK(sim.asked().size() == 2);
    TraceRecord record;
    for (const std::uint32_t bytes : {5U, 5U, 4U}) {
        REQUIRE(sim.shard().trace.take(record));
        CHECK(record.bytes == bytes);
        CHECK(record.dropped == std::nullopt);
    }
    REQUIRE(sim.shard().trace.take(record));
    CHECK(record.dropped == Drop::send_not_permitted);
    CHECK(std::string(reinterpret_cast<const char*>(record.payload.data()), record.kept) ==
          "first");
    CHECK_FALSE(sim.shard().trace.take(record));
}

TEST_CASE("what a buffer has cut is dropped on both legs, never sent on in part") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    Shard& shard = sim.shard();
    const std::byte one_byte{};
    Arrival cut;
    cut.payload = &one_byte;
    cut.bytes = 60'000;
    cut.truncated = true;
    cut.slot = shard.groups[0].primary();
    cut.from = upstream;
    forward_replies(shard, sim.loop->backend(), std::span{&cut, 1}, sim.world->now);
    cut.slot = Slot{0};
    cut.from = client;
    cut.local = *parse_address("10.1.0.1");
    forward_requests(shard, sim.loop->backend(), std::span{&cut, 1}, sim.world->now);
    CHECK(shard.departures.empty());
    CHECK(sim.dropped(Drop::truncated) == 2);
    shard.dropped.clear();  // no buffer of the engine's was behind them
}
