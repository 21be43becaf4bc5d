// A shard allocates when it starts and never again: 1000 turns of traffic, admission, expiry,
// opening and closing of groups, over each real engine.
#include "contract/allocations.hpp"

#include <cstdlib>

#include "contract/loop_rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE(
    "allocations are counted in this build, or the tests that need it say that they are skipped") {
    if (!counts_allocations()) {
        skip("allocations are not counted under sanitisers");
        return;
    }
    const std::size_t before = allocations();
    // Through volatile pointers, or the compiler would leave out what is freed unread.
    int* volatile by_new = nullptr;
    void* volatile by_calloc = nullptr;
    {
        const Counting counting;
        by_new = new int(1);
        by_calloc = std::calloc(1, 100);
    }
    delete by_new;
    std::free(by_calloc);
    int* volatile uncounted = new int(2);
    delete uncounted;
    CHECK(allocations() == before + 2);
}

/// Allocations of 1000 turns after the first, or of as many more as `has_happened()` takes.
template <class Engine, class Happened>
std::size_t allocations_of_turns(LoopRig<Engine>& rig, Happened has_happened) {
    std::vector<Peer> clients;
    for (int i = 0; i < 32; ++i) clients.emplace_back(loopback(Family::ipv4));
    const Peer unlisted{loopback(Family::ipv4)};
    rig.turn();
    const std::size_t before = allocations();
    const Instant deadline = monotonic_now() + patience;
    for (std::size_t turn = 0; turn < 1000 || (!has_happened() && monotonic_now() < deadline);
         ++turn) {
        clients[turn % clients.size()].send(rig.listener(), turn % 10 == 0 ? "" : "question");
        if (turn % 7 == 0)
            clients[(turn + 1) % clients.size()].send(rig.listener(), std::string(3000, 'q'));
        {
            const Counting counting;
            rig.turn();
        }
        while (const std::optional<Letter> question = rig.upstream.receive(Duration::zero())) {
            for (const Peer* peer : {&rig.upstream, &rig.first_alias, &rig.second_alias})
                peer->send(question->from, "answer");
            if (turn % 5 == 0) unlisted.send(question->from, "unlisted");
        }
        if (turn % 50 == 49)
            (void)unlisted.receive(std::chrono::milliseconds{2});  // time passes, sessions expire
    }
    return allocations() - before;
}

TEST_CASE_TEMPLATE(
    "a turn allocates nothing, whether it forwards, admits, reuses, opens, expires or drops",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    if (!counts_allocations()) {
        skip("allocations are not counted under sanitisers");
        return;
    }
    LoopRigSetup setup;
    setup.unassured_timeout = setup.idle_timeout = std::chrono::milliseconds{2};
    SUBCASE("with a cooldown that is soon over: groups are reused") {
        setup.port_cooldown = std::chrono::milliseconds{1};
    }
    SUBCASE("with a long cooldown: a group is opened for every session") {
        setup.port_cooldown = std::chrono::seconds{10};
    }
    LoopRig<Engine> rig(setup);
    const auto has_happened = [&] {
        const ProxyCounters& counters = rig.counters();
        return counters.sessions_expired.read() >= 60 && counters.departures_reply.read() > 500 &&
               counters.dropped(Drop::unlisted_source) > 0 &&
               (setup.port_cooldown >= std::chrono::seconds{1} ||
                counters.groups_reused.read() > 0);
    };
    CHECK(allocations_of_turns(rig, has_happened) == 0);
    CHECK(has_happened());
}

}  // namespace
}  // namespace udpproxy::contract
