// wait and wake: what ends a wait, and that nothing else does.
#include <algorithm>
#include <thread>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE("a wait with a deadline blocks until then while everything is quiet", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Peer upstream{address("127.0.0.2")};
    (void)rig.open_group(upstream.endpoint());
    rig.wait(monotonic_now());
    CHECK(rig.comes_to_rest());
    const Instant begin = monotonic_now();
    rig.pass(std::chrono::milliseconds{50});
    const Duration took = monotonic_now() - begin;
    CHECK(took >= std::chrono::milliseconds{50});
    CHECK(took < patience);
}

TEST_CASE_TEMPLATE("a wait whose deadline has passed returns at once, with what is there", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.wait(monotonic_now());
    for (std::size_t i = 0; i < 100; ++i) {
        rig.client().send(rig.listener(), "x");
        const Instant begin = monotonic_now();
        // The kernel may deliver it a moment later.
        while (rig.seen.size() <= i && monotonic_now() - begin < patience)
            rig.wait(begin - std::chrono::seconds{1});
        REQUIRE(rig.seen.size() == i + 1);
    }
}

TEST_CASE_TEMPLATE("an arrival ends a wait without a deadline", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.wait(monotonic_now());
    std::thread sender([&] { rig.client().send(rig.listener(), "x"); });
    while (rig.seen.empty()) rig.wait(std::nullopt);
    sender.join();
    CHECK(rig.seen.size() == 1);
}

TEST_CASE_TEMPLATE("wake from another thread ends a wait without a deadline, every time", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    for (int round = 0; round < 50; ++round) {
        std::thread waker([&] { rig.engine().wake(); });
        rig.wait(std::nullopt);
        waker.join();
    }
    CHECK(rig.seen.empty());
}

TEST_CASE_TEMPLATE("wakes before a wait end that one and are used up by it", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.engine().wake();
    rig.engine().wake();
    rig.wait(std::nullopt);
    CHECK(rig.comes_to_rest());
}

TEST_CASE_TEMPLATE(
    "with busy_poll an arrival is found by looking, and a quiet wait ends at its deadline all the "
    "same",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.busy_poll = std::chrono::milliseconds{1};
    Rig<Engine> rig{setup};
    rig.wait(monotonic_now());
    for (int i = 0; i < 100; ++i) {
        rig.client().send(rig.listener(), "x");
        rig.wait(std::nullopt);
    }
    CHECK(rig.collect(100));
    CHECK(rig.comes_to_rest());
    CHECK(rig.seen.size() == 100);
    std::thread waker([&] { rig.engine().wake(); });
    rig.wait(std::nullopt);
    waker.join();
}

TEST_CASE_TEMPLATE(
    "with batch_wait a wait that a datagram has ended brings those that follow at once as well",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.batch_wait = std::chrono::milliseconds{200};
    Rig<Engine> rig{setup};
    rig.wait(monotonic_now());
    const Instant begin = monotonic_now();
    std::size_t in_time = 0;  // eight, unless the machine is busy with other things
    std::thread sender([&] {
        for (int i = 0; i < 8; ++i) {
            rig.client().send(rig.listener(), "x");
            if (monotonic_now() - begin < setup.batch_wait) ++in_time;
            sleep_for(std::chrono::milliseconds{2});
        }
    });
    rig.wait(std::nullopt);
    const std::size_t brought = rig.seen.size();
    sender.join();
    CHECK(brought >= std::max<std::size_t>(in_time, 1));
    CHECK(rig.collect(8));
}

TEST_CASE_TEMPLATE("with batch_wait a wait that may not sleep does not wait for more either",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.batch_wait = 2 * patience;
    Rig<Engine> rig{setup};
    rig.client().send(rig.listener(), "x");
    const Instant begin = monotonic_now();
    while (rig.seen.empty() && monotonic_now() - begin < patience) rig.wait(begin);
    CHECK(monotonic_now() - begin < patience);
    CHECK(rig.seen.size() == 1);
}

}  // namespace
}  // namespace udpproxy::contract
