// A batch of departures becomes sends: what leaves together, what does not, and nothing is lost,
// doubled or overtaken on its slot.
#include "io/departure_chains.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <vector>

#include "io/segment_limits.hpp"

namespace udpproxy {
namespace {

const Endpoint client{parse_address("192.0.2.1").value(), 0, 4000};

Departure departure(std::uint32_t slot, std::uint32_t bytes, std::uint32_t segment_bytes = 0) {
    Departure made;
    made.slot = Slot{slot};
    made.bytes = bytes;
    made.segment_bytes = segment_bytes;
    return made;
}

struct Cut {
    Slot slot;
    Sending sending;
};

std::vector<Cut> cut_all(DepartureChains& chains, const std::vector<Departure>& departures,
                         TrainLimits limits = {65507, 65535}) {
    chains.chain(departures);
    std::vector<Cut> cuts;
    for (const Slot slot : chains.slots()) {
        for (ChainWalk walk = chains.take(slot); !walk.is_over();)
            cuts.push_back(
                Cut{slot, chains.cut(departures, walk, [&](const Departure&) { return limits; })});
    }
    return cuts;
}

TEST_CASE("equal neighbours of one slot leave together, though others stand between them") {
    DepartureChains chains(16, 4);
    const std::vector<Departure> departures{departure(1, 100), departure(2, 100), departure(1, 100),
                                            departure(2, 90), departure(1, 30)};
    const std::vector<Cut> cuts = cut_all(chains, departures);
    REQUIRE(cuts.size() == 2);
    CHECK(cuts[0].slot == Slot{1});
    CHECK(cuts[0].sending.departures == 3);
    CHECK(cuts[0].sending.bytes == 230);
    CHECK(cuts[0].sending.segment_bytes == 100);
    CHECK(cuts[0].sending.datagrams() == 3);
    CHECK(cuts[1].sending.departures == 2);
    CHECK(chains.next(cuts[1].sending.first) == 3);
}

TEST_CASE("what differs in receiver, sender, interface or TOS does not leave together") {
    const auto differ = [](auto change) {
        DepartureChains chains(4, 4);
        std::vector<Departure> departures{departure(0, 100), departure(0, 100)};
        for (Departure& each : departures) each.to = client;
        CHECK(cut_all(chains, departures).size() == 1);
        change(departures[1]);
        CHECK(cut_all(chains, departures).size() == 2);
    };
    differ([](Departure& other) { other.to.port = 4001; });
    differ([](Departure& other) { other.to.address = parse_address("192.0.2.2").value(); });
    differ([](Departure& other) { other.to.scope = 2; });
    differ([](Departure& other) { other.from = parse_address("192.0.2.9").value(); });
    differ([](Departure& other) { other.interface_index = 3; });
    differ([](Departure& other) { other.tos = 1; });
    differ([](Departure& other) { other.bytes = 101; });
    differ([](Departure& other) { other.bytes = 0; });
}

TEST_CASE("a train longer than a send leaves in parts, and the next batch starts afresh") {
    DepartureChains chains(4, 4);
    const std::vector<Departure> departures{departure(0, 130 * 10 + 5, 10), departure(0, 10)};
    for (int round = 0; round < 2; ++round) {
        const std::vector<Cut> cuts = cut_all(chains, departures);
        REQUIRE(cuts.size() == 4);
        CHECK(cuts[0].sending.bytes == 640);
        CHECK(cuts[1].sending.offset == 640);
        CHECK(cuts[1].sending.bytes == 640);
        CHECK(cuts[2].sending.offset == 1280);
        CHECK(cuts[2].sending.bytes == 25);
        CHECK(cuts[2].sending.datagrams() == 3);
        CHECK(cuts[3].sending.first == 1);
    }
}

TEST_CASE("without trains on the path every segment leaves alone") {
    DepartureChains chains(4, 4);
    const std::vector<Departure> departures{departure(0, 250, 100), departure(0, 100),
                                            departure(0, 100)};
    const std::vector<Cut> cuts = cut_all(chains, departures, TrainLimits{65507, 0});
    REQUIRE(cuts.size() == 5);
    for (const Cut& cut : cuts) {
        CHECK_FALSE(cut.sending.is_train());
        CHECK(cut.sending.segment_bytes == 0);
    }
    CHECK(cuts[2].sending.bytes == 50);
}

TEST_CASE("in any batch each slot's payload leaves whole and in order") {
    std::mt19937 random(11);
    const auto draw = [&](std::uint32_t below) {
        return static_cast<std::uint32_t>(random() % below);
    };
    DepartureChains chains(256, 8);
    for (int round = 0; round < 500; ++round) {
        std::vector<Departure> departures;
        for (std::uint32_t i = 0; i < draw(256); ++i) {
            departures.push_back(draw(3) == 0
                                     ? departure(draw(8), 100 * (1 + draw(80)) + draw(100), 100)
                                     : departure(draw(8), draw(3) * 50));
            if (draw(2) == 0) departures.back().to = client;
        }
        // By slot: departure and offset that must come next.
        std::map<Slot, std::vector<std::pair<std::uint32_t, std::uint32_t>>> wanted;
        std::map<Slot, std::vector<std::pair<std::uint32_t, std::uint32_t>>> left;
        for (std::uint32_t i = 0; i < departures.size(); ++i) {
            for (std::uint32_t segment = 0; segment < departures[i].datagrams(); ++segment)
                wanted[departures[i].slot].emplace_back(i, segment * 100);
        }
        for (const Cut& cut : cut_all(chains, departures)) {
            std::uint32_t at = cut.sending.first;
            std::uint32_t bytes = 0;
            for (std::uint32_t i = 0; i < cut.sending.departures; ++i, at = chains.next(at)) {
                const Departure& whole = departures[at];
                const std::uint32_t length =
                    cut.sending.departures == 1 ? cut.sending.bytes : whole.bytes;
                for (std::uint32_t segment = 0; segment < segments_of(length, whole.segment_bytes);
                     ++segment)
                    left[cut.slot].emplace_back(at, cut.sending.offset + segment * 100);
                bytes += length;
            }
            REQUIRE(bytes == cut.sending.bytes);
        }
        REQUIRE(left == wanted);
    }
}

TEST_CASE("a path's limit is remembered for a minute, and only for that path") {
    using namespace std::chrono_literals;
    SegmentLimits limits;
    const Address here = parse_address("192.0.2.1").value();
    const Address there = parse_address("2001:db8::1").value();
    CHECK_FALSE(limits.find(Slot{1}, here, Instant{0s}).has_value());
    limits.learn(Slot{1}, here, 1300, Instant{10s});
    CHECK(limits.find(Slot{1}, here, Instant{69s}) == 1300);
    CHECK_FALSE(limits.find(Slot{1}, here, Instant{70s}).has_value());
    CHECK_FALSE(limits.find(Slot{2}, here, Instant{20s}).has_value());
    CHECK_FALSE(limits.find(Slot{1}, there, Instant{20s}).has_value());
    limits.learn(Slot{1}, here, 1200, Instant{20s});
    CHECK(limits.find(Slot{1}, here, Instant{79s}) == 1200);
    // Ten thousand others may push it out, but never change it.
    for (std::uint32_t i = 0; i < 10000; ++i)
        limits.learn(Slot{0}, Address::ipv4(i), i, Instant{20s});
    CHECK(limits.find(Slot{1}, here, Instant{30s}).value_or(1200) == 1200);
    CHECK(limits.find(Slot{0}, Address::ipv4(9999), Instant{30s}) == 9999);
}

}  // namespace
}  // namespace udpproxy
