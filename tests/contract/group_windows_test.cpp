// Between bind and connect a member would take datagrams from anybody and deliver them afterwards.
// The window is a few microseconds wide: a thread sends into it as fast as it can while groups are
// opened over and over on a known port.
//
// Draining each member after the connect closes the window but for a crack: a datagram for which
// another processor found the socket before the connect, and which it queues only after the drain
// (net/ipv4/udp.c: lookup first, queue later, no lock around both). The check of each reply's
// source is there for it. Without the drain it is one to three datagrams per opening.
#include <atomic>
#include <thread>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE(
    "what a foreign source sent between bind and connect is not delivered after the connect",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Peer upstream{loopback(family)};
        const Peer foreigner{loopback(family)};
        std::vector<Peer> peers;
        std::vector<Endpoint> aliases;
        for (int i = 0; i < 8; ++i)
            aliases.push_back(peers.emplace_back(loopback(family)).endpoint());
        OpenedGroup group = rig.open_group(upstream.endpoint(), aliases);  // finds a port
        REQUIRE(rig.close_and_wait(group));

        std::atomic<bool> stop{false};
        std::thread hammer([&] {
            SocketName name;
            const socklen_t length = write_socket_name(group.local, name);
            while (!stop.load(std::memory_order_relaxed))
                ::sendto(foreigner.descriptor(), "foreign", 7, MSG_DONTWAIT, &name.any, length);
        });
        std::size_t foreign = 0;
        std::size_t opened = 0;
        std::size_t answered = 0;
        const Instant end = monotonic_now() + std::chrono::milliseconds{400};
        while (monotonic_now() < end) {
            rig.seen.clear();
            if (!rig.engine()
                     .open_group(GroupOpening{group.local, upstream.endpoint(), aliases, false},
                                 group.slots)
                     .opened())
                continue;
            ++opened;
            upstream.send(group.local, "listed");
            (void)rig.collect(1);
            rig.wait(monotonic_now());
            const bool closed = rig.close_and_wait(group);
            for (const Seen& seen : rig.seen) (seen.payload == "foreign" ? foreign : answered) += 1;
            if (!closed) break;
        }
        stop = true;
        hammer.join();
        CAPTURE(opened);
        CHECK(foreign * 20 <= opened);
        CHECK(opened >= 20);
        CHECK(answered == opened);
    }
}

}  // namespace
}  // namespace udpproxy::contract
