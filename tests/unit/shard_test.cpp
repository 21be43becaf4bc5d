// What a shard does with datagrams: legs, admission, retirement, over a simulated kernel with
// virtual time.
#include <doctest/doctest.h>

#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

const Endpoint client = at("192.0.2.7:4000");
const Endpoint upstream = at("10.0.0.254:53");
const Endpoint first_alias = at("10.0.0.253:53");

Endpoint numbered_client(std::uint16_t number) {
    return Endpoint{*parse_address("192.0.2.9"), 0, static_cast<std::uint16_t>(1000 + number)};
}

/// Lets the client speak, the service answer and the client speak again.
void make_assured(SimShard& sim, const Endpoint& asking) {
    sim.ask(asking, "first");
    sim.turns();
    REQUIRE(sim.world->service_sends(upstream, sim.asked().back().from, "reply"));
    sim.turns();
    sim.ask(asking, "second");
    sim.turns();
    sim.asked();
    sim.answered();
}

}  // namespace

TEST_CASE(
    "a request leaves from a group of its own and replies of every listed source come back from "
    "the listener") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].to == upstream);
    CHECK(asked[0].payload == "question");
    CHECK(asked[0].from.address == *parse_address("10.0.0.1"));
    for (const char* source : {"10.0.0.254:53", "10.0.0.253:53", "10.0.0.252:53"}) {
        REQUIRE(sim.world->service_sends(at(source), asked[0].from, source));
        sim.turns();
        const std::vector<Packet> answered = sim.answered();
        REQUIRE(answered.size() == 1);
        CHECK(answered[0].from == at("10.1.0.1:53"));
        CHECK(answered[0].to == client);
        CHECK(answered[0].payload == source);
    }
}

TEST_CASE("datagrams of one client share a session, and clients never share one") {
    SimShard sim;
    sim.ask(client, "1");
    sim.ask(client, "2");
    sim.ask(numbered_client(1), "3");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 3);
    CHECK(asked[0].from == asked[1].from);
    CHECK(asked[0].from != asked[2].from);
    CHECK(sim.world->openings == 2);
}

TEST_CASE("an empty datagram makes a session and is forwarded") {
    SimShard sim;
    sim.ask(client, "");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].payload.empty());
}

TEST_CASE("a reply from an unlisted source never reaches a client, is counted and reported once") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    for (int i = 0; i < 5; ++i)
        REQUIRE(sim.world->service_sends(at("10.0.0.251:53"), group, "from nowhere"));
    REQUIRE(sim.world->service_sends(at("10.0.0.254:54"), group, "right address, wrong port"));
    sim.turns();
    CHECK(sim.answered().empty());
    CHECK(sim.dropped(Drop::unlisted_source) == 6);
    Event event;
    REQUIRE(sim.shard().events.take(event));
    CHECK(event.kind == EventKind::unlisted_reply);
    CHECK(event.source == at("10.0.0.251:53"));
    CHECK(event.datagrams == 1);
    REQUIRE(sim.shard().events.take(event));
    CHECK(event.source == at("10.0.0.254:54"));
    CHECK_FALSE(sim.shard().events.take(event));
    sim.advance(61s);
    sim.ask(client, "question");
    sim.turns();
    REQUIRE(sim.world->service_sends(at("10.0.0.251:53"), sim.asked()[0].from, "again"));
    sim.turns();
    bool reported = false;
    while (sim.shard().events.take(event)) {
        if (event.kind != EventKind::unlisted_reply) continue;
        reported = true;
        CHECK(event.datagrams == 5);
    }
    CHECK(reported);
}

TEST_CASE("an open filter takes prefixes and any port, and still nothing else") {
    ShardSetup setup = small_setup();
    setup.proxies[0].watch = Watch::none;
    setup.proxies[0].upstream = std::make_shared<Upstream>(
        upstream, std::vector{AliasRule{Prefix{*parse_address("10.0.0.0"), 24}, 0, std::nullopt}},
        AliasMembers::open);
    SimShard sim(setup);
    sim.ask(client, "question");
    sim.turns();
    CHECK(sim.world->open_members() == 2);
    const Endpoint group = sim.asked()[0].from;
    CHECK(sim.world->service_sends(at("10.0.0.9:7777"), group, "listed"));
    CHECK(sim.world->service_sends(at("10.0.1.9:53"), group, "unlisted"));
    sim.turns();
    const std::vector<Packet> answered = sim.answered();
    REQUIRE(answered.size() == 1);
    CHECK(answered[0].payload == "listed");
    CHECK(sim.dropped(Drop::unlisted_source) == 1);
}

TEST_CASE("a session without a second word from its client ends after the short time-out") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    REQUIRE(sim.world->service_sends(upstream, sim.asked()[0].from, "reply"));
    sim.turns();
    sim.advance(29s);
    sim.turns();
    CHECK(sim.shard().table.size() == 1);
    sim.advance(1s + 2 * ExpiryWheel::tick);
    sim.turns();
    CHECK(sim.shard().table.size() == 0);
    CHECK(sim.counters().sessions_expired.read() == 1);
}

TEST_CASE(
    "an assured session lives for the long time-out after its last datagram in either direction") {
    SimShard sim;
    make_assured(sim, client);
    CHECK(sim.counters().sessions_assured.read() == 1);
    sim.advance(290s);
    sim.turns();
    REQUIRE(sim.shard().table.size() == 1);
    sim.ask(client, "still here");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.advance(290s);
    sim.turns();
    REQUIRE(sim.world->service_sends(upstream, group, "me too"));
    sim.turns();
    sim.advance(299s);
    sim.turns();
    CHECK(sim.shard().table.size() == 1);
    sim.advance(1s + 2 * ExpiryWheel::tick);
    sim.turns();
    CHECK(sim.shard().table.size() == 0);
}

TEST_CASE(
    "a late reply is counted and dropped, and the cooled-down group serves the next client without "
    "being opened again") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.advance(31s);
    sim.turns();
    REQUIRE(sim.shard().groups.cooling() == 1);

    sim.ask(numbered_client(1), "too early for a cooling group");
    sim.turns();
    CHECK(sim.asked()[0].from != group);

    REQUIRE(sim.world->service_sends(upstream, group, "late"));
    sim.turns();
    CHECK(sim.answered().empty());
    CHECK(sim.dropped(Drop::late_reply) == 1);

    sim.advance(11s);
    sim.ask(numbered_client(2), "now");
    sim.turns();
    CHECK(sim.asked()[0].from == group);
    CHECK(sim.world->openings == 2);
    CHECK(sim.counters().groups_reused.read() == 1);
}

TEST_CASE(
    "groups that are not reused close a minute after their cooldown, and their ports cool down in "
    "turn") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    sim.asked();
    sim.advance(31s);
    sim.turns();
    sim.advance(71s);
    sim.turns(5);
    CHECK(sim.world->open_members() == 0);
    CHECK(sim.shard().groups.size() == 0);
    CHECK(sim.shard().setup.use->descriptors.used.load() == 0);
    CHECK(sim.shard().ports[0].leased() == 0);
}

TEST_CASE(
    "when sessions_max is met the least recently active unassured session goes, an assured one "
    "never") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sessions_max = 3;
    SimShard sim(setup);
    make_assured(sim, numbered_client(0));
    sim.ask(numbered_client(1), "a");
    sim.turns();
    sim.advance(500ms);
    sim.ask(numbered_client(2), "b");
    sim.turns();
    sim.asked();

    sim.ask(numbered_client(3), "no session has been idle for a second");
    sim.turns();
    CHECK(sim.asked().empty());
    CHECK(sim.dropped(Drop::session_limit) == 1);

    sim.advance(600ms);
    sim.ask(numbered_client(3), "client 1 goes");
    sim.turns();
    CHECK(sim.asked().size() == 1);
    CHECK(sim.counters().sessions_evicted.read() == 1);
    const auto has_session = [&](std::uint16_t number) {
        const ClientKey key{numbered_client(number).address, Address{}, 0,
                            numbered_client(number).port, 0};
        return sim.shard().table.find(sim.shard().table.hash(key), key).has_value();
    };
    CHECK(has_session(0));
    CHECK_FALSE(has_session(1));
    CHECK(has_session(2));
    CHECK(has_session(3));
}

TEST_CASE(
    "when descriptors run out a new client waits until an evicted session's sockets are closed, "
    "and is served") {
    ShardSetup setup = small_setup();
    setup.descriptors_max = 4 * 3;
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 3; ++number) sim.ask(numbered_client(number), "old");
    sim.turns();
    CHECK(sim.asked().size() == 3);
    sim.ask(numbered_client(7), "no session may end yet");
    sim.turns();
    CHECK(sim.dropped(Drop::descriptor_limit) == 1);
    sim.advance(2s);
    sim.ask(numbered_client(8), "new client");
    sim.ask(numbered_client(8), "its second datagram");
    sim.turns(6);
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].payload == "new client");
    CHECK(asked[1].payload == "its second datagram");
    CHECK(sim.counters().sessions_evicted.read() == 1);
    CHECK(sim.shard().setup.use->descriptors.used.load() == 12);
}

TEST_CASE("cooling groups give their descriptors before any session is evicted") {
    ShardSetup setup = small_setup();
    setup.descriptors_max = 4 * 2;
    setup.proxies.push_back(setup.proxies[0]);
    setup.proxies[1].name = "other";
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:54")});
    SimShard sim(setup);
    sim.ask(client, "will cool down");
    sim.turns();
    sim.advance(31s);
    sim.turns();
    sim.ask(client, "stays");
    sim.turns();
    sim.world->client_sends(client, at("10.1.0.1:54"), "wants the cooling group's descriptors");
    sim.turns(6);
    CHECK(sim.asked().size() == 3);
    CHECK(sim.counters(0).sessions_evicted.read() == 0);
    CHECK(sim.counters(1).sessions_admitted.read() == 1);
}

TEST_CASE(
    "descriptors that another process holds are made up for by cooling groups, then by evictions, "
    "then the new client is dropped") {
    SimShard sim;
    sim.ask(client, "will cool down");
    sim.turns();
    sim.advance(31s);
    sim.turns();
    sim.world->next_opening = {OpeningStep::socket, ENFILE};
    sim.ask(numbered_client(1), "served at the second attempt");
    sim.turns(6);
    CHECK(sim.asked().size() == 2);
    CHECK(sim.counters().groups_closed.read() == 1);
    sim.world->next_opening = {OpeningStep::socket, EMFILE};
    sim.ask(numbered_client(2), "no session has been idle for a second");
    sim.turns(6);
    CHECK(sim.asked().empty());
    CHECK(sim.dropped(Drop::descriptor_limit) == 1);
}

TEST_CASE("two proxies with the same source never use one port, whatever their ranges") {
    ShardSetup setup = small_setup();
    setup.proxies.push_back(setup.proxies[0]);
    setup.proxies[1].ports = PortRange{20050, 20149};
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:54")});
    setup.descriptors_max = setup.slots_max = 1000;
    setup.sessions_max = 200;
    SimShard sim(setup);
    std::set<std::uint16_t> ports;
    for (std::uint16_t number = 0; number < 60; ++number) {
        sim.ask(numbered_client(number), "x");
        sim.world->client_sends(numbered_client(number), at("10.1.0.1:54"), "y");
    }
    sim.turns(3);
    const std::vector<Packet> asked = sim.asked();
    CHECK(asked.size() == 120);
    for (const Packet& packet : asked) ports.insert(packet.from.port);
    CHECK(ports.size() == 120);
}

TEST_CASE("a port that another program holds is skipped and counted") {
    SimShard sim;
    for (std::uint16_t port = 20000; port < 20010; ++port)
        sim.world->taken.insert(Endpoint{*parse_address("10.0.0.1"), 0, port});
    sim.ask(client, "question");
    sim.turns();
    CHECK(sim.asked()[0].from.port == 20010);
    CHECK(sim.counters().ports_taken.read() == 10);
}

TEST_CASE(
    "a whole row of taken ports costs a new client some turns, and it is dropped only when all are "
    "taken") {
    SimShard sim;
    for (std::uint16_t port = 20000; port < 20090; ++port)
        sim.world->taken.insert(Endpoint{*parse_address("10.0.0.1"), 0, port});
    sim.ask(client, "question");
    sim.turns(6);
    CHECK(sim.asked().at(0).from.port == 20090);
    for (std::uint16_t port = 20090; port < 20100; ++port)
        sim.world->taken.insert(Endpoint{*parse_address("10.0.0.1"), 0, port});
    sim.ask(numbered_client(1), "nowhere to go");
    sim.turns(waits_max + 1);
    CHECK(sim.asked().empty());
    CHECK(sim.dropped(Drop::ports_exhausted) == 1);
    CHECK(sim.shard().new_clients.empty());
}

TEST_CASE(
    "while every port cools down new clients are dropped, and served again once the cooldown is "
    "over") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20001};
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 3; ++number) sim.ask(numbered_client(number), "x");
    sim.turns();
    CHECK(sim.asked().size() == 2);
    CHECK(sim.dropped(Drop::ports_exhausted) == 1);
    sim.advance(5s);
    sim.ask(numbered_client(2), "x");
    sim.turns();
    CHECK(sim.asked().empty());
    CHECK(sim.counters().sessions_evicted.read() == 1);
    sim.advance(10s);
    sim.ask(numbered_client(2), "x");
    sim.turns();
    CHECK(sim.asked().size() == 1);
}

TEST_CASE("without a cooldown an evicted session's group serves the new client at once") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20000};
    setup.proxies[0].port_cooldown = 0s;
    SimShard sim(setup);
    sim.ask(numbered_client(0), "x");
    sim.turns();
    sim.advance(2s);
    sim.ask(numbered_client(1), "y");
    sim.turns();
    CHECK(sim.asked().size() == 2);
    CHECK(sim.world->openings == 1);
}

TEST_CASE(
    "when the source address goes, its cooling groups are not reused and new clients are dropped "
    "until it is back") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sources = {*parse_address("10.0.0.1")};
    SimShard sim(setup);
    sim.ask(client, "question");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.advance(31s);
    sim.turns();
    sim.advance(20s);
    sim.world->absent.insert(*parse_address("10.0.0.1"));
    sim.ask(client, "nowhere to go");
    sim.turns();
    CHECK(sim.dropped(Drop::source_unavailable) == 1);
    sim.turns(5);
    CHECK(sim.world->open_members() == 0);
    sim.world->absent.clear();
    sim.advance(1s);
    sim.ask(client, "back");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].from.port != group.port);
}

TEST_CASE(
    "a look-up that finds no port or socket says nothing of the source: its groups are still "
    "reused") {
    SimShard sim;
    sim.ask(client, "question");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.advance(31s);
    sim.turns();
    sim.advance(11s);
    for (const int error : {EAGAIN, EADDRINUSE, EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
        sim.world->source_error = error;
        sim.advance(2s);
        sim.ask(numbered_client(static_cast<std::uint16_t>(error)), "x");
        sim.turns();
    }
    CHECK(sim.asked().at(0).from == group);
    CHECK(sim.dropped(Drop::source_unavailable) == 0);
}

TEST_CASE("a cooled-down group of one proxy gives its port to another that has none left") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 20001};
    setup.proxies.push_back(setup.proxies[0]);
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:54")});
    SimShard sim(setup);
    sim.ask(numbered_client(0), "x");
    sim.ask(numbered_client(1), "x");
    sim.turns();
    sim.advance(31s);
    sim.turns();
    sim.world->client_sends(client, at("10.1.0.1:54"), "too early");
    sim.turns(5);
    CHECK(sim.dropped(Drop::ports_exhausted, 1) == 1);
    sim.advance(11s);
    sim.asked();
    sim.world->client_sends(client, at("10.1.0.1:54"), "in time");
    sim.turns(5);
    CHECK(sim.asked().size() == 1);
    CHECK(sim.counters(0).groups_closed.read() >= 1);
}

TEST_CASE("a session outlives the absence of its source address") {
    SimShard sim;
    sim.ask(client, "1");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.world->absent.insert(*parse_address("10.0.0.1"));
    sim.ask(client, "2");
    sim.turns();
    CHECK(sim.dropped(Drop::send_net_unreachable) == 1);
    sim.world->absent.clear();
    sim.ask(client, "3");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].from == group);
}

TEST_CASE("a proxy with several sources takes them in turn") {
    ShardSetup setup = small_setup();
    setup.proxies[0].sources = {*parse_address("10.0.0.1"), *parse_address("10.0.0.2")};
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 4; ++number) sim.ask(numbered_client(number), "x");
    sim.turns();
    std::map<Address, int> sources;
    for (const Packet& packet : sim.asked()) ++sources[packet.from.address];
    CHECK(sources[*parse_address("10.0.0.1")] == 2);
    CHECK(sources[*parse_address("10.0.0.2")] == 2);
}

TEST_CASE("an older datagram's error costs no datagram and no session") {
    SimShard sim;
    sim.ask(client, "1");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.world->reject(group, upstream, ECONNREFUSED);
    sim.ask(client, "2");
    sim.turns();
    CHECK(sim.asked().size() == 1);
    CHECK(sim.counters().send_retries.read() + sim.counters().receive_errors.read() == 1);
    CHECK(sim.shard().table.size() == 1);
}

TEST_CASE("new clients beyond a turn's bound wait, and no client's datagrams overtake each other") {
    ShardSetup setup = small_setup();
    setup.sessions_max = 300;
    setup.proxies[0].sessions_max = 300;
    setup.proxies[0].ports = PortRange{20000, 20999};
    setup.descriptors_max = setup.slots_max = 4000;
    setup.buffers_per_leg = 512;  // all of them may wait
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 100; ++number) sim.ask(numbered_client(number), "1");
    for (std::uint16_t number = 0; number < 20; ++number)
        sim.ask(numbered_client(static_cast<std::uint16_t>(99 - number)), "2");
    sim.loop->turn();
    CHECK(sim.shard().table.size() == openings_per_turn);
    for (std::uint16_t number = 0; number < 100; ++number) sim.ask(numbered_client(number), "3");
    sim.turns(3);
    std::map<std::uint16_t, std::string> by_group;
    for (const Packet& packet : sim.asked()) by_group[packet.from.port] += packet.payload;
    CHECK(by_group.size() == 100);
    for (const auto& [port, order] : by_group) CHECK((order == "13" || order == "123"));
}

TEST_CASE("DSCP is carried or cleared as asked, ECN always carried, in both directions") {
    for (const bool copy : {true, false}) {
        ShardSetup setup = small_setup();
        setup.proxies[0].copy_dscp = copy;
        SimShard sim(setup);
        for (int tos = 0; tos < 256; ++tos) {
            const auto mark = static_cast<std::uint8_t>(tos);
            const auto expected = static_cast<std::uint8_t>(copy ? tos : tos & 3);
            sim.ask(client, "question", mark);
            sim.turns();
            const std::vector<Packet> asked = sim.asked();
            REQUIRE(asked.size() == 1);
            CHECK(asked[0].tos == expected);
            REQUIRE(sim.world->service_sends(first_alias, asked[0].from, "reply", mark));
            sim.turns();
            CHECK(sim.answered().at(0).tos == expected);
        }
    }
}

TEST_CASE(
    "a wildcard listener answers from the address that was asked, and keeps a session per "
    "address") {
    ShardSetup setup = small_setup();
    setup.listeners[0].endpoint = at("0.0.0.0:53");
    SimShard sim(setup);
    for (const char* local : {"10.1.0.1:53", "10.1.0.2:53"}) {
        sim.world->client_sends(client, at(local), local);
        sim.turns();
        REQUIRE(sim.world->service_sends(upstream, sim.asked().at(0).from, "reply"));
        sim.turns();
        CHECK(sim.answered().at(0).from == at(local));
    }
    CHECK(sim.shard().table.size() == 2);
}

TEST_CASE("a client that cannot be answered gets no session") {
    ShardSetup setup = small_setup();
    setup.listeners[0].endpoint = at("0.0.0.0:53");
    SimShard sim(setup);
    for (const char* source : {"224.0.0.1:5", "255.255.255.255:5", "0.0.0.0:5"}) {
        sim.world->client_sends(at(source), at("10.1.0.1:53"), "x");
    }
    sim.world->client_sends(Endpoint{client.address, 0, 0}, at("10.1.0.1:53"), "x");
    sim.turns();
    CHECK(sim.asked().empty());
    CHECK(sim.dropped(Drop::bad_source) == 4);
    CHECK(sim.shard().table.size() == 0);
}

TEST_CASE("of a broadcast or multicast datagram, of which each shard gets a copy, one serves it") {
    for (const char* all : {"255.255.255.255:53", "224.0.0.251:53", "[ff02::1]:53"}) {
        CAPTURE(all);
        constexpr std::uint32_t shards = 3;
        constexpr int clients = 24;
        std::size_t requests = 0;
        std::uint64_t copies = 0;
        for (std::uint32_t shard = 0; shard < shards; ++shard) {
            ShardSetup setup = small_setup();
            setup.shard = shard;
            setup.shards = shards;
            setup.listeners[0].endpoint = Endpoint{Address::any(at(all).family()), 0, 53};
            SimShard sim(setup);
            for (std::uint16_t i = 0; i < clients; ++i)
                sim.world->client_sends(numbered_client(i), at(all), "x");
            sim.turns();
            const std::size_t served = sim.asked().size();
            CHECK(served > 0);
            CHECK(sim.dropped(Drop::broadcast_copy) == clients - served);
            requests += served;
            copies += sim.dropped(Drop::broadcast_copy);
            // What is written to the host itself is for the shard that gets it.
            sim.world->client_sends(
                client, at(all).family() == Family::ipv4 ? at("10.1.0.1:53") : at("[fd01::1]:53"),
                "x");
            sim.turns();
            CHECK(sim.asked().size() == 1);
        }
        CHECK(requests == clients);
        CHECK(copies == (shards - 1) * clients);
    }
}

TEST_CASE("on stop no new client is admitted and what is queued for sessions is forwarded") {
    SimShard sim;
    sim.ask(client, "1");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    REQUIRE(sim.shard().commands.post(Command{}));
    sim.turns();
    sim.ask(client, "2");
    sim.ask(numbered_client(5), "new client");
    REQUIRE(sim.world->service_sends(upstream, group, "reply"));
    sim.loop->run();
    CHECK(sim.asked().size() == 1);
    CHECK(sim.answered().size() == 1);
    CHECK(sim.dropped(Drop::stopping) == 1);
}

TEST_CASE("new clients beyond a turn's bound are counted when the program stops, every one") {
    ShardSetup setup = small_setup();
    setup.buffers_per_leg = 1024;
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 400; ++number) sim.ask(numbered_client(number), "x");
    REQUIRE(sim.shard().commands.post(Command{}));
    sim.loop->run();
    CHECK(sim.shard().new_clients.empty());
    CHECK(sim.asked().size() == openings_per_turn);
    CHECK(sim.dropped(Drop::stopping) == 400 - openings_per_turn);
}

TEST_CASE("a session's end is told with what went through it") {
    SimShard sim;
    make_assured(sim, client);
    sim.advance(301s);
    sim.turns();
    Event event;
    REQUIRE(sim.shard().events.take(event));
    CHECK(event.kind == EventKind::session_ended);
    CHECK(event.client == client);
    CHECK(event.end == SessionEnd::idle);
    CHECK(event.requests.datagrams == 2);
    CHECK(event.requests.bytes == 11);
    CHECK(event.replies.datagrams == 1);
    CHECK(event.assured);
}

TEST_CASE("sessions that are there when the program stops have their end told") {
    SimShard sim;
    make_assured(sim, client);
    sim.ask(numbered_client(5), "x");
    sim.turns();
    REQUIRE(sim.shard().table.size() == 2);
    REQUIRE(sim.shard().commands.post(Command{}));
    sim.loop->run();
    for (int i = 0; i < 2; ++i) {
        Event event;
        REQUIRE(sim.shard().events.take(event));
        CHECK(event.kind == EventKind::session_ended);
        CHECK(event.end == SessionEnd::stopped);
    }
    CHECK(sim.counters().sessions_stopped.read() == 2);
    CHECK(sim.shard().table.size() == 0);
}

TEST_CASE("groups watch while half the capacity is spare, and one in sixteen after that") {
    ShardSetup setup = small_setup();
    setup.proxies[0].watch = Watch::spare_capacity;
    setup.descriptors_max = 4 * 40;
    SimShard sim(setup);
    for (std::uint16_t number = 0; number < 45; ++number) {
        sim.ask(numbered_client(number), "x");
        sim.turns();
    }
    int watching = 0;
    for (std::uint32_t group = 0; group < 45; ++group)
        watching += sim.shard().groups[group].has_open_member ? 1 : 0;
    CHECK(watching >= 20);
    CHECK(watching <= 22);
}
