// Trains on both legs: they arrive whole, leave with every boundary kept, and what came singly
// coalesces, but only with its like.
#include <functional>
#include <numeric>

#include "contract/loop_rig.hpp"
#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

/// Bytes that tell where they stand.
std::string pattern(std::size_t bytes, std::size_t seed = 0) {
    std::string payload(bytes, '.');
    for (std::size_t i = 0; i < bytes; ++i)
        payload[i] = static_cast<char>((i * 31 + i / 251 + seed * 7) & 0xff);
    return payload;
}

std::vector<std::string> cut(const std::string& payload, std::size_t segment_bytes) {
    std::vector<std::string> datagrams;
    for (std::size_t at = 0; at < payload.size(); at += segment_bytes)
        datagrams.push_back(payload.substr(at, segment_bytes));
    return datagrams;
}

/// Each datagram's length and hash, so that a failure is short to read.
std::vector<std::pair<std::size_t, std::size_t>> marks(const std::vector<std::string>& datagrams) {
    std::vector<std::pair<std::size_t, std::size_t>> made;
    for (const std::string& datagram : datagrams)
        made.emplace_back(datagram.size(), std::hash<std::string>{}(datagram));
    return made;
}

std::vector<std::string> payloads(const std::vector<Letter>& letters) {
    std::vector<std::string> made;
    for (const Letter& letter : letters) made.push_back(letter.payload);
    return made;
}

struct Shape {
    std::size_t bytes;
    std::size_t segment_bytes;
};
const std::vector<Shape> shapes{
    {2, 1},        {1000, 100},       {1037, 100},           {64, 1},
    {101, 100},    {64 * 1000, 1000}, {63 * 1000 + 1, 1000}, {44 * 1472 + 600, 1472},
    {40000, 20000}};

TEST_CASE_TEMPLATE("a train arrives whole, with segment size, source and TOS, on both legs", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        GroupRig<Engine> rig(family);
        for (const Shape& shape : shapes) {
            CAPTURE(shape.bytes);
            const std::string payload = pattern(shape.bytes);
            rig.seen.clear();
            rig.client().send_train(rig.listener(), payload, shape.segment_bytes, 0xb9);
            rig.upstream.send_train(rig.group.local, payload, shape.segment_bytes, 0x88);
            REQUIRE(rig.collect(2));
            for (const Seen& seen : rig.seen) {
                CHECK(seen.segment_bytes == shape.segment_bytes);
                CHECK(seen.datagrams ==
                      (shape.bytes + shape.segment_bytes - 1) / shape.segment_bytes);
                CHECK((seen.payload == payload));
                CHECK_FALSE(seen.truncated);
                CHECK(seen.from ==
                      (seen.leg == Leg::request ? rig.client() : rig.upstream).endpoint());
                CHECK(seen.tos == (seen.leg == Leg::request ? 0xb9 : 0x88));
            }
        }
        CHECK(rig.engine().counters().trains_received == 2 * shapes.size());
    }
}

TEST_CASE_TEMPLATE("a datagram behind a train is one datagram, an empty one too", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    rig.client().send_train(rig.listener(), pattern(1000), 100);
    rig.client().send(rig.listener(), "");
    rig.client().send(rig.listener(), "one");
    REQUIRE(rig.collect(3));
    CHECK(rig.seen[0].datagrams == 10);
    for (std::size_t i : {1U, 2U}) {
        CHECK(rig.seen[i].datagrams == 1);
        CHECK(rig.seen[i].segment_bytes == 0);
    }
    CHECK(rig.seen[1].payload.empty());
}

TEST_CASE_TEMPLATE(
    "without offload a train arrives as its datagrams, and equal neighbours leave singly", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.offload = false;
    GroupRig<Engine> rig(setup);
    const std::string payload = pattern(1037);
    rig.client().send_train(rig.listener(), payload, 100);
    REQUIRE(rig.hold(11));
    std::vector<Departure> departures;
    for (const Arrival& arrival : std::exchange(rig.held, {})) {
        CHECK(arrival.datagrams() == 1);
        departures.push_back(towards(arrival, rig.group.slots[0]));
    }
    CHECK(rig.send(departures).empty());
    CHECK(marks(payloads(rig.upstream.receive_all(11))) == marks(cut(payload, 100)));
    CHECK(rig.engine().counters().trains_received == 0);
    CHECK(rig.engine().counters().trains_sent == 0);
}

TEST_CASE_TEMPLATE(
    "a train leaves in one pass with every boundary kept, to the upstream and to the client",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        GroupRig<Engine> rig(family);
        std::uint64_t sent = 0;
        for (const Shape& shape : shapes) {
            CAPTURE(shape.bytes);
            const std::string payload = pattern(shape.bytes, shape.segment_bytes);
            const std::vector<std::string> datagrams = cut(payload, shape.segment_bytes);
            for (const bool to_client : {false, true}) {
                const std::vector<Arrival> arrivals = rig.feed_train(payload, shape.segment_bytes);
                REQUIRE(arrivals.size() == 1);
                Departure departure = to_client
                                          ? back_to(arrivals[0], Slot{0}, rig.client().endpoint())
                                          : towards(arrivals[0], rig.group.slots[0]);
                departure.tos = 0x04;
                CHECK(rig.send({departure}).empty());
                const std::vector<Letter> letters =
                    (to_client ? rig.client() : rig.upstream).receive_all(datagrams.size());
                CHECK(marks(payloads(letters)) == marks(datagrams));
                for (const Letter& letter : letters) {
                    CHECK(letter.from == (to_client ? rig.listener() : rig.group.local));
                    CHECK(letter.tos == 0x04);
                }
                CHECK(rig.engine().counters().trains_sent == ++sent);
            }
        }
        CHECK(rig.engine().counters().gso_fallbacks == 0);
    }
}

TEST_CASE_TEMPLATE("a train that is more than one send leaves in several", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    GroupRig<Engine> rig;
    // Receive offload may make longer ones than one send takes. Here the segment size of a datagram
    // that is as large as can be is made up.
    const std::string tiny = pattern(65507);
    for (const std::size_t segment_bytes : {10U, 500U, 1000U, 9361U, 40000U}) {
        const std::vector<Arrival> arrivals = rig.feed({tiny});
        Departure departure = towards(arrivals[0], rig.group.slots[0]);
        departure.segment_bytes = static_cast<std::uint32_t>(segment_bytes);
        departure.bytes =
            static_cast<std::uint32_t>(std::min<std::size_t>(65507, 300 * segment_bytes + 1));
        const std::vector<std::string> datagrams =
            cut(tiny.substr(0, departure.bytes), segment_bytes);
        CHECK(rig.send({departure}).empty());
        CHECK(marks(payloads(rig.upstream.receive_all(datagrams.size()))) == marks(datagrams));
    }
    CHECK(rig.engine().counters().gso_fallbacks == 0);
}

TEST_CASE_TEMPLATE(
    "equal datagrams that came singly leave in as few passes as their lengths allow, in order",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    struct Row {
        std::vector<std::size_t> lengths;
        std::uint64_t trains;
    };
    const std::vector<Row> rows{
        {{100, 100, 100, 30}, 1},
        {{100, 30, 100, 100, 100}, 2},
        {{100, 101, 102, 103}, 0},
        {{0, 0, 0, 50, 0, 50}, 0},
        {std::vector<std::size_t>(200, 1000), 4},  // 64 + 64 + 64 + 8
        {std::vector<std::size_t>(100, 1400), 3},  // 46 + 46 + 8: 65507 bytes
        {{7, 7, 7, 300, 300, 9, 9, 9, 9, 1}, 3},
    };
    for (const Family family : families()) {
        GroupRig<Engine> rig(family);
        const Peer other{loopback(family)};
        const OpenedGroup beside = rig.open_group(other.endpoint());
        for (const Row& row : rows) {
            for (const bool to_client : {false, true}) {
                std::vector<std::string> datagrams;
                for (std::size_t i = 0; i < row.lengths.size(); ++i)
                    datagrams.push_back(pattern(row.lengths[i], i));
                const std::vector<Arrival> arrivals = rig.feed(datagrams);
                std::vector<Departure> departures;
                for (std::size_t i = 0; i < arrivals.size(); ++i) {
                    departures.push_back(
                        to_client ? back_to(arrivals[i], Slot{0}, rig.client().endpoint())
                                  : towards(arrivals[i], rig.group.slots[0]));
                }
                // One of another session's in the middle holds nothing up.
                rig.client().send(rig.listener(), "between");
                REQUIRE(rig.hold(1));
                departures.insert(
                    departures.begin() + static_cast<std::ptrdiff_t>(departures.size() / 2),
                    towards(std::exchange(rig.held, {})[0], beside.slots[0]));
                const std::uint64_t before = rig.engine().counters().trains_sent;
                CHECK(rig.send(departures).empty());
                CHECK(rig.engine().counters().trains_sent - before == row.trains);
                CHECK(marks(payloads((to_client ? rig.client() : rig.upstream)
                                         .receive_all(datagrams.size()))) == marks(datagrams));
                CHECK(payloads(other.receive_all(1)) == std::vector<std::string>{"between"});
            }
        }
        CHECK(rig.engine().counters().gso_fallbacks == 0);
    }
}

TEST_CASE_TEMPLATE(
    "datagrams for different clients, from different addresses or with different TOS do not "
    "coalesce",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.listen = {address("0.0.0.0")};
    Rig<Engine> rig(setup);
    const Peer first{loopback(Family::ipv4)};
    const Peer second{loopback(Family::ipv4)};
    const std::vector<Arrival> arrivals = rig.feed({"a", "b", "c", "d", "e", "f"});
    std::vector<Departure> departures;
    for (std::size_t i = 0; i < arrivals.size(); ++i)
        departures.push_back(back_to(arrivals[i], Slot{0}, first.endpoint(), address("127.0.0.7")));
    departures[1].to = second.endpoint();
    departures[3].tos = 0x04;
    departures[5].from = address("127.0.0.8");
    CHECK(rig.send(departures).empty());
    CHECK(rig.engine().counters().trains_sent == 0);
    const std::vector<Letter> letters = first.receive_all(5);
    CHECK(payloads(letters) == std::vector<std::string>{"a", "c", "d", "e", "f"});
    CHECK(payloads(second.receive_all(1)) == std::vector<std::string>{"b"});
    REQUIRE(letters.size() == 5);
    CHECK(letters[2].tos == 0x04);
    CHECK(letters[3].tos == 0);
    CHECK(letters[3].from.address == address("127.0.0.7"));
    CHECK(letters[4].from.address == address("127.0.0.8"));
}

TEST_CASE_TEMPLATE("two departures that differ in one thing only do not coalesce", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Peer client{loopback(family)};
        const Peer other{loopback(family)};
        const auto trains_of = [&](auto make_different) {
            const std::vector<Arrival> arrivals = rig.feed({"one", "two"});
            std::vector<Departure> departures;
            for (const Arrival& arrival : arrivals)
                departures.push_back(back_to(arrival, Slot{0}, client.endpoint()));
            make_different(departures[1]);
            const std::uint64_t before = rig.engine().counters().trains_sent;
            CHECK(rig.send(departures).empty());
            CHECK(payloads(client.receive_all(1)) == std::vector<std::string>{"one"});
            const Peer& second = departures[1].to.port == client.endpoint().port ? client : other;
            CHECK(payloads(second.receive_all(1)) == std::vector<std::string>{"two"});
            return rig.engine().counters().trains_sent - before;
        };
        CHECK(trains_of([](Departure&) {}) == 1);
        CHECK(trains_of([&](Departure& departure) { departure.to = other.endpoint(); }) == 0);
        CHECK(trains_of([](Departure& departure) { departure.tos = 0x04; }) == 0);
        CHECK(trains_of([&](Departure& departure) { departure.from = loopback(family); }) == 0);
        // That of the loopback interface; the kernel takes it and ignores the scope of ::1.
        CHECK(trains_of([](Departure& departure) { departure.interface_index = 1; }) == 0);
        if (family == Family::ipv6)
            CHECK(trains_of([](Departure& departure) { departure.to.scope = 1; }) == 0);
    }
    // The same port at two addresses.
    Rig<Engine> rig(Family::ipv4);
    const Peer client{address("127.0.0.2")};
    const Peer other{Endpoint{address("127.0.0.3"), 0, client.endpoint().port}};
    const std::vector<Arrival> arrivals = rig.feed({"one", "two"});
    CHECK(rig.send({back_to(arrivals[0], Slot{0}, client.endpoint()),
                    back_to(arrivals[1], Slot{0}, other.endpoint())})
              .empty());
    CHECK(rig.engine().counters().trains_sent == 0);
    CHECK(payloads(client.receive_all(1)) == std::vector<std::string>{"one"});
    CHECK(payloads(other.receive_all(1)) == std::vector<std::string>{"two"});
}

TEST_CASE_TEMPLATE("a train longer than the buffer is flagged and counts as all its datagrams",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        RigSetup setup = listening_in(family);
        setup.payload_bytes_max = 250;
        GroupRig<Engine> rig(setup);
        rig.client().send_train(rig.listener(), pattern(1037), 100);
        rig.upstream.send_train(rig.group.local, pattern(1037), 100);
        REQUIRE(rig.collect(2));
        for (const Seen& seen : rig.seen) {
            CHECK(seen.truncated);
            CHECK(seen.datagrams == 11);
            CHECK(seen.payload == pattern(1037).substr(0, 250));
        }
        // The next one fits, and its neighbours too.
        rig.seen.clear();
        rig.client().send_train(rig.listener(), pattern(250), 100);
        REQUIRE(rig.collect(1));
        CHECK_FALSE(rig.seen[0].truncated);
        CHECK(rig.seen[0].datagrams == 3);
    }
}

TEST_CASE_TEMPLATE(
    "trains pass through the whole loop both ways, and every counter counts datagrams", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        for (const bool offload : {true, false}) {
            CAPTURE(offload);
            LoopRigSetup setup;
            setup.listen = loopback(family);
            setup.offload = offload;
            LoopRig<Engine> rig(setup);
            const Peer client{loopback(family)};
            std::uint64_t datagrams_in_all = 0;
            std::uint64_t bytes_in_all = 0;
            for (const Shape& shape : shapes) {
                CAPTURE(shape.bytes);
                const std::string payload = pattern(shape.bytes, 3);
                const std::vector<std::string> datagrams = cut(payload, shape.segment_bytes);
                datagrams_in_all += datagrams.size();
                bytes_in_all += payload.size();
                client.send_train(rig.listener(), payload, shape.segment_bytes);
                std::vector<Letter> asked;
                for (std::size_t i = 0; i < datagrams.size(); ++i) {
                    std::optional<Letter> letter = rig.next_letter(rig.upstream);
                    REQUIRE(letter.has_value());
                    asked.push_back(*letter);
                }
                CHECK(marks(payloads(asked)) == marks(datagrams));
                rig.first_alias.send_train(asked[0].from, payload, shape.segment_bytes);
                std::vector<Letter> answers;
                for (std::size_t i = 0; i < datagrams.size(); ++i) {
                    std::optional<Letter> letter = rig.next_letter(client);
                    REQUIRE(letter.has_value());
                    answers.push_back(*letter);
                }
                CHECK(marks(payloads(answers)) == marks(datagrams));
            }
            CHECK(rig.counters().arrivals_request.read() == datagrams_in_all);
            CHECK(rig.counters().arrivals_reply.read() == datagrams_in_all);
            CHECK(rig.counters().departures_request.read() == datagrams_in_all);
            CHECK(rig.counters().departures_reply.read() == datagrams_in_all);
            CHECK(rig.counters().bytes_request.read() == bytes_in_all);
            CHECK(rig.counters().bytes_reply.read() == bytes_in_all);
            CHECK(rig.shard().drops_total == 0);
            CHECK(rig.shard().counters.trains_received.read() == (offload ? 2 * shapes.size() : 0));
            // Of a foreign source: dropped, datagram by datagram.
            const Peer new_client{loopback(family)};
            client.send(rig.listener(), "who");
            const std::optional<Letter> letter = rig.next_letter(rig.upstream);
            REQUIRE(letter.has_value());
            new_client.send_train(letter->from, pattern(1037), 100);
            CHECK(rig.turns_until(
                [&] { return rig.counters().dropped(Drop::unlisted_source) == 11; }));
        }
    }
}

}  // namespace
}  // namespace udpproxy::contract
