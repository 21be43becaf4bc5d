// Slab: what is handed out, in which order, and that nothing is handed out twice.
#include "udpproxy/base/slab.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

struct Item {
    std::uint64_t value = 42;
    std::uint32_t other = 7;
};

TEST_CASE("a slab hands out each of its places once, then nothing") {
    Slab<Item> slab(3);
    CHECK(slab.capacity() == 3);
    CHECK(slab.size() == 0);
    for (std::uint32_t index = 0; index < 3; ++index) {
        CHECK_FALSE(slab.is_live(index));
        CHECK(slab.acquire() == index);
        CHECK(slab.is_live(index));
    }
    CHECK(slab.full());
    CHECK_FALSE(slab.acquire().has_value());
    CHECK(slab.size() == 3);
    CHECK_FALSE(slab.is_live(3));
    CHECK_FALSE(slab.is_live(0xffffffff));
}

TEST_CASE("the place freed last is used first, and its item begins anew") {
    Slab<Item> slab(4);
    for (int i = 0; i < 4; ++i) slab[*slab.acquire()].value = 1;
    slab.release(1);
    slab.release(3);
    CHECK(slab.size() == 2);
    CHECK(slab.acquire() == 3);
    CHECK(slab[3].value == 42);
    CHECK(slab[3].other == 7);
    CHECK(slab.acquire() == 1);
    CHECK(slab.full());
    CHECK(slab[0].value == 1);
}

TEST_CASE("places that were never used stay untouched while freed ones suffice") {
    Slab<Item> slab(1U << 24);
    for (int i = 0; i < 1000; ++i) {
        const std::uint32_t index = *slab.acquire();
        slab.release(index);
    }
    CHECK(slab.high_water() == 1);
    CHECK(slab.size() == 0);
}

TEST_CASE("a slab keeps what was written over 100000 random acquisitions and releases") {
    constexpr std::uint32_t capacity = 64;
    Slab<Item> slab(capacity);
    std::map<std::uint32_t, std::uint64_t> expected;
    std::mt19937_64 random(11);
    for (int step = 0; step < 100'000; ++step) {
        const auto place = static_cast<std::uint32_t>(random() % capacity);
        if (random() % 2 == 0) {
            const auto index = slab.acquire();
            REQUIRE(index.has_value() == (expected.size() < capacity));
            if (index) {
                REQUIRE(slab[*index].value == 42);
                REQUIRE(expected.try_emplace(*index, step).second);
                slab[*index].value = static_cast<std::uint64_t>(step);
            }
        } else if (expected.erase(place) > 0) {
            slab.release(place);
        }
        REQUIRE(slab.size() == expected.size());
        REQUIRE(slab.is_live(place) == expected.contains(place));
        if (expected.contains(place)) REQUIRE(slab[place].value == expected[place]);
    }
}

TEST_CASE("a slab asserts that only live items are touched or released") {
    Slab<Item> slab(2);
    const std::uint32_t index = *slab.acquire();
    CHECK(breaks_a_law([&] { slab.release(1); }));
    CHECK(breaks_a_law([&] { slab.release(2); }));
    CHECK(breaks_a_law([&] { slab[1].value = 0; }));
    CHECK(breaks_a_law([&] {
        slab.release(index);
        slab.release(index);
    }));
    CHECK(slab.size() == 1);
}

}  // namespace
}  // namespace udpproxy
