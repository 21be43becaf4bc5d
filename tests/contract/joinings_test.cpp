// What comes while an engine runs: members that join a finished group, and listeners that are
// adopted into a slot kept for them.
#include <algorithm>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

MemberJoining joining(const OpenedGroup& group, const std::optional<Endpoint>& peer) {
    return MemberJoining{group.local, peer};
}

TEST_CASE_TEMPLATE(
    "a member joins a finished group, takes its peer's datagrams, and no other socket can join "
    "before or after",
    Engine, UDPPROXY_ENGINES) {
    // With the flag back on one member alone three of four combinations are EADDRINUSE.
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Peer upstream{loopback(family)};
        const Peer alias{loopback(family)};
        const Peer later{loopback(family)};
        for (const bool with_open_member : {true, false}) {
            CAPTURE(with_open_member);
            const OpenedGroup group =
                rig.open_group(upstream.endpoint(), {alias.endpoint()}, with_open_member);
            Slot joined = no_slot;
            REQUIRE(rig.engine()
                        .join_group(group.slots, joining(group, later.endpoint()), joined)
                        .opened());
            CHECK(std::find(group.slots.begin(), group.slots.end(), joined) == group.slots.end());
            for (const Reuse reuse : {Reuse::none, Reuse::address, Reuse::port})
                CHECK(try_bind(group.local, reuse) != 0);
            rig.seen.clear();
            for (const Peer* peer : {&upstream, &alias, &later})
                peer->send(group.local, format(peer->endpoint()));
            REQUIRE(rig.collect(3));
            for (const Seen& seen : rig.seen) {
                CHECK(seen.payload == format(seen.from));
                CHECK((seen.from == later.endpoint()) == (seen.slot == joined));
            }
            // It leaves, and the others go on.
            rig.closed.clear();
            rig.engine().close(joined);
            REQUIRE(rig.until([&] { return rig.closed.size() == 1; }));
            rig.seen.clear();
            for (const Peer* peer : {&upstream, &alias})
                peer->send(group.local, format(peer->endpoint()));
            REQUIRE(rig.collect(2));
            rig.closed.clear();
            REQUIRE(rig.close_and_wait(group));
        }
    }
}

TEST_CASE_TEMPLATE("an open member joins and takes what no connected one does", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    const Peer new_client{loopback(Family::ipv4)};
    Slot joined = no_slot;
    REQUIRE(rig.engine()
                .join_group(rig.group.slots, joining(rig.group, std::nullopt), joined)
                .opened());
    new_client.send(rig.group.local, "from a new client");
    rig.upstream.send(rig.group.local, "from the upstream");
    REQUIRE(rig.collect(2));
    for (const Seen& seen : rig.seen)
        CHECK((seen.slot == joined) == (seen.from == new_client.endpoint()));
}

TEST_CASE_TEMPLATE("a join that fails leaves the group as it was and no descriptor behind", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    const std::size_t before = descriptor_count();
    Slot joined = no_slot;
    const OpeningOutcome outcome = rig.engine().join_group(
        rig.group.slots, joining(rig.group, Endpoint{address("255.255.255.255"), 0, 53}), joined);
    CHECK_FALSE(outcome.opened());
    CHECK(outcome.step == OpeningStep::connect);
    CHECK(descriptor_count() == before);
    for (const Reuse reuse : {Reuse::none, Reuse::address, Reuse::port})
        CHECK(try_bind(rig.group.local, reuse) != 0);
    rig.upstream.send(rig.group.local, "still served");
    CHECK(rig.collect(1));
}

TEST_CASE_TEMPLATE(
    "an adopted listener serves in its slot, closes like any other, and the slot can be taken "
    "again",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 8;
    Rig<Engine> rig(setup);
    const std::size_t before = descriptor_count();
    const Endpoint endpoint = unused_endpoint(loopback(Family::ipv4));
    for (int round = 0; round < 3; ++round) {
        Result<ListenerSockets> opened =
            open_listeners(ListenerRequest{endpoint, 1U << 20, 1U << 20}, 1);
        REQUIRE(opened.has_value());
        ListenerSocket listener{std::move(opened->sockets[0]), Family::ipv4};
        REQUIRE(rig.engine().adopt(Slot{2}, listener) == 0);
        CHECK_FALSE(static_cast<bool>(listener.socket));
        rig.seen.clear();
        rig.client().send(endpoint, "question");
        REQUIRE(rig.collect(1));
        CHECK(rig.seen[0].slot == Slot{2});
        CHECK(rig.seen[0].leg == Leg::request);
        rig.closed.clear();
        rig.engine().close(Slot{2});
        REQUIRE(rig.until([&] { return !rig.closed.empty(); }));
        CHECK(rig.closed == std::vector{Slot{2}});
        CHECK(descriptor_count() == before);
    }
    // Members have the highest slots, and keep out of those that were a listener's.
    const Peer upstream{loopback(Family::ipv4)};
    for (std::uint32_t member = 7; member >= 3; --member)
        CHECK(rig.open_group(upstream.endpoint()).slots[0] == Slot{member});
    std::array<Slot, 1> none{};
    GroupOpening opening;
    opening.local = Endpoint{loopback(Family::ipv4)};
    opening.upstream = upstream.endpoint();
    CHECK(rig.engine().open_group(opening, none).error == EMFILE);
    Result<ListenerSockets> opened =
        open_listeners(ListenerRequest{endpoint, 1U << 20, 1U << 20}, 1);
    REQUIRE(opened.has_value());
    ListenerSocket listener{std::move(opened->sockets[0]), Family::ipv4};
    CHECK(rig.engine().adopt(Slot{3}, listener) == EMFILE);
    CHECK(static_cast<bool>(listener.socket));
    CHECK(rig.engine().adopt(Slot{1}, listener) == 0);
}

}  // namespace
}  // namespace udpproxy::contract
