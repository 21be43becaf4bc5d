// What a shard does when the control thread reports that routes or addresses have changed: sessions
// leave a source that routing has left, though their sends succeed.
#include <doctest/doctest.h>

#include <cerrno>
#include <map>
#include <string>

#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

const Endpoint client = at("192.0.2.7:4000");
const Address first_source = *parse_address("10.0.0.1");
const Address second_source = *parse_address("10.0.0.2");

void report_change(SimShard& sim) {
    Command command;
    command.kind = CommandKind::look_at_sources;
    command.proxy = all_proxies;
    REQUIRE(sim.shard().commands.post(command));
}

/// The address that the client's next datagram leaves from.
Address source_of(SimShard& sim, const Endpoint& who) {
    sim.asked();
    sim.ask(who, "question");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    return asked[0].from.address;
}

/// Begins a version of the upstream at 10.0.1.`number`, and a session of it.
void begin_version(SimShard& sim, std::uint32_t number) {
    Command command;
    command.kind = CommandKind::set_upstream;
    command.upstream =
        std::make_shared<Upstream>(at("10.0.1." + std::to_string(number) + ":53"),
                                   std::vector<AliasRule>{}, AliasMembers::connected, number);
    REQUIRE(sim.shard().commands.post(command));
    sim.turns();
    source_of(sim, Endpoint{client.address, 0, static_cast<std::uint16_t>(5000 + number)});
}

}  // namespace

TEST_CASE("a session leaves a source that routing has left, though its sends succeed") {
    SimShard sim;
    CHECK(source_of(sim, client) == first_source);
    sim.world->routed = second_source;
    sim.advance(1min);
    CHECK(source_of(sim, client) == first_source);
    report_change(sim);
    sim.turns(2);
    CHECK(sim.counters().sessions_moved.read() == 1);
    CHECK(source_of(sim, client) == second_source);
    CHECK(sim.shard().sources_at == std::nullopt);
}

TEST_CASE("new clients are served at once when a report says that the source may be back") {
    SimShard sim;
    sim.world->source_error = ENETUNREACH;
    sim.ask(client, "no source");
    sim.turns();
    REQUIRE(sim.dropped(Drop::source_unavailable) == 1);
    sim.world->source_error = 0;
    report_change(sim);
    sim.turns();
    CHECK(source_of(sim, client) == first_source);
}

TEST_CASE("a report moves no session whose source is configured, or for which there is no route") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sources = {first_source};
    for (const bool configured : {true, false}) {
        CAPTURE(configured);
        SimShard sim(configured ? setup : small_setup());
        CHECK(source_of(sim, client) == first_source);
        sim.world->routed = second_source;
        if (!configured) sim.world->absent.insert(second_source);
        report_change(sim);
        sim.turns(2);
        CHECK(sim.counters().sessions_moved.read() == 0);
        CHECK(sim.shard().table.size() == 1);
    }
}

TEST_CASE("what counts for a session of an older version is the route to that version") {
    SimShard sim;
    std::map<Endpoint, Address> routes{{at("10.0.1.1:53"), first_source},
                                       {at("10.0.1.2:53"), second_source}};
    sim.shard().source_towards = [&](const Endpoint& upstream, const Address&) {
        return SourceAnswer{0, Endpoint{routes.at(upstream), 0, 0}};
    };
    begin_version(sim, 1);
    begin_version(sim, 2);
    report_change(sim);
    sim.turns(2);
    CHECK(sim.counters().sessions_moved.read() == 0);
    routes[at("10.0.1.1:53")] = second_source;
    report_change(sim);
    sim.turns(2);
    CHECK(sim.counters().sessions_moved.read() == 1);
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE("a look-up that says nothing is made again a second later") {
    SimShard sim;
    CHECK(source_of(sim, client) == first_source);
    sim.world->routed = second_source;
    sim.world->source_error = EAGAIN;  // every port is in use
    report_change(sim);
    sim.turns(2);
    CHECK(sim.counters().sessions_moved.read() == 0);
    sim.world->source_error = 0;
    sim.advance(1s);
    sim.turns(2);
    CHECK(sim.counters().sessions_moved.read() == 1);
}

TEST_CASE("a turn looks up a bounded number of sources, and is followed by another at once") {
    SimShard sim;
    std::uint32_t lookups = 0;
    sim.shard().source_towards = [&](const Endpoint&, const Address&) {
        ++lookups;
        return SourceAnswer{0, Endpoint{first_source, 0, 0}};
    };
    const std::uint32_t versions = source_lookups_per_turn + 2;
    for (std::uint32_t number = 1; number <= versions; ++number) begin_version(sim, number);
    report_change(sim);
    sim.loop->turn();  // takes the report
    lookups = 0;
    sim.loop->turn();
    CHECK(lookups == source_lookups_per_turn);
    CHECK(next_deadline(sim.shard(), sim.world->now) <= sim.world->now);
    sim.loop->turn();
    CHECK(lookups == versions);
    CHECK(sim.shard().sources_at == std::nullopt);
}

TEST_CASE("reports that come faster than passes keep no session waiting for ever") {
    const std::uint32_t sessions = 2 * reconciled_per_turn;
    ShardSetup setup = small_setup();
    setup.proxies[0].upstream =
        std::make_shared<Upstream>(at("10.0.0.254:53"), std::vector<AliasRule>{});
    setup.proxies[0].watch = Watch::none;
    setup.proxies[0].ports = PortRange{20000, static_cast<std::uint16_t>(20000 + sessions)};
    setup.proxies[0].sessions_max = setup.sessions_max = sessions;
    setup.descriptors_max = sessions;
    setup.slots_max = sessions + 1;
    setup.buffers_per_leg = 4096;
    SimShard sim(setup);
    for (std::uint32_t i = 0; i < sessions; ++i)
        sim.ask(Endpoint{client.address, 0, static_cast<std::uint16_t>(1000 + i)}, "question");
    sim.turns(static_cast<int>(sessions));
    REQUIRE(sim.shard().table.size() == sessions);
    sim.world->routed = second_source;
    for (int turn = 0; turn < 4; ++turn) {
        report_change(sim);
        sim.loop->turn();
    }
    CHECK(sim.counters().sessions_moved.read() == sessions);
}

// All ports stood in groups that had cooled down, and routing had changed. The first new client
// made one group close, and the shard closed the others, since nothing would use them again. In the
// next turn none was left to close for it, and it was dropped while its port was on the way.
TEST_CASE("after a change of source the first client waits for a port that is being freed") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        ShardSetup setup = small_setup();
        setup.proxies[0].ports = PortRange{20000, 20003};
        setup.proxies[0].unassured_timeout = 1s;
        SimShard sim(setup, seed);
        sim.world->close_waits_max = 5;
        for (std::uint16_t port = 1; port <= 4; ++port) sim.ask({client.address, 0, port}, "early");
        sim.turns();
        REQUIRE(sim.asked().size() == 4);
        sim.advance(5s);
        sim.turns(3);
        REQUIRE(sim.shard().groups.cooling() == 4);
        sim.advance(30s);
        sim.turns(3);

        sim.world->routed = second_source;
        sim.ask(client, "question");
        std::vector<Packet> asked;
        for (int left = 20; left > 0 && asked.empty(); --left) {
            sim.advance(1ms);
            sim.turns();
            asked = sim.asked();
        }
        REQUIRE(asked.size() == 1);
        CHECK(asked[0].from.address == second_source);
        CHECK(sim.dropped(Drop::ports_exhausted) == 0);
    }
}

TEST_CASE("a client waits until the group that was closed for its port is closed") {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        CAPTURE(seed);
        // Two proxies with the same ports; the first one's only group has cooled down.
        ShardSetup setup = small_setup();
        setup.proxies[0].ports = PortRange{20000, 20000};
        setup.proxies[0].unassured_timeout = 1s;
        setup.proxies.push_back(setup.proxies[0]);
        setup.listeners.push_back({1, at("10.1.0.1:54")});
        SimShard sim(setup, seed);
        sim.world->close_waits_max = 5;
        sim.ask(client, "early");
        sim.turns();
        REQUIRE(sim.asked().size() == 1);
        sim.advance(5s);
        sim.turns(3);
        sim.advance(30s);
        sim.turns(3);
        REQUIRE(sim.shard().groups.cooling() == 1);

        sim.world->client_sends(client, at("10.1.0.1:54"), "question");
        std::size_t asked = 0;
        for (int left = 20; left > 0 && asked == 0; --left) {
            sim.advance(1ms);
            sim.turns();
            asked = sim.asked().size();
        }
        CHECK(asked == 1);
        CHECK(sim.dropped(Drop::ports_exhausted, 1) == 0);
    }
}
// While the cooldown lasts nothing is on the way, and waiting would only hold up others.
TEST_CASE("a client does not wait for a port that has yet to cool down") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20000};
    setup.proxies[0].unassured_timeout = 1s;
    SimShard sim(setup);
    sim.world->close_waits_max = 5;
    sim.ask(client, "early");
    sim.turns();
    sim.advance(5s);
    sim.turns(3);
    REQUIRE(sim.shard().groups.cooling() == 1);
    sim.world->routed = second_source;
    for (int left = 3; left > 0; --left) {
        sim.ask(at("192.0.2.8:8"), "question");
        sim.turns();
        CHECK(sim.shard().new_clients.empty());
        sim.advance(20ms);
    }
    CHECK(sim.dropped(Drop::ports_exhausted) == 3);
}
