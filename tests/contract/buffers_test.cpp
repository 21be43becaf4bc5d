// The law of buffers: free + in the kernel + in flight == total, seen from outside: however few
// there are, what the socket's queue holds arrives, receiving goes on after they ran out, and a leg
// without buffers waits quietly.
#include <map>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

template <class Engine>
void run_many_times_the_pool(std::uint32_t buffers) {
    CAPTURE(buffers);
    RigSetup setup;
    setup.listen = {loopback(Family::ipv4), address("127.0.0.2")};
    setup.buffers_per_leg = buffers;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.3")};
    const OpenedGroup first = rig.open_group(upstream.endpoint());
    const OpenedGroup second = rig.open_group(upstream.endpoint());
    const std::vector<Endpoint> goals{rig.listener(0), rig.listener(1), first.local, second.local};
    std::map<Slot, int> next;
    for (int round = 0; round < 40; ++round) {
        rig.seen.clear();
        for (int i = 0; i < 20; ++i) {
            for (const Endpoint& goal : goals) upstream.send(goal, std::to_string(round * 20 + i));
        }
        const bool all_came = rig.collect(80);
        CAPTURE(round);
        REQUIRE(rig.seen.size() == 80);
        CHECK(all_came);
        for (const Seen& seen : rig.seen) CHECK(seen.payload == std::to_string(next[seen.slot]++));
    }
    CHECK(next.size() == 4);
    CHECK(rig.comes_to_rest());
}

TEST_CASE_TEMPLATE(
    "bursts larger than the pool lose nothing and keep their order, with 2, 4 and 64 buffers",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const std::uint32_t buffers : {2U, 4U, 64U}) run_many_times_the_pool<Engine>(buffers);
}

TEST_CASE_TEMPLATE(
    "a leg whose buffers are all in use receives nothing, and goes on when they are released",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Leg leg : {Leg::request, Leg::reply}) {
        RigSetup setup;
        setup.buffers_per_leg = 4;
        GroupRig<Engine> rig(setup);
        const Endpoint goal = leg == Leg::request ? rig.listener() : rig.group.local;
        for (int i = 0; i < 10; ++i) rig.upstream.send(goal, std::to_string(i));
        REQUIRE(rig.hold(4, leg));
        REQUIRE(rig.until([&] { return rig.engine().counters().buffers_exhausted > 0; }));
        CHECK_FALSE(rig.collect(1, moment));

        // The other leg has buffers of its own.
        rig.client().send(leg == Leg::request ? rig.group.local : rig.listener(),
                          "dropped by the kernel or seen");
        rig.upstream.send(leg == Leg::request ? rig.group.local : rig.listener(),
                          "of the other leg");
        REQUIRE(rig.until(
            [&] { return !rig.seen.empty() && rig.seen.back().payload == "of the other leg"; }));

        rig.seen.clear();
        for (std::size_t i = 0; i < 4; ++i) CHECK(payload_of(rig.held[i]) == std::to_string(i));
        rig.discard_held();
        REQUIRE(rig.collect(6));
        for (std::size_t i = 0; i < 6; ++i) CHECK(rig.seen[i].payload == std::to_string(i + 4));
    }
}

TEST_CASE_TEMPLATE("all buffers can be discarded and acquired again, many times over", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.buffers_per_leg = 16;
    GroupRig<Engine> rig(setup);
    for (int round = 0; round < 50; ++round) {
        for (const Leg leg : {Leg::request, Leg::reply}) {
            for (int i = 0; i < 16; ++i)
                rig.upstream.send(leg == Leg::request ? rig.listener() : rig.group.local,
                                  std::to_string(i));
            REQUIRE(rig.hold(16, leg));
            // Payloads stay as they are while they are held: no buffer has two holders.
            for (std::size_t i = 0; i < 16; ++i)
                CHECK(payload_of(rig.held[i]) == std::to_string(i));
            rig.discard_held();
        }
    }
    CHECK(rig.comes_to_rest());
}

TEST_CASE_TEMPLATE("a departure's buffer is released, sent or not", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.buffers_per_leg = 4;
    GroupRig<Engine> rig(setup);
    const Endpoint refused{address("255.255.255.255"), 0, 9};  // EACCES without SO_BROADCAST
    for (int round = 0; round < 50; ++round) {
        const std::vector<Arrival> arrivals = rig.feed({"a", "b", "c", "d"});
        const std::vector<Fault> faults = rig.send(
            {towards(arrivals[0], rig.group.slots[0]), back_to(arrivals[1], Slot{0}, refused),
             back_to(arrivals[2], Slot{0}, rig.client().endpoint()),
             towards(arrivals[3], rig.group.slots[0])});
        REQUIRE(faults.size() == 1);
        CHECK(faults[0].kind == FaultKind::send);
        CHECK(faults[0].departure == 1);
        CHECK(rig.upstream.receive_all(2).size() == 2);
        CHECK(rig.client().receive_all(1).size() == 1);
    }
}

TEST_CASE(
    "io_uring provides more buffers after a burst found too few, keeps to that, and provides fewer "
    "again when it was quiet") {
    if (!runs_here<UringBackend>()) return;
    RigSetup setup;
    setup.listen = {loopback(Family::ipv4), address("127.0.0.2"), address("127.0.0.3"),
                    address("127.0.0.4")};
    setup.buffers_per_leg = 1024;
    Rig<UringBackend> rig(setup);
    const auto receives_ended_by_burst = [&] {
        const std::uint64_t before = rig.engine().counters().receives_rearmed;
        rig.seen.clear();
        for (int i = 0; i < 50; ++i) {
            for (std::size_t listener = 0; listener < 4; ++listener)
                rig.client().send(rig.listener(listener), std::to_string(i));
        }
        REQUIRE(rig.collect(200));
        return rig.engine().counters().receives_rearmed - before;
    };
    CHECK(receives_ended_by_burst() > 0);
    std::uint64_t ended = 1;
    for (int burst = 0; burst < 4 && ended > 0; ++burst) ended = receives_ended_by_burst();
    CHECK(ended == 0);
    for (int wait = 0; wait < 3 * 4096; ++wait) rig.wait(monotonic_now());
    (void)receives_ended_by_burst();  // uses up what had been in use before
    CHECK(receives_ended_by_burst() > 0);
    CHECK(rig.engine().counters().buffers_exhausted == 0);  // there were always more
}

// Level-triggered epoll reports the socket again at once: watched on, it would spin until a buffer
// is released.
TEST_CASE_TEMPLATE("a wait on a leg without buffers blocks although data waits in the socket",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.buffers_per_leg = 2;
    Rig<Engine> rig(setup);
    for (int i = 0; i < 10; ++i) rig.client().send(rig.listener(), "x");
    REQUIRE(rig.hold(2));
    CHECK(rig.comes_to_rest());
}

/// A member that has data waiting, no buffer for it, and then an ICMP error pending on top.
template <class Engine>
void strand_an_error_on_a_dry_leg() {
    RigSetup setup;
    setup.buffers_per_leg = 2;
    Rig<Engine> rig(setup);
    const Endpoint at = unused_endpoint(address("127.0.0.2"));
    const OpenedGroup group = rig.open_group(at);
    const std::vector<Arrival> arrivals = rig.feed({"x"});
    {
        const Peer upstream{at};
        for (int i = 0; i < 5; ++i) upstream.send(group.local, std::to_string(i));
    }
    REQUIRE(rig.hold(2, Leg::reply));
    rig.pass();
    CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
    CHECK(rig.comes_to_rest());
    rig.discard_held();
    REQUIRE(rig.collect(3));
    for (std::size_t i = 0; i < 3; ++i) CHECK(rig.seen[i].payload == std::to_string(i + 2));
    CHECK(rig.faults.size() <= 1);
}

TEST_CASE_TEMPLATE(
    "an error on a member that waits for a buffer neither spins nor costs the data behind it",
    Engine, UDPPROXY_ENGINES) {
    // EPOLLERR is reported for a socket in the set even when nothing is asked for.
    if (!runs_here<Engine>()) return;
    strand_an_error_on_a_dry_leg<Engine>();
}

}  // namespace
}  // namespace udpproxy::contract
