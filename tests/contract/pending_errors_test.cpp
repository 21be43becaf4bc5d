// ICMP errors on connected members. On loopback the answer to a datagram for a closed port is there
// before the send returns, so that a send leaves its error pending for the next call on the socket,
// be it a send or a receive.
#include <algorithm>
#include <map>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

TEST_CASE_TEMPLATE(
    "the first datagram after the upstream came back is delivered by the one retry, and the fault "
    "says so",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Endpoint at = unused_endpoint(loopback(family));
        const OpenedGroup group = rig.open_group(at);
        for (const bool with_tos : {false, true}) {
            CAPTURE(with_tos);
            const std::vector<Arrival> arrivals = rig.feed({"lost", "delivered"});
            CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
            const Peer upstream{at};
            std::vector<Departure> second{towards(arrivals[1], group.slots[0])};
            second[0].tos = with_tos ? 0x04 : 0;
            const std::vector<Fault> faults = rig.send(second);
            REQUIRE(faults.size() == 1);
            CHECK(faults[0].kind == FaultKind::send_retry);
            CHECK(faults[0].departure == 0);
            CHECK(faults[0].slot == group.slots[0]);
            const std::vector<Letter> letters = upstream.receive_all_there_are(1);
            REQUIRE(letters.size() == 1);
            CHECK(letters[0].payload == "delivered");
            CHECK(letters[0].tos == second[0].tos);
        }
    }
}

TEST_CASE_TEMPLATE("a whole batch behind a pending error is delivered, each datagram once", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint at = unused_endpoint(address("127.0.0.2"));
    const Peer healthy{address("127.0.0.3")};
    const OpenedGroup group = rig.open_group(at);
    const OpenedGroup other = rig.open_group(healthy.endpoint());
    std::vector<std::string> payloads;
    for (int i = 0; i < 101; ++i) payloads.push_back(std::to_string(i));
    const std::vector<Arrival> arrivals = rig.feed(payloads);
    CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
    const Peer upstream{at};
    std::vector<Departure> departures;
    for (std::size_t i = 1; i < arrivals.size(); ++i)
        departures.push_back(towards(arrivals[i], (i % 2 == 1 ? group : other).slots[0]));
    const std::vector<Fault> faults = rig.send(departures);
    // The first send, which is the five of one digit coalesced, met the error.
    REQUIRE(faults.size() == 5);
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(faults[i].kind == FaultKind::send_retry);
        CHECK(faults[i].departure == 2 * i);
    }
    CHECK(healthy.receive_all(50).size() == 50);
    std::map<std::string, int> times;
    for (const Letter& letter : upstream.receive_all_there_are(50)) ++times[letter.payload];
    CHECK(times.size() == 50);
    for (const auto& [payload, count] : times) CHECK(count == 1);
}

TEST_CASE_TEMPLATE(
    "a batch for a closed port has one fault per departure at most, and none that is not about it",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Peer healthy{address("127.0.0.3")};
    const OpenedGroup dead = rig.open_group(unused_endpoint(address("127.0.0.2")));
    const OpenedGroup other = rig.open_group(healthy.endpoint());
    for (int round = 0; round < 5; ++round) {
        const std::vector<Arrival> arrivals = rig.feed(std::vector<std::string>(40, "x"));
        std::vector<Departure> departures;
        for (std::size_t i = 0; i < arrivals.size(); ++i)
            departures.push_back(towards(arrivals[i], (i % 2 == 0 ? dead : other).slots[0]));
        std::map<std::uint32_t, int> faults;
        for (const Fault& fault : rig.send(departures)) {
            CHECK(fault.slot == dead.slots[0]);
            CHECK(fault.departure % 2 == 0);
            CHECK((fault.kind == FaultKind::send_retry ||
                   (fault.kind == FaultKind::send && fault.error == ECONNREFUSED)));
            ++faults[fault.departure];
        }
        for (const auto& [departure, count] : faults) CHECK(count == 1);
        CHECK(healthy.receive_all(20).size() == 20);
    }
}

TEST_CASE_TEMPLATE("a receive takes out a pending error once, reports it once, and does not spin",
                   Engine, UDPPROXY_ENGINES) {
    // epoll reports EPOLLERR until the error is read; io_uring ends the multishot receive.
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint at = unused_endpoint(address("127.0.0.2"));
    const OpenedGroup group = rig.open_group(at);
    constexpr std::size_t rounds = 10;
    for (std::size_t round = 0; round < rounds; ++round) {
        const std::vector<Arrival> arrivals = rig.feed({"x"});
        CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
        (void)rig.until([&] { return rig.faults.size() > round; }, moment);
        // ICMP is rate limited: no error is no failure.
        CHECK(rig.faults.size() <= round + 1);
    }
    CHECK(!rig.faults.empty());
    for (const Fault& fault : rig.faults) {
        CHECK(fault.kind == FaultKind::receive);
        CHECK(fault.error == ECONNREFUSED);
        CHECK(fault.slot == group.slots[0]);
    }
    CHECK(rig.comes_to_rest());

    // The member is alive: the upstream comes back, both directions work.
    const Peer upstream{at};
    const std::vector<Arrival> arrivals = rig.feed({"request"});
    CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
    REQUIRE(upstream.receive().has_value());
    upstream.send(group.local, "reply");
    REQUIRE(rig.collect(1));
    CHECK(rig.seen[0].payload == "reply");
    CHECK(rig.seen[0].slot == group.slots[0]);
}

TEST_CASE_TEMPLATE("a pending error in front of replies in the queue costs none of them", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint at = unused_endpoint(address("127.0.0.2"));
    const OpenedGroup group = rig.open_group(at);
    const std::vector<Arrival> arrivals = rig.feed({"x"});
    {
        const Peer upstream{at};
        for (int i = 0; i < 5; ++i) upstream.send(group.local, std::to_string(i));
    }
    CHECK(rig.send({towards(arrivals[0], group.slots[0])}).empty());
    REQUIRE(rig.collect(5));
    for (std::size_t i = 0; i < 5; ++i) CHECK(rig.seen[i].payload == std::to_string(i));
    CHECK(rig.faults.size() <= 1);
    CHECK(rig.comes_to_rest());
    CHECK(rig.faults.size() == 1);
}

}  // namespace
}  // namespace udpproxy::contract
