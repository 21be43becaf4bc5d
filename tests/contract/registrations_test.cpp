// A socket that the kernel opens and then has no memory, or no watch, to register with the engine.
#include <array>

#include "contract/registration_errors.hpp"
#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

/// One listener, and slots for four members: what a failure kept would be missed.
RigSetup small_rig() {
    RigSetup setup;
    setup.slots_max = 5;
    return setup;
}

TEST_CASE_TEMPLATE("a group of which one socket cannot be registered is not opened at all", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig(small_rig());
    const Peer upstream{loopback(Family::ipv4)};
    const Peer alias{loopback(Family::ipv4)};
    const std::size_t before = descriptor_count();
    GroupOpening opening;
    opening.upstream = upstream.endpoint();
    const std::array<Endpoint, 1> aliases{alias.endpoint()};
    opening.aliases = aliases;
    opening.with_open_member = true;
    opening.local = Endpoint{group_address(Family::ipv4), 0, next_port()};
    std::array<Slot, 3> slots{};
    for (int passed = 0; passed <= 3; ++passed) {
        CAPTURE(passed);
        OpeningOutcome outcome;
        // A ring lets go of a port some time after its socket is closed.
        const Instant deadline = monotonic_now() + patience;
        do {
            rig.wait(monotonic_now());
            const RegistrationErrors errors(passed, ENOSPC);
            outcome = rig.engine().open_group(opening, slots);
        } while (outcome.error == EADDRINUSE && monotonic_now() < deadline);
        CHECK(outcome.error == (passed < 3 ? ENOSPC : 0));
        CHECK(descriptor_count() == before + (passed < 3 ? 0 : 3));
    }
    rig.wait(monotonic_now());
    alias.send(opening.local, "answered");
    CHECK(rig.collect(1));
}

TEST_CASE_TEMPLATE("a member that cannot be registered does not join", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig(small_rig());
    const Peer upstream{loopback(Family::ipv4)};
    const Peer later{loopback(Family::ipv4)};
    const OpenedGroup group = rig.open_group(upstream.endpoint(), {}, true);
    MemberJoining joining;
    joining.local = group.local;
    joining.peer = later.endpoint();
    const std::size_t before = descriptor_count();
    Slot joined = no_slot;
    for (int round = 0; round < 3; ++round) {
        const RegistrationErrors errors(0, ENOMEM);
        CHECK(rig.engine().join_group(group.slots, joining, joined).error == ENOMEM);
        CHECK(descriptor_count() == before);
    }
    CHECK(rig.engine().join_group(group.slots, joining, joined).opened());
    upstream.send(group.local, "still served");
    later.send(group.local, "served as well");
    CHECK(rig.collect(2));
}

TEST_CASE_TEMPLATE("a listener that cannot be registered stays with the caller", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig(small_rig());
    Result<ListenerSockets> opened =
        open_listeners(ListenerRequest{Endpoint{loopback(Family::ipv4), 0, 0}, 4U << 20, 4U << 20,
                                       PathMtu::want, false},
                       1);
    REQUIRE(opened.has_value());
    ListenerSocket listener{std::move(opened->sockets[0]), Family::ipv4, false};
    {
        const RegistrationErrors errors(0, ENOMEM);
        CHECK(rig.engine().adopt(Slot{1}, listener) == ENOMEM);
    }
    CHECK(listener.socket);
    CHECK(rig.engine().adopt(Slot{1}, listener) == 0);
    CHECK(!listener.socket);
}

}  // namespace
}  // namespace udpproxy::contract
