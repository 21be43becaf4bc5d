// What comes in: payload, source, TOS and local address of arrivals, every size, cut ones, empty
// ones.
#include <net/if.h>

#include <algorithm>
#include <map>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE("an arrival carries its slot, source, payload and TOS", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        RigSetup setup;
        setup.listen = {loopback(family), loopback(family)};
        Rig<Engine> rig(setup);
        const Peer other{loopback(family)};
        rig.client().send(rig.listener(0), "to the first", 0xb8 | 0x01);
        other.send(rig.listener(1), "to the second", 0);
        REQUIRE(rig.collect(2));
        if (rig.seen[0].slot != Slot{0}) std::swap(rig.seen[0], rig.seen[1]);
        CHECK(rig.seen[0].slot == Slot{0});
        CHECK(rig.seen[0].leg == Leg::request);
        CHECK(rig.seen[0].payload == "to the first");
        CHECK(rig.seen[0].from == rig.client().endpoint());
        CHECK(rig.seen[0].tos == (0xb8 | 0x01));
        CHECK_FALSE(rig.seen[0].truncated);
        CHECK(rig.seen[1].slot == Slot{1});
        CHECK(rig.seen[1].payload == "to the second");
        CHECK(rig.seen[1].from == other.endpoint());
        CHECK(rig.seen[1].tos == 0);
    }
}

TEST_CASE_TEMPLATE("a wildcard listener tells the address that was written to, and the interface",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        RigSetup setup;
        setup.listen = {Address::any(family)};
        Rig<Engine> rig(setup);
        std::vector<Address> written_to{loopback(family)};
        if (family == Family::ipv4)
            written_to.insert(written_to.end(), {address("127.0.0.7"), address("127.1.2.3")});
        for (const Address& local : written_to) {
            CAPTURE(format(local));
            rig.seen.clear();
            rig.client().send(Endpoint{local, 0, rig.listener().port}, "x");
            REQUIRE(rig.collect(1));
            CHECK(rig.seen[0].local == local);
            CHECK(rig.seen[0].interface_index == ::if_nametoindex("lo"));
        }
    }
}

TEST_CASE_TEMPLATE("a listener on one address does not tell the address again", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        rig.client().send(rig.listener(), "x");
        REQUIRE(rig.collect(1));
        CHECK(rig.seen[0].local.is_unspecified());
    }
}

TEST_CASE_TEMPLATE(
    "datagrams of every size arrive whole, from empty to the largest the protocol has", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const std::size_t largest = family == Family::ipv4 ? 65507 : 65527;
        for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1472}, largest,
                                        std::size_t{0}, largest, std::size_t{1}}) {
            CAPTURE(bytes);
            std::string payload(bytes, '.');
            for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<char>(i % 251);
            rig.seen.clear();
            rig.client().send(rig.listener(), payload);
            REQUIRE(rig.collect(1));
            CHECK(rig.seen[0].payload.size() == bytes);
            CHECK((rig.seen[0].payload == payload));
            CHECK_FALSE(rig.seen[0].truncated);
        }
    }
}

TEST_CASE_TEMPLATE(
    "a datagram longer than the buffer is flagged, on both legs, and one that just fits is not",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        RigSetup setup;
        setup.listen = {loopback(family)};
        setup.payload_bytes_max = 100;
        GroupRig<Engine> rig(setup);
        for (const std::size_t bytes : {99U, 100U, 101U, 1000U, 65507U, 100U}) {
            CAPTURE(bytes);
            rig.seen.clear();
            rig.client().send(rig.listener(), std::string(bytes, 'q'));
            rig.upstream.send(rig.group.local, std::string(bytes, 'r'));
            REQUIRE(rig.collect(2));
            for (const Seen& seen : rig.seen) {
                CHECK(seen.truncated == (bytes > 100));
                CHECK(seen.payload == std::string(std::min<std::size_t>(bytes, 100),
                                                  seen.leg == Leg::request ? 'q' : 'r'));
            }
        }
        CHECK(rig.seen.size() == 2);
    }
}

TEST_CASE_TEMPLATE("2000 empty datagrams among data silence neither a listener nor a member",
                   Engine, UDPPROXY_ENGINES) {
    // An empty datagram ends a multishot receive.
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    std::size_t empty = 0;
    std::map<Leg, std::vector<std::string>> data;
    for (int round = 0; round < 20; ++round) {
        rig.seen.clear();
        for (int i = 0; i < 50; ++i) {
            for (const std::string& payload : {std::string{}, std::to_string(round * 50 + i)}) {
                rig.client().send(rig.listener(), payload);
                rig.upstream.send(rig.group.local, payload);
            }
        }
        REQUIRE(rig.collect(200));
        for (const Seen& seen : rig.seen) {
            CHECK(seen.from ==
                  (seen.leg == Leg::request ? rig.client().endpoint() : rig.upstream.endpoint()));
            if (seen.payload.empty())
                ++empty;
            else
                data[seen.leg].push_back(seen.payload);
        }
    }
    CHECK(empty == 2000);
    for (const Leg leg : {Leg::request, Leg::reply}) {
        REQUIRE(data[leg].size() == 1000);
        for (std::size_t i = 0; i < 1000; ++i) CHECK(data[leg][i] == std::to_string(i));
    }
    rig.seen.clear();
    CHECK(rig.comes_to_rest());
    CHECK(rig.seen.empty());
}

TEST_CASE_TEMPLATE("arrivals of each socket keep the order in which they were sent", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.listen = {loopback(Family::ipv4), address("127.0.0.2"), address("127.0.0.3")};
    Rig<Engine> rig(setup);
    for (int i = 0; i < 200; ++i) {
        for (std::size_t at = 0; at < 3; ++at)
            rig.client().send(rig.listener(at), std::to_string(i));
    }
    REQUIRE(rig.collect(600));
    std::map<Slot, int> next;
    for (const Seen& seen : rig.seen) CHECK(seen.payload == std::to_string(next[seen.slot]++));
    CHECK(next.size() == 3);
}

}  // namespace
}  // namespace udpproxy::contract
