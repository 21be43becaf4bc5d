// A shard's loop end to end, over each real engine: requests reach the upstream, replies of the
// upstream and its aliases the client, from the address that the client wrote to.
#include <set>

#include "contract/loop_rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE("a client gets the replies of upstream and aliases from the address it wrote to",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        for (const bool wildcard : {false, true}) {
            CAPTURE(wildcard);
            LoopRigSetup setup;
            setup.listen = wildcard ? Address::any(family) : loopback(family);
            LoopRig<Engine> rig(setup);
            const Peer client{loopback(family)};
            Endpoint written_to = rig.listener();
            if (wildcard && family == Family::ipv4) written_to.address = address("127.0.0.7");

            client.send(written_to, "question", 0xb8 | 0x01);
            const std::optional<Letter> question = rig.next_letter(rig.upstream);
            REQUIRE(question.has_value());
            CHECK(question->payload == "question");
            CHECK(question->tos == (0xb8 | 0x01));
            CHECK(question->from.address == group_address(family));

            std::set<std::string> wanted;
            for (const Peer* peer : {&rig.upstream, &rig.first_alias, &rig.second_alias}) {
                for (int i = 0; i < 3; ++i) {
                    const std::string payload =
                        format(peer->endpoint()) + " answers " + std::to_string(i);
                    wanted.insert(payload);
                    peer->send(question->from, payload, 0x04);
                }
            }
            std::set<std::string> answers;
            for (int i = 0; i < 9; ++i) {
                const std::optional<Letter> answer = rig.next_letter(client);
                REQUIRE(answer.has_value());
                CHECK(answer->from == written_to);
                CHECK(answer->tos == 0x04);
                CHECK(answers.insert(answer->payload).second);
            }
            CHECK(answers == wanted);

            const Peer unlisted{loopback(family)};
            unlisted.send(question->from, "unlisted");
            REQUIRE(rig.turns_until(
                [&] { return rig.counters().dropped(Drop::unlisted_source) == 1; }));
            CHECK_FALSE(client.receive(Duration::zero()).has_value());
        }
    }
}

TEST_CASE_TEMPLATE("equal requests of a client leave together, whatever was sent before them",
                   Engine, UDPPROXY_ENGINES) {
    // A request kept the client's address that the batch's last user had left: requests did not
    // coalesce where earlier replies had gone to different clients.
    if (!runs_here<Engine>()) return;
    if (!trains_supported()) return;
    LoopRig<Engine> rig;
    const Peer client{address("127.0.0.2")};
    const Peer other{address("127.0.0.3")};
    const Peer* clients[] = {&client, &other};
    std::vector<Endpoint> groups;
    for (const Peer* peer : clients) {
        peer->send(rig.listener(), "question");
        const std::optional<Letter> question = rig.next_letter(rig.upstream);
        REQUIRE(question.has_value());
        groups.push_back(question->from);
    }
    for (const Endpoint& group : groups) rig.upstream.send(group, "answer");
    for (const Peer* peer : clients) REQUIRE(rig.next_letter(*peer).has_value());
    const std::uint64_t trains = rig.shard().counters.trains_sent.read();
    client.send(rig.listener(), "one");
    client.send(rig.listener(), "two");
    for (const char* payload : {"one", "two"}) {
        const std::optional<Letter> letter = rig.next_letter(rig.upstream);
        REQUIRE(letter.has_value());
        CHECK(letter->payload == payload);
    }
    CHECK(rig.shard().counters.trains_sent.read() == trains + 1);
}

TEST_CASE_TEMPLATE("each of 100 clients gets the answers to its own questions", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    LoopRig<Engine> rig;
    std::vector<Peer> clients;
    for (int i = 0; i < 100; ++i) clients.emplace_back(loopback(Family::ipv4));
    for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < clients.size(); ++i)
            clients[i].send(rig.listener(), std::to_string(i));
        std::set<Endpoint> askers;
        for (std::size_t i = 0; i < clients.size(); ++i) {
            const std::optional<Letter> question = rig.next_letter(rig.upstream);
            REQUIRE(question.has_value());
            CHECK(askers.insert(question->from).second);
            rig.upstream.send(question->from, "to " + question->payload);
            rig.second_alias.send(question->from, "too " + question->payload);
        }
        for (std::size_t i = 0; i < clients.size(); ++i) {
            std::set<std::string> answers;
            for (int answer = 0; answer < 2; ++answer) {
                const std::optional<Letter> letter = rig.next_letter(clients[i]);
                REQUIRE(letter.has_value());
                answers.insert(letter->payload);
            }
            CHECK(answers ==
                  std::set<std::string>{"to " + std::to_string(i), "too " + std::to_string(i)});
        }
    }
    CHECK(rig.counters().sessions_admitted.read() == 100);
    CHECK(rig.counters().sessions_assured.read() == 100);
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason)
        CHECK(rig.counters().drops[reason].read() == 0);
}

TEST_CASE_TEMPLATE("the port of an expired session cools down, and a late reply reaches no client",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    LoopRigSetup setup;
    setup.unassured_timeout = std::chrono::milliseconds{30};
    LoopRig<Engine> rig(setup);
    const Peer client{loopback(Family::ipv4)};
    client.send(rig.listener(), "first");
    const std::optional<Letter> first = rig.next_letter(rig.upstream);
    REQUIRE(first.has_value());
    REQUIRE(rig.turns_until([&] { return rig.counters().sessions_expired.read() == 1; }));
    rig.upstream.send(first->from, "late");
    REQUIRE(rig.turns_until([&] { return rig.counters().dropped(Drop::late_reply) == 1; }));
    client.send(rig.listener(), "second");
    const std::optional<Letter> second = rig.next_letter(rig.upstream);
    REQUIRE(second.has_value());
    CHECK(second->from != first->from);
    CHECK_FALSE(client.receive(Duration::zero()).has_value());
}

TEST_CASE_TEMPLATE(
    "a stop command from another thread ends the loop, and what was queued is forwarded first",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    LoopRig<Engine> rig;
    const Peer client{loopback(Family::ipv4)};
    client.send(rig.listener(), "before");
    const std::optional<Letter> question = rig.next_letter(rig.upstream);
    REQUIRE(question.has_value());
    client.send(rig.listener(), "queued");
    rig.stop_and_run();
    const std::optional<Letter> queued = rig.upstream.receive();
    REQUIRE(queued.has_value());
    CHECK(queued->payload == "queued");
}

}  // namespace
}  // namespace udpproxy::contract
