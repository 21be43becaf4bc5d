// UnlistedSources: the first reply of a source is told at once, later ones are summed, and a flood
// of sources costs nothing but memory of old ones.
#include "udpproxy/shard/unlisted.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

Endpoint source(std::uint32_t number) { return {Address::ipv4(number), 0, 53}; }

TEST_CASE("the first reply of a source is told at once, the rest of the minute as one sum") {
    UnlistedSources sources;
    CHECK(sources.note(0, source(1), 1, Instant{100s}) == 1);
    for (int i = 0; i < 9; ++i) CHECK(sources.note(0, source(1), 1, Instant{101s}) == 0);
    CHECK(sources.note(0, source(1), 1, Instant{160s} - 1ns) == 0);
    CHECK(sources.note(0, source(1), 1, Instant{160s}) == 11);
    CHECK(sources.note(0, source(1), 1, Instant{161s}) == 0);
    CHECK(sources.note(0, source(1), 1, Instant{400s}) == 2);
}

TEST_CASE("a train counts as the datagrams that it is") {
    UnlistedSources sources;
    CHECK(sources.note(0, source(1), 5, Instant{100s}) == 5);
    CHECK(sources.note(0, source(1), 7, Instant{101s}) == 0);
    CHECK(sources.note(0, source(1), 3, Instant{160s}) == 10);
}

TEST_CASE("sources differ by address, port, interface and proxy") {
    UnlistedSources sources;
    CHECK(sources.note(0, source(1), 1, Instant{1s}) == 1);
    CHECK(sources.note(1, source(1), 1, Instant{1s}) == 1);
    CHECK(sources.note(0, source(2), 1, Instant{1s}) == 1);
    CHECK(sources.note(0, {Address::ipv4(1), 0, 54}, 1, Instant{1s}) == 1);
    CHECK(sources.note(0, {Address::ipv4(1), 3, 53}, 1, Instant{1s}) == 1);
    CHECK(sources.note(0, {Address{}, 0, 53}, 1, Instant{1s}) == 1);
    for (std::uint16_t proxy = 0; proxy < 2; ++proxy)
        CHECK(sources.note(proxy, source(1), 1, Instant{2s}) == 0);
}

TEST_CASE("when the table is full the source seen longest ago is forgotten") {
    UnlistedSources sources;
    for (std::uint32_t number = 0; number < 64; ++number)
        CHECK(sources.note(0, source(number), 1, Instant{1s * number}) == 1);
    CHECK(sources.note(0, source(0), 1, Instant{30s + 34s - 5s}) == 0);  // seen again
    CHECK(sources.note(0, source(64), 1, Instant{59s}) == 1);  // takes the place of number 1
    CHECK(sources.note(0, source(0), 1, Instant{59s}) == 0);
    for (std::uint32_t number = 2; number < 65; ++number)
        CHECK(sources.note(0, source(number), 1, Instant{59s + 1ms * number}) == 0);
    CHECK(sources.note(0, source(1), 1, Instant{59s + 500ms}) == 1);
}

TEST_CASE(
    "over 100000 random replies of at most 64 sources every datagram is told once, and no source "
    "more than once a minute") {
    UnlistedSources sources;
    struct Told {
        std::uint64_t noted = 0;
        std::uint64_t told = 0;
        Instant at{};
    };
    std::map<std::uint32_t, Told> expected;
    std::mt19937_64 random(37);
    Instant now{1000s};
    for (int event = 0; event < 100'000; ++event) {
        now += 1ms * (random() % 50);
        const auto number = static_cast<std::uint32_t>(random() % 64);
        const bool is_new = !expected.contains(number);
        Told& told = expected[number];
        ++told.noted;
        const std::uint64_t count =
            sources.note(static_cast<std::uint16_t>(number % 3), source(number), 1, now);
        if (is_new || now - told.at >= UnlistedSources::report_every) {
            REQUIRE(count == told.noted - told.told);
            told.told = told.noted;
            told.at = now;
        } else {
            REQUIRE(count == 0);
        }
    }
}

TEST_CASE("a flood of sources is told one by one and never holds up the table") {
    UnlistedSources sources;
    for (std::uint32_t number = 0; number < 10'000; ++number)
        REQUIRE(sources.note(0, source(number), 1, Instant{1s + 1us * number}) == 1);
}

}  // namespace
}  // namespace udpproxy
