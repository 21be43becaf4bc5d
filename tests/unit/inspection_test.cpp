// Inspection: what a shard answers to the admin thread, within one turn and without harm to
// traffic.
#include "udpproxy/shard/inspection.hpp"

#include <doctest/doctest.h>

#include <set>

#include "sim/sim_shard.hpp"

namespace udpproxy {
namespace {

using sim::at;
using sim::SimShard;

Endpoint client(int number) { return at("10.9.0.1:" + std::to_string(1000 + number)); }

const Answer& answer_of(SimShard& sim, const Question& question) {
    REQUIRE(sim.shard().inspections.ask(question));
    CHECK(sim.shard().inspections.answer() == nullptr);
    sim.turns();
    const Answer* answer = sim.shard().inspections.answer();
    REQUIRE(answer != nullptr);
    return *answer;
}

Question about(QuestionKind kind) {
    Question question;
    question.kind = kind;
    return question;
}

TEST_CASE("a shard that turns answers") {
    SimShard sim;
    (void)answer_of(sim, about(QuestionKind::liveness));
}

TEST_CASE("sessions are told as they are") {
    SimShard sim;
    sim.ask(client(1), "four");
    sim.turns();
    REQUIRE(sim.asked().size() == 1);
    sim.advance(std::chrono::seconds{3});
    const Answer& answer = answer_of(sim, about(QuestionKind::sessions));
    REQUIRE(answer.sessions.size() == 1);
    CHECK(answer.next == no_index);
    const SessionView& view = answer.sessions[0];
    CHECK(view.id != 0);
    CHECK(view.client == client(1));
    CHECK(view.local_endpoint.port >= 20000);
    CHECK(view.requests.datagrams == 1);
    CHECK(view.requests.bytes == 4);
    CHECK(view.replies.datagrams == 0);
    CHECK(view.age == std::chrono::seconds{3});
    CHECK(view.idle == std::chrono::seconds{3});
    CHECK_FALSE(view.assured);
}

TEST_CASE("an answer looks at a bounded number of sessions and says where to ask on") {
    ShardSetup setup = sim::small_setup();
    constexpr std::uint32_t count = scanned_per_answer + 50;
    setup.sessions_max = setup.proxies[0].sessions_max = count;
    setup.proxies[0].ports = PortRange{20000, 20999};
    setup.descriptors_max = 4 * count;
    setup.slots_max = 1 + 4 * count;
    SimShard sim(setup);
    for (std::uint32_t i = 0; i < count; ++i) {
        sim.ask(client(static_cast<int>(i)), "x");
        sim.turns();
    }
    std::set<std::uint64_t> ids;
    Question question = about(QuestionKind::sessions);
    const Answer& first = answer_of(sim, question);
    CHECK(first.sessions.size() == scanned_per_answer);
    CHECK(first.next == scanned_per_answer);
    for (const SessionView& view : first.sessions) ids.insert(view.id);
    question.from = first.next;
    const Answer& second = answer_of(sim, question);
    CHECK(second.sessions.size() == 50);
    CHECK(second.next == no_index);
    for (const SessionView& view : second.sessions) ids.insert(view.id);
    CHECK(ids.size() == count);
}

TEST_CASE("only sessions of the client, port and proxy that were asked for are told") {
    SimShard sim;
    for (int i = 0; i < 4; ++i) sim.ask(client(i), "x");
    sim.turns(2);
    Question question = about(QuestionKind::sessions);
    question.client = *parse_prefix("10.9.0.0/24");
    CHECK(answer_of(sim, question).sessions.size() == 4);
    question.client_port = 1002;
    CHECK(answer_of(sim, question).sessions.size() == 1);
    question.client = *parse_prefix("10.8.0.0/16");
    CHECK(answer_of(sim, question).sessions.empty());
    question = about(QuestionKind::sessions);
    question.proxy = 1;
    CHECK(answer_of(sim, question).sessions.empty());
}

TEST_CASE("a session ends when it is the one that was meant, and its group cools down") {
    SimShard sim;
    sim.ask(client(1), "x");
    sim.turns();
    const SessionView view = answer_of(sim, about(QuestionKind::sessions)).sessions[0];
    Question question = about(QuestionKind::end_session);
    question.index = view.index;
    question.id = view.id + 1;
    CHECK_FALSE(answer_of(sim, question).ended);
    question.index = 63;
    CHECK_FALSE(answer_of(sim, question).ended);
    question.index = view.index;
    question.id = view.id;
    CHECK(answer_of(sim, question).ended);
    CHECK(sim.shard().table.size() == 0);
    CHECK(sim.shard().groups.cooling() == 1);
    CHECK(sim.counters().sessions_killed.read() == 1);
    CHECK(sim.shard().setup.use->sessions.read() == 0);
    CHECK_FALSE(answer_of(sim, question).ended);
}

TEST_CASE("a session that ends in the very turn in which it sends has sent") {
    SimShard sim;
    sim.ask(client(1), "first");
    sim.turns();
    const SessionView view = answer_of(sim, about(QuestionKind::sessions)).sessions[0];
    (void)sim.asked();
    sim.ask(client(1), "last");
    sim.shard().groups.outdate(0);  // so that its group closes at once
    Question question = about(QuestionKind::end_session);
    question.index = view.index;
    question.id = view.id;
    CHECK(answer_of(sim, question).ended);
    CHECK(sim.asked().size() == 1);
}

TEST_CASE("ids of different shards never meet, and tell the shard") {
    std::set<std::uint64_t> ids;
    for (std::uint32_t shard = 0; shard < 3; ++shard) {
        SessionTable table(8, {SessionTimeouts{std::chrono::seconds{2}, std::chrono::seconds{1}}},
                           SipKey{1, 2}, shard, 3);
        for (std::uint16_t port = 1; port <= 8; ++port) {
            ClientKey key;
            key.port = port;
            const std::uint64_t id = table[table.admit(table.hash(key), key, 0, Instant{})].id;
            CHECK(id != 0);
            CHECK(id % 3 == shard);
            CHECK(ids.insert(id).second);
        }
    }
}

TEST_CASE("sources that are not listed are told with how often and how long ago") {
    SimShard sim;
    (void)sim.shard().unlisted.note(0, at("10.0.0.99:53"), 1, sim.world->now);
    (void)sim.shard().unlisted.note(0, at("10.0.0.99:53"), 1, sim.world->now);
    (void)sim.shard().unlisted.note(0, at("10.0.0.98:53"), 1, sim.world->now);
    sim.advance(std::chrono::seconds{5});
    const Answer& answer = answer_of(sim, about(QuestionKind::unlisted));
    REQUIRE(answer.unlisted.size() == 2);
    for (const UnlistedView& view : answer.unlisted) {
        CHECK(view.datagrams == (view.source == at("10.0.0.99:53") ? 2 : 1));
        CHECK(view.seen_ago == std::chrono::seconds{5});
    }
    CHECK(answer.unlisted[0].source != answer.unlisted[1].source);
}

TEST_CASE(
    "replies are counted by where they came from, and ended sessions by how long they lasted") {
    ShardSetup setup = sim::small_setup();
    SimShard sim(setup);
    sim.shard().counters.proxies[0].session_durations.note(std::chrono::seconds{1});
    sim.shard().counters.proxies[0].session_durations.note(std::chrono::milliseconds{1001});
    sim.shard().counters.proxies[0].session_durations.note(std::chrono::hours{100});
    const DurationHistogram& durations = sim.counters().session_durations;
    CHECK(durations.buckets[0].read() == 1);
    CHECK(durations.buckets[1].read() == 1);
    CHECK(durations.buckets.back().read() == 1);
    CHECK(durations.milliseconds.read() == 1000 + 1001 + 360000000);
    const Upstream& sources = *sim.shard().proxies[0].setup.upstream;
    CHECK(sources.find(at("10.0.0.254:53")) == std::size_t{0});
    CHECK(sources.find(at("10.0.0.252:53")) == std::size_t{2});
    CHECK_FALSE(sources.find(at("10.0.0.252:54")).has_value());
}

TEST_CASE("gauges say at the end of each turn what is the case") {
    SimShard sim;
    for (int i = 0; i < 3; ++i) sim.ask(client(i), "x");
    sim.turns();
    CHECK(sim.shard().gauges.sessions.read() == 3);
    CHECK(sim.shard().gauges.groups.read() == 3);
    CHECK(sim.shard().gauges.ports_leased.read() == 3);
    CHECK(sim.shard().gauges.groups_cooling.read() == 0);
    sim.advance(std::chrono::seconds{31});
    sim.turns();
    CHECK(sim.shard().gauges.sessions.read() == 0);
    CHECK(sim.shard().gauges.groups_cooling.read() == 3);
    CHECK(sim.shard().gauges.ports_leased.read() == 3);
}

}  // namespace
}  // namespace udpproxy
