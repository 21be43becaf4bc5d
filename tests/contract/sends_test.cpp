// What goes out: destination, source address and TOS of departures, the order of each slot's, and
// what happens to one that cannot leave.
#include <map>
#include <set>

#include "contract/rig.hpp"
#include "contract/send_errors.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE(
    "a departure on a connected slot reaches the upstream with payload, TOS and the group's "
    "address",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        GroupRig<Engine> rig(family);
        const std::vector<Arrival> arrivals = rig.feed({"with TOS", "", "without"});
        std::vector<Departure> departures;
        for (const Arrival& arrival : arrivals)
            departures.push_back(towards(arrival, rig.group.slots[0]));
        departures[0].tos = 0x2e << 2 | 0x02;
        departures[1].tos = 0x01;
        CHECK(rig.send(departures).empty());
        const std::vector<Letter> letters = rig.upstream.receive_all(3);
        REQUIRE(letters.size() == 3);
        for (const Letter& letter : letters) CHECK(letter.from == rig.group.local);
        CHECK(letters[0].payload == "with TOS");
        CHECK(letters[0].tos == (0x2e << 2 | 0x02));
        CHECK(letters[1].payload.empty());
        CHECK(letters[1].tos == 0x01);
        CHECK(letters[2].payload == "without");
        CHECK(letters[2].tos == 0);
    }
}

TEST_CASE_TEMPLATE(
    "a departure to a named client leaves from the listener's address, or the one asked for",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        RigSetup setup;
        setup.listen = {loopback(family), Address::any(family)};
        Rig<Engine> rig(setup);
        const Peer other{loopback(family)};
        const Address asked_for = family == Family::ipv4 ? address("127.0.0.7") : loopback(family);
        const std::vector<Arrival> arrivals = rig.feed({"plain", "from", "empty"});
        std::vector<Departure> departures{
            back_to(arrivals[0], Slot{0}, rig.client().endpoint()),
            back_to(arrivals[1], Slot{1}, rig.client().endpoint(), asked_for),
            back_to(arrivals[2], Slot{1}, other.endpoint(), asked_for)};
        departures[0].tos = 0xb9;
        departures[1].tos = 0x88;
        departures[2].bytes = 0;
        CHECK(rig.send(departures).empty());
        std::vector<Letter> letters = rig.client().receive_all(2);
        REQUIRE(letters.size() == 2);
        if (letters[0].payload != "plain") std::swap(letters[0], letters[1]);
        CHECK(letters[0].from == rig.listener(0));
        CHECK(letters[0].tos == 0xb9);
        CHECK(letters[1].payload == "from");
        CHECK(letters[1].from == Endpoint{asked_for, 0, rig.listener(1).port});
        CHECK(letters[1].tos == 0x88);
        const std::optional<Letter> empty = other.receive();
        REQUIRE(empty.has_value());
        CHECK(empty->payload.empty());
        CHECK(empty->from.address == asked_for);
    }
}

TEST_CASE_TEMPLATE(
    "a batch of 900 departures over interleaved slots keeps the order of each slot and returns all "
    "buffers",
    Engine, UDPPROXY_ENGINES) {
    // More than one submission (512) and more than one sendmmsg per slot (64).
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.buffers_per_leg = 1024;
    setup.listen = {loopback(Family::ipv4), address("127.0.0.2")};
    Rig<Engine> rig(setup);
    std::vector<Peer> upstreams;
    std::vector<OpenedGroup> groups;
    for (int i = 0; i < 3; ++i) {
        upstreams.emplace_back(address("127.0.0.3"));
        groups.push_back(rig.open_group(upstreams.back().endpoint()));
    }
    const Peer client{loopback(Family::ipv4)};
    const Peer other_client{loopback(Family::ipv4)};
    for (int round = 0; round < 3; ++round) {
        std::vector<std::string> payloads;
        for (int i = 0; i < 900; ++i) payloads.push_back(std::to_string(i));
        const std::vector<Arrival> arrivals = rig.feed(payloads);
        std::vector<Departure> departures;
        std::map<std::size_t, std::vector<std::string>> wanted;
        for (std::size_t i = 0; i < arrivals.size(); ++i) {
            // Stretches of one slot, and slots in turn; some plain sends, some with a TOS that
            // needs a message.
            const std::size_t goal = i < 300 ? i % 5 : (i / 70) % 5;
            wanted[goal].push_back(payloads[i]);
            if (goal < 3)
                departures.push_back(towards(arrivals[i], groups[goal].slots[0]));
            else
                departures.push_back(back_to(arrivals[i],
                                             Slot{static_cast<std::uint32_t>(goal - 3)},
                                             (goal == 3 ? client : other_client).endpoint()));
            departures.back().tos = i % 3 == 0 ? 0x04 : 0;
        }
        CHECK(rig.send(departures).empty());
        for (std::size_t goal = 0; goal < 5; ++goal) {
            const Peer& receiver = goal < 3 ? upstreams[goal] : goal == 3 ? client : other_client;
            const std::vector<Letter> letters = receiver.receive_all(wanted[goal].size());
            REQUIRE(letters.size() == wanted[goal].size());
            std::size_t out_of_order = 0;
            for (std::size_t i = 0; i < letters.size(); ++i)
                out_of_order += letters[i].payload != wanted[goal][i] ? 1 : 0;
            CHECK(out_of_order == 0);
        }
    }
    rig.seen.clear();
    for (int i = 0; i < 1500; ++i) {
        rig.client().send(rig.listener(), "again");
        if (i % 100 == 99) REQUIRE(rig.collect(static_cast<std::size_t>(i) + 1));
    }
    CHECK(rig.engine().counters().buffers_exhausted == 0);
}

TEST_CASE_TEMPLATE(
    "a departure too large for the protocol is one send fault, and those around it leave", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    if (families().size() < 2) return;
    RigSetup setup;
    setup.listen = {loopback(Family::ipv6), loopback(Family::ipv4)};
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const Peer client{loopback(Family::ipv4)};
    const OpenedGroup group = rig.open_group(upstream.endpoint());
    const std::string large(65527, 'L');  // fits into IPv6, not into IPv4
    const std::vector<Arrival> arrivals =
        rig.feed({large, "1", large, large, "2", large, "3", large, "4"});
    std::vector<Departure> departures;
    for (std::size_t i = 0; i < 5; ++i) departures.push_back(towards(arrivals[i], group.slots[0]));
    for (std::size_t i = 5; i < 9; ++i)
        departures.push_back(back_to(arrivals[i], Slot{1}, client.endpoint()));
    std::set<std::uint32_t> lost;
    for (const Fault& fault : rig.send(departures)) {
        CHECK(fault.kind == FaultKind::send);
        CHECK(fault.error == EMSGSIZE);
        CHECK(fault.slot == departures[fault.departure].slot);
        CHECK(lost.insert(fault.departure).second);
    }
    CHECK(lost == std::set<std::uint32_t>{0, 2, 3, 5, 7});
    for (const Peer* receiver : {&upstream, &client}) {
        const std::vector<Letter> letters = receiver->receive_all_there_are(2);
        REQUIRE(letters.size() == 2);
        CHECK(letters[0].payload == (receiver == &upstream ? "1" : "3"));
        CHECK(letters[1].payload == (receiver == &upstream ? "2" : "4"));
    }
}

TEST_CASE_TEMPLATE(
    "one client that cannot be written to does not hold up the others of the listener", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint refused{address("255.255.255.255"), 0, 9};  // EACCES without SO_BROADCAST
    const std::vector<Arrival> arrivals = rig.feed({"0", "1", "2", "3", "4", "5"});
    std::vector<Departure> departures;
    for (std::size_t i = 0; i < arrivals.size(); ++i)
        departures.push_back(
            back_to(arrivals[i], Slot{0}, i % 2 == 0 ? refused : rig.client().endpoint()));
    std::set<std::uint32_t> lost;
    for (const Fault& fault : rig.send(departures)) {
        CHECK(fault.kind == FaultKind::send);
        CHECK(fault.error == EACCES);
        CHECK(lost.insert(fault.departure).second);
    }
    CHECK(lost == std::set<std::uint32_t>{0, 2, 4});
    const std::vector<Letter> letters = rig.client().receive_all(3);
    REQUIRE(letters.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(letters[i].payload == std::to_string(2 * i + 1));
}

TEST_CASE_TEMPLATE(
    "behind a send that had no room the rest of the socket waits, under the same error and in "
    "order",
    Engine, UDPPROXY_ENGINES) {
    // After ENOBUFS on a listener later datagrams to the same client left first.
    if (!runs_here<Engine>()) return;
    for (const Leg leg : {Leg::request, Leg::reply}) {
        for (const int error : {EAGAIN, ENOBUFS}) {
            CAPTURE(error_text(error));
            Rig<Engine> rig;
            const Peer upstream{address("127.0.0.2")};
            const Peer other{address("127.0.0.3")};
            const OpenedGroup group = rig.open_group(upstream.endpoint());
            std::vector<std::string> payloads;
            for (int i = 0; i < 100; ++i) payloads.push_back(std::to_string(i));
            std::vector<Departure> departures;
            for (const Arrival& arrival : rig.feed(payloads)) {
                departures.push_back(leg == Leg::request
                                         ? towards(arrival, group.slots[0])
                                         : back_to(arrival, Slot{0}, upstream.endpoint()));
                // Every other one is of another class, so that nothing coalesces.
                departures.back().tos = departures.size() % 2 == 0 ? 0x04 : 0;
            }
            // Another client of the listener stands between them.
            if (leg == Leg::reply) departures[50].to = other.endpoint();
            std::vector<Departure> again;
            {
                SendErrors errors;
                // sendmmsg does not tell the first error: two messages left before it.
                errors.of_singles = {0, 0, error, error};
                for (const Fault& fault : rig.send(departures)) {
                    CHECK(fault.kind == FaultKind::send_no_space);
                    CHECK(fault.error == error);
                    CHECK(fault.departure == 2 + again.size());
                    again.push_back(departures[fault.departure]);
                }
            }
            REQUIRE(again.size() == 98);
            CHECK(rig.send(again).empty());
            const std::size_t wanted = leg == Leg::request ? 100 : 99;
            const std::vector<Letter> letters = upstream.receive_all(wanted);
            REQUIRE(letters.size() == wanted);
            std::size_t out_of_order = 0;
            for (std::size_t i = 0; i < wanted; ++i)
                out_of_order +=
                    letters[i].payload != payloads[i < 50 ? i : i + 100 - wanted] ? 1 : 0;
            CHECK(out_of_order == 0);
            if (leg == Leg::reply) CHECK(other.receive_all(1).size() == 1);
        }
    }
}

TEST_CASE_TEMPLATE("an empty batch is sent without faults", Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    CHECK(rig.send({}).empty());
}

}  // namespace
}  // namespace udpproxy::contract
