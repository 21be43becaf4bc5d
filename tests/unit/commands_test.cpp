// What a shard does with commands: new versions of an upstream beside sessions of the old one.
#include <doctest/doctest.h>

#include "sim/sim_shard.hpp"

using namespace udpproxy;
using namespace udpproxy::sim;
using namespace std::chrono_literals;

namespace {

const Endpoint client = at("192.0.2.7:4000");
const Endpoint other_client = at("192.0.2.8:4000");
const Endpoint first_alias = at("10.0.0.253:53");

/// Keeps every version, as the control thread does.
std::shared_ptr<const Upstream> version(std::string_view endpoint, std::uint32_t number) {
    static std::vector<std::shared_ptr<const Upstream>> kept;
    kept.push_back(std::make_shared<Upstream>(at(endpoint), std::vector<AliasRule>{}, AliasMembers::connected, number));
    return kept.back();
}

void set_upstream(SimShard& sim, std::shared_ptr<const Upstream> upstream) {
    Command command;
    command.kind = CommandKind::set_upstream;
    command.upstream = std::move(upstream);
    REQUIRE(sim.shard().commands.post(command));
    sim.turns();
}

}  // namespace

TEST_CASE("newcomers go to the new version of an upstream, and a session stays with the one it began with") {
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

TEST_CASE("a group of an older version is not lent again, and with the last one its version is let go of") {
    SimShard sim;
    std::shared_ptr<const Upstream> second = version("10.0.0.9:53", 2);
    const long holders_before = second.use_count();
    sim.ask(client, "first");
    sim.turns();
    const Endpoint old_group = sim.asked()[0].from;
    set_upstream(sim, second);
    sim.advance(31s);
    sim.turns(6);  // the session ends; its group closes instead of resting
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

TEST_CASE("groups that rest when the version changes are closed, not lent") {
    SimShard sim;
    sim.ask(client, "first");
    sim.turns();
    sim.advance(31s);
    sim.turns(2);
    CHECK(sim.shard().groups.resting() == 1);
    set_upstream(sim, version("10.0.0.9:53", 2));
    sim.advance(11s);
    sim.ask(other_client, "second");
    sim.turns(5);
    REQUIRE(sim.asked().back().to == at("10.0.0.9:53"));
    CHECK(sim.counters().groups_lent.read() == 0);
    CHECK(sim.shard().groups.size() == 1);
}

TEST_CASE("while a name has no address its newcomers are dropped under one reason, and the first datagram after the command is served") {
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
