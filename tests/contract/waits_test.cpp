// wait and wake: what ends a wait, and that nothing else does.
#include <thread>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE("a wait with a deadline blocks until then while everything is quiet", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Peer upstream{address("127.0.0.2")};
    (void)rig.open_group(upstream.endpoint());
    rig.wait(monotonic_now());
    const Instant begin = monotonic_now();
    CHECK(rig.quiet(std::chrono::milliseconds{50}) <= 2);
    const Duration took = monotonic_now() - begin;
    CHECK(took >= std::chrono::milliseconds{50});
    CHECK(took < std::chrono::seconds{2});
}

TEST_CASE_TEMPLATE("a wait whose deadline has passed returns at once, with what is there", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.wait(monotonic_now());
    for (int i = 0; i < 100; ++i) {
        rig.client().send(rig.listener(), "x");
        const Instant begin = monotonic_now();
        rig.wait(begin - std::chrono::seconds{1});
        CHECK(monotonic_now() - begin < std::chrono::seconds{1});
        CHECK(rig.seen.size() == static_cast<std::size_t>(i + 1));
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

TEST_CASE_TEMPLATE("wake from another thread ends a wait without a deadline, every time", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    for (int round = 0; round < 50; ++round) {
        std::thread waker([&] { rig.engine().wake(); });
        rig.wait(std::nullopt);
        waker.join();
    }
    CHECK(rig.seen.empty());
}

TEST_CASE_TEMPLATE("wakes before a wait end that one and are used up by it", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.engine().wake();
    rig.engine().wake();
    rig.wait(std::nullopt);
    // io_uring may find the second wake only after the first: one wait more at most.
    CHECK(rig.quiet() <= 3);
}

}  // namespace
}  // namespace udpproxy::contract
