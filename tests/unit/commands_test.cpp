// What a shard does with commands: new versions of an upstream beside sessions of the old one.
#include <doctest/doctest.h>

#include <cerrno>
#include <map>

#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

const Endpoint client = at("192.0.2.7:4000");
const Endpoint other_client = at("192.0.2.8:4000");
const Endpoint first_alias = at("10.0.0.253:53");

/// Keeps every version, as the control thread does.
std::shared_ptr<const Upstream> version(std::string_view endpoint, std::uint32_t number,
                                        const std::vector<const char*>& aliases = {},
                                        AliasMembers members = AliasMembers::connected) {
    static std::vector<std::shared_ptr<const Upstream>> kept;
    std::vector<AliasRule> rules;
    for (const char* alias : aliases)
        rules.push_back(AliasRule{Prefix{*parse_address(alias), 32}, 0, 53});
    kept.push_back(std::make_shared<Upstream>(at(endpoint), std::move(rules), members, number));
    return kept.back();
}

void tell(SimShard& sim, const Command& command) {
    REQUIRE(sim.shard().commands.post(command));
    sim.turns();
}

void tell(SimShard& sim, CommandKind kind, std::uint16_t proxy = 0, std::uint16_t listener = 0) {
    Command command;
    command.kind = kind;
    command.proxy = proxy;
    command.listener = listener;
    tell(sim, command);
}

void set_upstream(SimShard& sim, std::shared_ptr<const Upstream> upstream,
                  bool close_older = false) {
    Command command;
    command.kind = CommandKind::set_upstream;
    if (close_older) command.closes_below = upstream->version();
    command.upstream = std::move(upstream);
    tell(sim, command);
}

/// How many members of the group at `local` have this peer.
std::size_t members_towards(SimShard& sim, const Endpoint& local,
                            const std::optional<Endpoint>& peer) {
    std::size_t count = 0;
    for (const auto& [slot, member] : sim.world->members)
        if (member.local == local && member.peer == peer && member.waits_until_closed < 0) ++count;
    return count;
}

}  // namespace

TEST_CASE("a raised rate of new sessions holds at once, though the old one was met") {
    const auto number_of_new_clients = [](SimShard& sim, std::uint8_t from, int count) {
        for (int i = 0; i < count; ++i)
            sim.ask(Endpoint{*parse_address("192.0.2." + std::to_string(from)), 0,
                             static_cast<std::uint16_t>(1000 + i)},
                    "x");
        sim.turns();
        return sim.asked().size();
    };
    const Rate met{1, 20};
    for (const bool of_proxy : {true, false}) {
        CAPTURE(of_proxy);
        ShardSetup setup = small_setup();
        (of_proxy ? setup.proxies[0].new_sessions : setup.new_sessions) = met;
        SimShard sim(setup);
        CHECK(number_of_new_clients(sim, 1, 25) == 20);
        Command command;
        command.kind = of_proxy ? CommandKind::set_settings : CommandKind::set_limits;
        command.settings = setup.proxies[0];
        command.sessions_max = setup.sessions_max;
        command.descriptors_max = setup.descriptors_max;
        (of_proxy ? command.settings.new_sessions : command.new_sessions) = Rate{1000, 1000};
        tell(sim, command);
        sim.advance(15ms);
        CHECK(number_of_new_clients(sim, 2, 20) == 15);
    }
}

TEST_CASE("a proxy in the slot of another one does not inherit that its rate was met") {
    ShardSetup setup = small_setup();
    setup.proxies[0].new_sessions = Rate{1, 1};
    SimShard sim(setup);
    sim.ask(client, "x");
    sim.ask(other_client, "x");
    sim.turns();
    CHECK(sim.dropped(Drop::session_rate) == 1);
    Command command;
    command.kind = CommandKind::set_settings;
    command.settings = setup.proxies[0];
    command.fresh = true;
    tell(sim, command);
    sim.ask(other_client, "x");
    sim.turns();
    CHECK(sim.dropped(Drop::session_rate) == 0);
}

TEST_CASE(
    "sessions are evicted at the rate that a shorter cooldown allows, though a lower was met") {
    ShardSetup setup = small_setup();
    setup.proxies[0].ports = PortRange{20000, 27999};
    setup.proxies[0].port_cooldown = 1h;  // 1 eviction a second, 999 at once
    setup.proxies[0].sessions_max = 2;
    SimShard sim(setup);
    sim.ask(client, "x");
    sim.ask(other_client, "x");
    sim.turns();
    sim.advance(2s);
    TokenBucket& evictions = sim.shard().setup.use->proxies[0].evictions;
    while (evictions.take(sim.world->now, Rate{1, 999})) {
    }
    sim.ask(at("192.0.2.9:4000"), "x");
    sim.turns();
    CHECK(sim.dropped(Drop::session_limit) == 1);
    Command command;
    command.kind = CommandKind::set_settings;
    command.settings = setup.proxies[0];
    command.settings.port_cooldown = 10s;
    tell(sim, command);
    sim.advance(100ms);
    sim.ask(at("192.0.2.9:4000"), "x");
    sim.turns();
    CHECK(sim.dropped(Drop::session_limit) == 1);
    CHECK(sim.counters().sessions_evicted.read() == 1);
}

TEST_CASE("a shard does not sleep while there are commands that a turn left for the next") {
    SimShard sim;
    Command command;
    command.kind = CommandKind::resume;
    command.proxy = all_proxies;
    for (std::uint32_t i = 0; i < commands_per_turn + 1; ++i)
        REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
    CHECK(next_deadline(sim.shard(), sim.world->now) == sim.world->now);
    sim.loop->turn();
    CHECK(sim.shard().commands.is_empty());
    CHECK(next_deadline(sim.shard(), sim.world->now) != sim.world->now);
}

TEST_CASE(
    "new clients go to the new version of an upstream, and a session stays with the one it began "
    "with") {
    SimShard sim;
    sim.ask(client, "before");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    set_upstream(sim, version("10.0.0.9:53", 2));
    sim.ask(client, "after");
    sim.ask(other_client, "new");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].to == at("10.0.0.254:53"));
    CHECK(asked[0].from == group);
    CHECK(asked[1].to == at("10.0.0.9:53"));
    // Each is answered by its own version's sources, and by those only.
    REQUIRE(sim.world->service_sends(first_alias, group, "old alias"));
    sim.world->service_sends(first_alias, asked[1].from, "no alias of the new version");
    REQUIRE(sim.world->service_sends(at("10.0.0.9:53"), asked[1].from, "new upstream"));
    sim.turns();
    const std::vector<Packet> answered = sim.answered();
    REQUIRE(answered.size() == 2);
    CHECK(answered[0].payload == "old alias");
    CHECK(answered[1].payload == "new upstream");
    CHECK(sim.dropped(Drop::unlisted_source) == 1);
}

TEST_CASE(
    "a group of an older version is not reused, and with the last one the shard's share of its "
    "version goes") {
    SimShard sim;
    std::shared_ptr<const Upstream> second = version("10.0.0.9:53", 2);
    const long holders_before = second.use_count();
    sim.ask(client, "first");
    sim.turns();
    const Endpoint old_group = sim.asked()[0].from;
    set_upstream(sim, second);
    sim.advance(31s);
    sim.turns(6);  // the session ends; its group closes instead of cooling
    CHECK(sim.world->open_members() == 0);
    sim.advance(11s);
    sim.ask(client, "second");
    sim.turns();
    CHECK(sim.asked()[0].from != old_group);
    CHECK(second.use_count() == holders_before + 2);  // the proxy's, and the groups'
    set_upstream(sim, version("10.0.0.8:53", 3));
    CHECK(second.use_count() == holders_before + 1);
    sim.advance(31s);
    sim.turns(6);
    CHECK(second.use_count() == holders_before);
}

TEST_CASE("groups that cool down when the version changes are closed, not reused") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    sim.advance(31s);
    sim.turns(2);
    CHECK(sim.shard().groups.cooling() == 1);
    set_upstream(sim, version("10.0.0.9:53", 2));
    sim.advance(11s);
    sim.ask(other_client, "second");
    sim.turns(5);
    REQUIRE(sim.asked().back().to == at("10.0.0.9:53"));
    CHECK(sim.counters().groups_reused.read() == 0);
    CHECK(sim.shard().groups.size() == 1);
}

TEST_CASE(
    "while a name has no address its new clients are dropped under one reason, and the first "
    "datagram after the command is served") {
    ShardSetup setup = small_setup();
    setup.proxies[0].upstream = std::make_shared<Upstream>(Endpoint{});
    SimShard sim(setup);
    sim.ask(client, "too early");
    sim.turns();
    CHECK(sim.asked().empty());
    CHECK(sim.dropped(Drop::upstream_unresolved) == 1);
    set_upstream(sim, version("10.0.0.9:53", 2));
    sim.ask(client, "now");
    sim.turns();
    REQUIRE(sim.asked().size() == 1);
    CHECK(sim.shard().setup.use->sessions.used == 1);
}

TEST_CASE(
    "a new alias joins the groups that are there, a removed one leaves them, and sessions keep "
    "port and group") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    const std::uint32_t used = sim.shard().setup.use->descriptors.used;
    set_upstream(sim, version("10.0.0.254:53", 2, {"10.0.0.252", "10.0.0.251"}));
    CHECK(members_towards(sim, group, at("10.0.0.251:53")) == 1);
    CHECK(members_towards(sim, group, at("10.0.0.252:53")) == 1);
    CHECK(members_towards(sim, group, first_alias) == 0);
    CHECK(sim.counters().members_joined.read() == 1);
    REQUIRE(sim.world->service_sends(at("10.0.0.251:53"), group, "new alias"));
    REQUIRE(sim.world->service_sends(at("10.0.0.252:53"), group, "old alias"));
    sim.turns(6);
    CHECK(sim.answered().size() == 2);
    sim.world->service_sends(first_alias, group, "no alias any more");
    sim.turns();
    CHECK(sim.answered().empty());
    CHECK(sim.dropped(Drop::unlisted_source) == 1);
    CHECK(sim.shard().setup.use->descriptors.used == used);
    CHECK(sim.shard().descriptors_closing == 0);
    sim.ask(client, "second");
    sim.turns();
    CHECK(sim.asked()[0].from == group);
    // All goes at the end, and nothing else.
    sim.advance(400s);
    sim.turns(10);
    sim.advance(100s);
    sim.turns(10);
    CHECK(sim.world->open_members() == 0);
    CHECK(sim.shard().setup.use->descriptors.used == 0);
}

TEST_CASE("a group goes from alias members to an open member and back") {
    ShardSetup setup = small_setup();
    setup.proxies[0].watch = Watch::none;
    SimShard sim(setup);
    sim.ask(client, "first");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    CHECK(members_towards(sim, group, std::nullopt) == 0);
    set_upstream(sim, version("10.0.0.254:53", 2, {"10.0.0.253", "10.0.0.252", "10.0.0.251"},
                              AliasMembers::open));
    CHECK(members_towards(sim, group, std::nullopt) == 1);
    CHECK(members_towards(sim, group, first_alias) == 0);
    REQUIRE(sim.world->service_sends(at("10.0.0.251:53"), group, "through the open one"));
    sim.turns(6);
    CHECK(sim.answered().size() == 1);
    set_upstream(sim, version("10.0.0.254:53", 3, {"10.0.0.253"}));
    sim.turns(6);
    CHECK(members_towards(sim, group, std::nullopt) == 0);
    CHECK(members_towards(sim, group, first_alias) == 1);
    CHECK(sim.shard().setup.use->descriptors.used == 2);
}

TEST_CASE(
    "a member that cannot join is tried again a second later, and until then the group is as it "
    "was") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.world->next_join = {OpeningStep::join, EADDRINUSE};
    set_upstream(sim, version("10.0.0.254:53", 2, {"10.0.0.253", "10.0.0.252", "10.0.0.251"}));
    CHECK(sim.counters().joins_failed.read() == 1);
    CHECK(members_towards(sim, group, at("10.0.0.251:53")) == 0);
    REQUIRE(sim.world->service_sends(first_alias, group, "still listed"));
    sim.turns();
    CHECK(sim.answered().size() == 1);
    sim.advance(1s);
    sim.turns();
    CHECK(members_towards(sim, group, at("10.0.0.251:53")) == 1);
}

TEST_CASE("where no descriptor is left a cooling group closes in favour of a session's new alias") {
    ShardSetup setup = small_setup();
    setup.descriptors_max = 8;  // two groups
    SimShard sim(setup);
    sim.ask(client, "first");
    sim.ask(other_client, "second");
    sim.turns();
    sim.advance(31s);
    sim.turns();
    sim.advance(11s);
    sim.ask(client, "again");
    sim.turns();
    const Endpoint group = sim.asked().back().from;
    CHECK(sim.shard().groups.cooling() == 1);
    set_upstream(sim, version("10.0.0.254:53", 2, {"10.0.0.253", "10.0.0.252", "10.0.0.251"}));
    for (int second = 0; second < 3; ++second) {
        sim.turns(5);
        sim.advance(1s);
    }
    sim.turns();
    CHECK(members_towards(sim, group, at("10.0.0.251:53")) == 1);
}

TEST_CASE(
    "with closes_below sessions of older versions end, and the next datagram goes to the new "
    "upstream") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    const Endpoint old_group = sim.asked()[0].from;
    set_upstream(sim, version("10.0.0.9:53", 2), true);
    CHECK(sim.counters().sessions_closed.read() == 1);
    sim.ask(client, "second");
    sim.turns(6);
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].to == at("10.0.0.9:53"));
    CHECK(asked[0].from != old_group);
}

TEST_CASE("new time-outs hold for the sessions that are there") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    Command command;
    command.kind = CommandKind::set_settings;
    command.settings = small_setup().proxies[0];
    command.settings.unassured_timeout = 2s;
    tell(sim, command);
    sim.advance(3s);
    sim.turns();
    CHECK(sim.counters().sessions_expired.read() == 1);
    CHECK(sim.shard().table.size() == 0);
}

TEST_CASE(
    "while draining no new client is admitted, known clients go on, and a resumed proxy admits "
    "again") {
    for (const std::uint16_t proxy : {std::uint16_t{0}, all_proxies}) {
        SimShard sim;
        sim.ask(client, "known");
        sim.turns();
        sim.asked();
        tell(sim, CommandKind::drain, proxy);
        sim.ask(client, "goes on");
        sim.ask(other_client, "new client");
        sim.turns();
        CHECK(sim.asked().size() == 1);
        CHECK(sim.dropped(Drop::draining) == 1);
        tell(sim, CommandKind::resume, proxy);
        sim.ask(other_client, "new client");
        sim.turns();
        CHECK(sim.asked().size() == 1);
    }
}

TEST_CASE(
    "a retired listener serves its sessions; closed, it ends them, closes and gives its slot "
    "back") {
    SimShard sim;
    SharedUse& use = *sim.shard().setup.use;
    use.listeners_held[0] = 1;
    sim.ask(client, "known");
    sim.turns();
    CHECK(use.listener_sessions[0].read() == 1);
    const Endpoint group = sim.asked()[0].from;
    tell(sim, CommandKind::retire_listener);
    sim.ask(other_client, "new client");
    REQUIRE(sim.world->service_sends(at("10.0.0.254:53"), group, "reply"));
    sim.turns();
    CHECK(sim.dropped(Drop::draining) == 1);
    CHECK(sim.answered().size() == 1);
    tell(sim, CommandKind::close_listener);
    sim.turns(3);
    CHECK(sim.counters().sessions_closed.read() == 1);
    CHECK_FALSE(sim.world->listeners[0].is_open);
    CHECK(use.listeners_held[0] == 0);
    CHECK(use.listener_sessions[0].read() == 0);
    CHECK(sim.shard().leaving == 0);
    CHECK(sim.shard().listeners_open == 0);
}

TEST_CASE("a proxy comes into a vacant slot, serves, goes and leaves nothing behind") {
    ShardSetup setup = small_setup();
    setup.proxies_max = 2;
    setup.bindings_max = 4;
    setup.port_pools_max = 2;
    setup.listeners.push_back(ListenerSetup{0, at("10.1.0.1:54")});
    SimShard sim(setup);
    SharedUse& use = *sim.shard().setup.use;
    tell(sim, CommandKind::close_listener, 0, 1);
    sim.turns(3);

    use.proxies_held[1] = use.listeners_held[1] = use.bindings_held[1] = 1;
    Command command;
    command.proxy = 1;
    command.kind = CommandKind::set_settings;
    command.settings = small_setup().proxies[0];
    command.fresh = true;
    tell(sim, command);
    command.kind = CommandKind::set_upstream;
    command.upstream = version("10.0.0.9:53", 1);
    tell(sim, command);
    // Another range of the source that is there: the pool is replaced, and what is leased stays
    // leased.
    sim.ask(client, "on the first proxy");
    sim.turns();
    sim.asked();
    const PortRange first{20000, 20099};
    const PortRange second{20100, 20109};
    const auto bindings = std::make_shared<SourceBindingChange>();
    bindings->first = 1;
    bindings->bindings = {{Address::any(Family::ipv4), 0, 1}};
    bindings->pools.push_back({0, PortPool(std::vector{first, second}, 0, 1)});
    command.kind = CommandKind::set_source_bindings;
    command.bindings = bindings;
    tell(sim, command);
    CHECK(sim.shard().ports[0].leased() == 1);
    command = Command{};
    command.kind = CommandKind::adopt_listener;
    command.proxy = command.listener = 1;
    command.arrival = std::make_shared<ListenerArrival>();
    command.arrival->endpoint = at("10.1.0.1:54");
    tell(sim, command);

    sim.world->client_sends(other_client, at("10.1.0.1:54"), "new proxy");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].to == at("10.0.0.9:53"));
    CHECK(asked[0].from.port >= 20100);
    CHECK(asked[0].from.port <= 20109);

    tell(sim, CommandKind::close_listener, 1, 1);
    tell(sim, CommandKind::close_proxy, 1);
    sim.turns(8);
    CHECK(use.proxies_held[1] == 0);
    CHECK(use.listeners_held[1] == 0);
    CHECK(use.bindings_held[1] == 0);
    CHECK(sim.shard().leaving == 0);
    CHECK(sim.shard().table.size() == 1);
    CHECK(sim.world->open_members() == 4);  // the first proxy's
}

namespace {

/// Two proxies, listeners :53 and :54, and ports enough; a listener's slot can pass to the next.
ShardSetup two_proxies() {
    ShardSetup setup = small_setup();
    setup.proxies[0].upstream = version("10.0.0.254:53", 1);
    setup.proxies.push_back(setup.proxies[0]);
    setup.proxies[1].upstream = version("10.0.0.9:53", 1);
    setup.listeners.push_back(ListenerSetup{1, at("10.1.0.1:54")});
    return setup;
}

void adopt_listener(SimShard& sim, std::uint16_t proxy, std::uint16_t listener) {
    Command command;
    command.kind = CommandKind::adopt_listener;
    command.proxy = proxy;
    command.listener = listener;
    command.arrival = std::make_shared<ListenerArrival>();
    command.arrival->endpoint = sim.world->listeners[listener].endpoint;
    REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
}

}  // namespace

TEST_CASE(
    "a new client that waits at a listener which closes is dropped, whichever listener gets its "
    "slot") {
    SimShard sim(two_proxies());
    sim.world->next_opening = {OpeningStep::socket, EMFILE};
    // The first turn tells some to wait; the listener closes with all sessions that it had.
    for (std::uint16_t i = 0; i < 150; ++i)
        sim.world->client_sends(Endpoint{client.address, 0, static_cast<std::uint16_t>(2000 + i)},
                                at("10.1.0.1:53"), "first proxy's");
    Command command;
    command.kind = CommandKind::close_listener;
    REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
    REQUIRE(sim.shard().new_clients.size() > 100);
    CHECK(accounts_balance(sim.shard()));
    sim.loop->turn();
    sim.loop->turn();
    REQUIRE_FALSE(sim.shard().listeners[0].open);
    CHECK(sim.shard().new_clients.empty());
    adopt_listener(sim, 1, 0);
    sim.turns(10);
    for (const Packet& packet : sim.asked()) CHECK(packet.to == at("10.0.0.254:53"));
    CHECK(sim.counters(1).departures_request.read() == 0);
    CHECK(sim.dropped(Drop::draining) > 100);
    CHECK(accounts_balance(sim.shard()));
    // A client that comes now is the second proxy's.
    sim.ask(other_client, "second proxy's");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].to == at("10.0.0.9:53"));
    CHECK(accounts_balance(sim.shard()));
}

TEST_CASE(
    "a new client that waits while its listener moves to another proxy is served by the proxy it "
    "wrote to, and dropped when that one goes") {
    for (const bool goes : {false, true}) {
        CAPTURE(goes);
        SimShard sim(two_proxies());
        sim.shard().setup.use->proxies_held[0] = 1;
        for (std::uint16_t i = 0; i < 150; ++i)
            sim.world->client_sends(
                Endpoint{client.address, 0, static_cast<std::uint16_t>(2000 + i)},
                at("10.1.0.1:53"), "first proxy's");
        Command command;
        command.kind = CommandKind::move_listener;
        command.proxy = 1;
        REQUIRE(sim.shard().commands.post(command));
        if (goes) {
            command.kind = CommandKind::close_proxy;
            command.proxy = 0;
            REQUIRE(sim.shard().commands.post(command));
        }
        sim.loop->turn();
        REQUIRE(sim.shard().new_clients.size() > 100);
        sim.turns(100);
        CHECK(sim.shard().new_clients.empty());
        for (const Packet& packet : sim.asked()) CHECK(packet.to == at("10.0.0.254:53"));
        CHECK(sim.counters(1).arrivals_request.read() == 0);
        CHECK(sim.counters(1).departures_request.read() == 0);
        CHECK((sim.dropped(Drop::draining) > 0) == goes);
        CHECK((sim.shard().setup.use->proxies_held[0] == 0) == goes);
        CHECK(accounts_balance(sim.shard()));
        sim.advance(31s);  // all sessions were taken
        sim.turns(2);
        sim.ask(other_client, "second proxy's");
        sim.turns();
        REQUIRE(sim.asked().size() == 1);
        CHECK(sim.counters(1).departures_request.read() == 1);
    }
}

// A storm of simulated shards found both: the next proxy had arrivals that it never sent on.
TEST_CASE(
    "a session's datagrams are its proxy's, also after its listener has moved to another proxy") {
    SimShard sim(two_proxies());
    sim.ask(client, "first");
    sim.turns();
    REQUIRE(sim.asked().size() == 1);
    Command command;
    command.kind = CommandKind::move_listener;
    command.proxy = 1;
    tell(sim, command);
    sim.ask(client, "second");
    sim.turns();
    REQUIRE(sim.asked().size() == 1);
    CHECK(sim.counters(0).arrivals_request.read() == 2);
    CHECK(sim.counters(0).departures_request.read() == 2);
    CHECK(sim.counters(1).arrivals_request.read() == 0);
    CHECK(accounts_balance(sim.shard()));
}

TEST_CASE(
    "a client's datagrams from before and after its listener moved are each counted by one proxy") {
    SimShard sim(two_proxies());
    const auto ask = [&] {
        for (std::uint16_t i = 0; i < 40; ++i)
            sim.ask(Endpoint{client.address, 0, static_cast<std::uint16_t>(2000 + i)}, "?");
    };
    ask();
    Command command;
    command.kind = CommandKind::move_listener;
    command.proxy = 1;
    REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
    REQUIRE(sim.shard().new_clients.size() > 0);
    ask();
    sim.turns(60);
    CHECK(sim.asked().size() == 80);
    CHECK(sim.counters(0).arrivals_request.read() > 40);
    CHECK(sim.counters(1).arrivals_request.read() > 0);
    CHECK(accounts_balance(sim.shard()));
}

TEST_CASE("no new client waits for a proxy whose slot has been given back") {
    SimShard sim(two_proxies());
    sim.shard().setup.use->proxies_held[0] = 1;
    tell(sim, CommandKind::drain);  // no group keeps the proxy's slot
    for (std::uint16_t i = 0; i < 150; ++i)
        sim.world->client_sends(Endpoint{client.address, 0, static_cast<std::uint16_t>(2000 + i)},
                                at("10.1.0.1:53"), "first proxy's");
    Command command;
    command.kind = CommandKind::move_listener;
    command.proxy = 1;
    REQUIRE(sim.shard().commands.post(command));
    command.kind = CommandKind::close_proxy;
    command.proxy = 0;
    REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
    REQUIRE(sim.shard().setup.use->proxies_held[0] == 0);
    CHECK(sim.shard().new_clients.empty());
    CHECK(sim.dropped(Drop::draining) == 150);
}

TEST_CASE("a pending reply never leaves from the next listener in its listener's slot") {
    SimShard sim(two_proxies());
    sim.ask(client, "question");
    sim.turns();
    const Endpoint group = sim.asked()[0].from;
    sim.world->send_errors = EAGAIN;
    REQUIRE(sim.world->service_sends(at("10.0.0.254:53"), group, "answer"));
    Command command;
    command.kind = CommandKind::close_listener;
    sim.loop->turn();
    REQUIRE(sim.shard().pending.size() == 1);
    REQUIRE(sim.shard().commands.post(command));
    sim.loop->turn();
    sim.loop->turn();
    REQUIRE_FALSE(sim.shard().listeners[0].open);
    CHECK(sim.shard().pending.empty());
    adopt_listener(sim, 1, 0);
    sim.world->send_errors = 0;
    sim.turns(3);
    CHECK(sim.answered().empty());
    CHECK(sim.dropped(Drop::send_would_block) == 1);
    CHECK(accounts_balance(sim.shard()));
}

TEST_CASE("a listener that the engine refused leaves no mark on the next one in its slot") {
    SimShard sim(two_proxies());
    tell(sim, CommandKind::close_listener);
    sim.turns(3);
    REQUIRE_FALSE(sim.shard().listeners[0].open);
    SharedUse& use = *sim.shard().setup.use;
    use.listeners_held[0] = 1;
    sim.world->next_adoption_error = ENOMEM;
    adopt_listener(sim, 0, 0);
    CHECK(use.listeners_held[0] == 0);
    tell(sim, CommandKind::retire_listener);  // was under way when the refusal was not known yet
    tell(sim, CommandKind::close_listener);
    use.listeners_held[0] = 1;
    adopt_listener(sim, 1, 0);
    CHECK(use.listeners_held[0] == 1);
    sim.ask(client, "question");
    sim.turns();
    const std::vector<Packet> asked = sim.asked();
    REQUIRE(asked.size() == 1);
    CHECK(asked[0].to == at("10.0.0.9:53"));
    tell(sim, CommandKind::close_listener);
    sim.turns(3);
    CHECK(use.listeners_held[0] == 0);
    CHECK(sim.shard().leaving == 0);
}

namespace {

/// Random commands between random datagrams; the owner of a payload is written in it.
class CommandStorm {
public:
    explicit CommandStorm(std::uint64_t seed) : draw_(seed), sim_(setup(), seed) {}

    void run(int steps) {
        for (int step = 0; step < steps; ++step) {
            act();
            if (draw_.pick(3) == 0) sim_.advance(std::chrono::milliseconds{draw_.pick(1500)});
            sim_.turns(1 + static_cast<int>(draw_.pick(3)));
            for (const Packet& packet : sim_.asked()) owner_[packet.from] = packet.payload;
            for (const Packet& packet : sim_.answered())
                REQUIRE(packet.payload == format(packet.to));
        }
    }
    /// Whatever was commanded, in the end nothing is left.
    void calm_down() {
        for (int i = 0; i < 40; ++i) {
            sim_.advance(10s);
            sim_.turns(20);
        }
        CHECK(sim_.shard().table.size() == 0);
        CHECK(sim_.world->open_members() == 0);
        CHECK(sim_.shard().setup.use->descriptors.used == 0);
        CHECK(sim_.shard().descriptors_closing == 0);
        CHECK_FALSE(sim_.shard().reconcile_at.has_value());
        for (const HeldUpstream& held : sim_.shard().upstreams) CHECK(held.upstream == nullptr);
        for (std::size_t i = 0; i + 1 < versions_.size(); ++i) CHECK(versions_[i].use_count() == 1);
    }

private:
    static ShardSetup setup() {
        ShardSetup setup = small_setup();
        setup.descriptors_max = 60;
        setup.proxies[0].watch = Watch::spare_capacity;
        setup.proxies[0].port_cooldown = 2s;
        setup.proxies[0].unassured_timeout = 5s;
        return setup;
    }

    void act() {
        const Endpoint asking{*parse_address("192.0.2.9"), 0,
                              static_cast<std::uint16_t>(1000 + draw_.pick(12))};
        switch (draw_.pick(8)) {
            case 0:
                return command_upstream();
            case 1:
                return command_settings();
            case 2:
                return post(draw_.pick(4) == 0 ? CommandKind::drain : CommandKind::resume);
            case 3:
                if (draw_.pick(4) == 0) sim_.world->next_join = {OpeningStep::socket, EMFILE};
                return;
            case 4:
            case 5:
                return sim_.ask(asking, format(asking));
            default:
                break;
        }
        if (owner_.empty()) return;
        const auto place =
            std::next(owner_.begin(), static_cast<std::ptrdiff_t>(draw_.pick(owner_.size())));
        const Endpoint source{*parse_address("10.0.0." + std::to_string(248 + draw_.pick(7))), 0,
                              53};
        sim_.world->service_sends(source, place->first, place->second);
    }

    void command_upstream() {
        std::vector<AliasRule> aliases;
        for (int last = 249; last < 254; ++last)
            if (draw_.pick(2) == 0)
                aliases.push_back(
                    AliasRule{Prefix{*parse_address("10.0.0." + std::to_string(last)), 32}, 0, 53});
        const Endpoint endpoint = draw_.pick(4) == 0 ? at("10.0.0.248:53") : at("10.0.0.254:53");
        versions_.push_back(std::make_shared<Upstream>(
            endpoint, std::move(aliases),
            draw_.pick(3) == 0 ? AliasMembers::open : AliasMembers::connected,
            static_cast<std::uint32_t>(versions_.size()) + 2));
        Command command;
        command.kind = CommandKind::set_upstream;
        command.upstream = versions_.back();
        if (draw_.pick(4) == 0) command.closes_below = command.upstream->version();
        REQUIRE(sim_.shard().commands.post(command));
    }
    void command_settings() {
        Command command;
        command.kind = CommandKind::set_settings;
        command.settings = setup().proxies[0];
        command.settings.unassured_timeout = std::chrono::seconds{1 + draw_.pick(10)};
        command.settings.watch = draw_.pick(2) == 0 ? Watch::none : Watch::all;
        REQUIRE(sim_.shard().commands.post(command));
    }
    void post(CommandKind kind) {
        Command command;
        command.kind = kind;
        REQUIRE(sim_.shard().commands.post(command));
    }

    SimWorld draw_;
    std::vector<std::shared_ptr<const Upstream>> versions_;
    SimShard sim_;
    std::map<Endpoint, std::string>
        owner_;  // the client that was last heard from a group's address
};

}  // namespace

TEST_CASE(
    "storms of commands lose no descriptor, hold no version for ever and send no reply to the "
    "wrong client") {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        CommandStorm storm(seed);
        storm.run(400);
        storm.calm_down();
    }
}
