// Closing members: complete when the slot is in `closed` and not before, nothing left behind then,
// and no datagram of the old holder on the new.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>
#include <thread>

#include "contract/missed_cancels.hpp"
#include "contract/registration_errors.hpp"
#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE(
    "a closed member's slot is reported once, its descriptor is gone and its port free at once",
    Engine, UDPPROXY_ENGINES) {
    // Closing the descriptor of an armed receive without cancelling it would leave the port bound.
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Peer upstream{loopback(family)};
        const Peer alias{loopback(family)};
        for (int round = 0; round < 20; ++round) {
            const std::size_t before = descriptor_count();
            rig.closed.clear();
            const OpenedGroup group = rig.open_group(upstream.endpoint(), {alias.endpoint()}, true);
            // Armed or not yet, with and without datagrams about.
            if (round % 2 == 0) rig.wait(monotonic_now());
            if (round % 3 == 0) upstream.send(group.local, round % 6 == 0 ? "x" : "");
            if (round % 4 == 0) rig.wait(monotonic_now());
            REQUIRE(rig.close_and_wait(group));
            CHECK(std::multiset<Slot>(rig.closed.begin(), rig.closed.end()) ==
                  std::multiset<Slot>(group.slots.begin(), group.slots.end()));
            CHECK(descriptor_count() == before);
            CHECK(try_bind(group.local) == 0);
        }
        CHECK(rig.engine().counters().stale_completions == 0);
        CHECK(rig.comes_to_rest());
    }
}

TEST_CASE_TEMPLATE("a member that waits for a buffer can be closed", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.buffers_per_leg = 2;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const OpenedGroup dry = rig.open_group(upstream.endpoint());
    for (int i = 0; i < 5; ++i) upstream.send(dry.local, "x");
    REQUIRE(rig.hold(2, Leg::reply));
    rig.wait(monotonic_now());
    REQUIRE(rig.close_and_wait(dry));
    CHECK(try_bind(dry.local) == 0);
    const OpenedGroup next = rig.open_group(upstream.endpoint());
    CHECK(next.slots == dry.slots);
    rig.discard_held();
    upstream.send(next.local, "of the next");
    REQUIRE(rig.collect(1));
    CHECK(rig.seen[0].payload == "of the next");
    CHECK(rig.seen[0].slot == next.slots[0]);
}

TEST_CASE_TEMPLATE(
    "however many sockets open at once, all receive but those that closed before they were armed",
    Engine, UDPPROXY_ENGINES) {
    // io_uring arms some in each wait, as after a start with thousands of groups.
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 3072;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const Peer alias{address("127.0.0.3")};
    std::vector<OpenedGroup> groups;
    const auto open = [&] {
        groups.push_back(rig.open_group(upstream.endpoint(), {alias.endpoint()}, true));
    };
    for (int i = 0; i < 300; ++i) open();
    upstream.send(groups.back().local, "to the last");
    REQUIRE(rig.collect(1));
    for (int i = 0; i < 600; ++i) open();
    rig.wait(monotonic_now());
    for (int i = 0; i < 50; ++i) {
        rig.close(groups.back());
        groups.pop_back();
    }
    REQUIRE(rig.until([&] { return !rig.closed.empty(); }));
    open();  // in a slot that has just become free
    REQUIRE(rig.until([&] { return rig.closed.size() == 150; }));
    for (const OpenedGroup& group : groups) alias.send(group.local, "to each");
    REQUIRE(rig.collect(1 + groups.size()));
    for (const OpenedGroup& group : groups) {
        REQUIRE(rig.close_and_wait(group));
        REQUIRE(try_bind(group.local) == 0);
    }
    CHECK(rig.comes_to_rest());
    CHECK(rig.seen.size() == 1 + groups.size());
    CHECK(rig.engine().counters().stale_completions == 0);
}

/// Has one engine open groups, and the other take over their sockets, as after the death of the
/// first.
template <class Engine>
struct TakingOver {
    Rig<Engine> before{setup()};
    Rig<Engine> rig{setup()};
    const Peer upstream{address("127.0.0.2")};
    const Peer alias{address("127.0.0.3")};
    std::vector<OpenedGroup> groups;

    static RigSetup setup() {
        RigSetup setup;
        setup.slots_max = 2048;
        return setup;
    }
    void take_over() {
        OpenedGroup group = before.open_group(upstream.endpoint(), {alias.endpoint()}, true);
        std::vector<int> descriptors;
        for (const Slot slot : group.slots)
            descriptors.push_back(::fcntl(before.engine().descriptor_of(slot), F_DUPFD_CLOEXEC, 0));
        GroupOpening opening;
        opening.local = group.local;
        opening.upstream = upstream.endpoint();
        const std::array<Endpoint, 1> aliases{alias.endpoint()};
        opening.aliases = aliases;
        opening.with_open_member = true;
        opening.descriptors = descriptors;
        REQUIRE(rig.engine().open_group(opening, group.slots).opened());
        groups.push_back(group);
    }
};

TEST_CASE_TEMPLATE("however many sockets are taken over at once, all of them receive", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    TakingOver<Engine> taking;
    Rig<Engine>& rig = taking.rig;
    for (int i = 0; i < 600; ++i) taking.take_over();
    rig.close(taking.groups.back());
    taking.groups.pop_back();
    REQUIRE(rig.until([&] { return rig.closed.size() == 3; }));
    taking.take_over();  // in the slots that have just become free
    taking.upstream.send(taking.groups.back().local, "to the last");
    REQUIRE(rig.collect(1));
    for (const OpenedGroup& group : taking.groups) taking.alias.send(group.local, "to each");
    REQUIRE(rig.collect(601));
    for (const OpenedGroup& group : taking.groups) REQUIRE(rig.close_and_wait(group));
    CHECK(rig.comes_to_rest());
    CHECK(rig.seen.size() == 601);
}

TEST_CASE("what is taken over while the kernel has no watch for it receives once it has one") {
    TakingOver<EpollBackend> taking;
    taking.take_over();
    taking.upstream.send(taking.groups.back().local, "from the upstream");
    taking.alias.send(taking.groups.back().local, "from the alias");
    {
        const RegistrationErrors errors(0, ENOSPC);
        const Instant begun = monotonic_now();
        taking.rig.wait(begun + std::chrono::seconds{20});
        CHECK(monotonic_now() - begun < std::chrono::seconds{10});  // it looks again soon
    }
    CHECK(taking.rig.collect(2));
}

TEST_CASE_TEMPLATE(
    "however many members are closed at once, one wait closes some of them, and those after it the "
    "others",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 512;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const Peer alias{address("127.0.0.3")};
    std::vector<OpenedGroup> groups;
    for (int i = 0; i < 120; ++i)
        groups.push_back(rig.open_group(upstream.endpoint(), {alias.endpoint()}, true));
    rig.wait(monotonic_now());
    for (const OpenedGroup& group : groups) rig.close(group);
    // An empty datagram ends a multishot receive (K19), here of members whose turn to be closed has
    // not come yet.
    for (const OpenedGroup& group : groups) upstream.send(group.local, "");
    const Instant end = monotonic_now() + patience;
    while (rig.closed.size() < 360 && monotonic_now() < end) {
        const std::size_t before = rig.closed.size();
        rig.wait(end);
        // io_uring: the last completions of one wait's cancels may come with the next one's.
        CHECK(rig.closed.size() - before <= 2 * closes_per_wait);
    }
    CHECK(rig.closed.size() == 360);
}

TEST_CASE_TEMPLATE(
    "300 members close while datagrams pour in for them, and every buffer comes home", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 400;
    setup.buffers_per_leg = 64;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const std::size_t before = descriptor_count();
    std::vector<OpenedGroup> groups;
    std::multiset<Slot> slots;
    for (int i = 0; i < 300; ++i) {
        groups.push_back(rig.open_group(upstream.endpoint()));
        slots.insert(groups.back().slots[0]);
    }
    std::atomic<bool> stop{false};
    std::thread hammer([&] {
        while (!stop.load(std::memory_order_relaxed)) {
            for (const OpenedGroup& group : groups) {
                SocketName name;
                const socklen_t length = write_socket_name(group.local, name);
                ::sendto(upstream.descriptor(), "x", group.local.port % 8 == 0 ? 0 : 1,
                         MSG_DONTWAIT, &name.any, length);
            }
        }
    });
    const bool poured = rig.collect(2000);
    for (std::size_t i = 0; i < groups.size(); ++i) {
        rig.close(groups[i]);
        if (i % 60 == 59) rig.wait(monotonic_now());
    }
    const bool all_closed = rig.until([&] { return rig.closed.size() >= 300; });
    const std::size_t seen_until_closed = rig.seen.size();
    rig.pass();
    stop = true;
    hammer.join();
    CHECK(poured);
    REQUIRE(all_closed);
    CHECK(std::multiset<Slot>(rig.closed.begin(), rig.closed.end()) == slots);
    CHECK(rig.seen.size() == seen_until_closed);
    CHECK(rig.engine().counters().stale_completions == 0);
    CHECK(descriptor_count() == before);
    std::size_t still_bound = 0;
    for (const OpenedGroup& group : groups) still_bound += try_bind(group.local) != 0 ? 1 : 0;
    CHECK(still_bound == 0);

    const OpenedGroup group = rig.open_group(upstream.endpoint());
    for (int i = 0; i < 64; ++i) upstream.send(group.local, "y");
    CHECK(rig.hold(64, Leg::reply));
    rig.discard_held();
}

TEST_CASE_TEMPLATE("a slot's next holder never sees a datagram of the old port", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 3;  // a listener and two members: slots are used again at once
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const Peer alias{address("127.0.0.3")};
    OpenedGroup old = rig.open_group(upstream.endpoint(), {alias.endpoint()});
    const std::set<Slot> slots(old.slots.begin(), old.slots.end());
    rig.wait(monotonic_now());
    for (int round = 0; round < 200; ++round) {
        // Some queued unread, an empty one that ends the receive in the moment it is cancelled,
        // some more while it closes.
        for (const char* payload : {"old", "", "old"}) {
            upstream.send(old.local, payload);
            alias.send(old.local, payload);
        }
        if (round % 2 == 0) rig.wait(monotonic_now());
        rig.close(old);
        upstream.send(old.local, "old");
        const std::size_t wanted = rig.closed.size() + 2;
        REQUIRE(rig.until([&] { return rig.closed.size() >= wanted; }));
        rig.seen.clear();

        const OpenedGroup next = rig.open_group(upstream.endpoint(), {alias.endpoint()});
        CHECK(std::set<Slot>(next.slots.begin(), next.slots.end()) == slots);
        upstream.send(old.local, "late");
        upstream.send(next.local, "next");
        alias.send(next.local, "next");
        REQUIRE(rig.collect(2));
        rig.wait(monotonic_now());
        CHECK(rig.seen.size() == 2);
        for (const Seen& seen : rig.seen) {
            CHECK(seen.payload == "next");
            CHECK(seen.slot == (seen.from == upstream.endpoint() ? next.slots[0] : next.slots[1]));
        }
        rig.seen.clear();
        old = next;
    }
    CHECK(rig.engine().counters().stale_completions == 0);
}

TEST_CASE_TEMPLATE(
    "a receive cancelled for its old holder does not cost the next holder of the slot a datagram "
    "or a fault",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 2;
    Rig<Engine> rig(setup);
    const Endpoint closed_port = unused_endpoint(address("127.0.0.2"));
    const Peer upstream{address("127.0.0.3")};
    for (int round = 0; round < 50; ++round) {
        // The receive has ended by itself, by an error or an empty datagram, when the cancel comes.
        const OpenedGroup old = rig.open_group(round % 2 == 0 ? closed_port : upstream.endpoint());
        rig.wait(monotonic_now());
        const std::vector<Arrival> arrivals = rig.feed({"x"});
        (void)rig.send({towards(arrivals[0], old.slots[0])});
        upstream.send(old.local, "");
        REQUIRE(rig.close_and_wait(old));
        rig.seen.clear();
        rig.faults.clear();
        const OpenedGroup next = rig.open_group(upstream.endpoint());
        const std::uint64_t rearmed = rig.engine().counters().receives_rearmed;
        for (int i = 0; i < 3; ++i) {
            upstream.send(next.local, std::to_string(i));
            REQUIRE(rig.collect(static_cast<std::size_t>(i) + 1));
            CHECK(rig.seen.back().payload == std::to_string(i));
        }
        CHECK(rig.faults.empty());
        CHECK(rig.engine().counters().receives_rearmed == rearmed);
        REQUIRE(rig.close_and_wait(next));
        (void)upstream.receive_all(1, Duration::zero());
    }
}

TEST_CASE("a cancel that finds nothing is tried again until the socket closes: io_uring") {
    // A cancel by descriptor that found nothing was taken for one that had found the receive: the
    // slot stayed closing for ever, and its port bound.
    if (!runs_here<UringBackend>()) return;
    RigSetup setup;
    setup.slots_max = 2;
    Rig<UringBackend> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const std::size_t before = descriptor_count();
    for (const int misses_wanted : {1, 2, 5}) {
        CAPTURE(misses_wanted);
        const OpenedGroup group = rig.open_group(upstream.endpoint());
        rig.wait(monotonic_now());
        {
            const MissedCancels misses(misses_wanted);
            REQUIRE(rig.close_and_wait(group));
            CHECK(misses.left == 0);
        }
        CHECK(descriptor_count() == before);
        CHECK(try_bind(group.local) == 0);
    }
    const OpenedGroup next = rig.open_group(upstream.endpoint());
    upstream.send(next.local, "of the next");
    REQUIRE(rig.collect(1));
    CHECK(rig.seen[0].payload == "of the next");
    CHECK(rig.engine().counters().stale_completions == 0);
    CHECK(rig.comes_to_rest());
}

TEST_CASE("a cancel that missed is not tried again on the next holder of the slot: io_uring") {
    // The receive ends by itself, by an empty datagram, after its cancel has missed.
    if (!runs_here<UringBackend>()) return;
    RigSetup setup;
    setup.slots_max = 2;
    Rig<UringBackend> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    OpenedGroup group = rig.open_group(upstream.endpoint());
    rig.wait(monotonic_now());
    for (int round = 0; round < 20; ++round) {
        upstream.send(group.local, "");
        const MissedCancels misses(1);
        REQUIRE(rig.close_and_wait(group));
        CHECK(misses.left == 0);
        group = rig.open_group(upstream.endpoint());
        const std::uint64_t rearmed = rig.engine().counters().receives_rearmed;
        rig.wait(monotonic_now());
        rig.wait(monotonic_now());
        CHECK(rig.engine().counters().receives_rearmed == rearmed);
    }
}

TEST_CASE_TEMPLATE("an engine that goes takes its members and descriptors with it", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    const std::size_t before = descriptor_count();
    {
        Rig<Engine> rig;
        const Peer upstream{address("127.0.0.2")};
        (void)rig.open_group(upstream.endpoint(), {upstream.endpoint()}, true);
        rig.close(rig.open_group(upstream.endpoint()));
        rig.client().send(rig.listener(), "x");
        REQUIRE(rig.hold(1));
    }
    CHECK(descriptor_count() == before);
}

/// Ports of listeners and members that cannot be bound at once when their engine has gone.
template <class Engine>
std::size_t ports_left_bound() {
    std::size_t still_bound = 0;
    for (int round = 0; round < 20; ++round) {
        std::vector<Endpoint> endpoints;
        {
            Rig<Engine> rig;
            const Peer upstream{address("127.0.0.2")};
            endpoints = {rig.listener(), rig.open_group(upstream.endpoint()).local};
            rig.wait(monotonic_now());
        }
        for (const Endpoint& endpoint : endpoints) still_bound += try_bind(endpoint) != 0 ? 1 : 0;
    }
    return still_bound;
}

// Not so for io_uring: a ring is taken down by a worker of the kernel after its descriptor is
// closed, and its armed receives hold their sockets until then. The loop therefore closes its
// listeners before it ends (the end-to-end tests start again at once).
TEST_CASE("the ports of an engine that has gone are free at once: epoll") {
    CHECK(ports_left_bound<EpollBackend>() == 0);
}

}  // namespace
}  // namespace udpproxy::contract
