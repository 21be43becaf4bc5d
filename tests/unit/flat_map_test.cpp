// FlatMap against std::unordered_map, with hashes from honest to hostile: all in one cell, all at
// the end of the table, tags that are equal.
#include "udpproxy/base/flat_map.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <unordered_map>
#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

using Hash = std::function<std::uint64_t(std::uint64_t key)>;

std::uint64_t mixed(std::uint64_t key) {  // splitmix64
    key += 0x9e3779b97f4a7c15;
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
    key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
    return key ^ (key >> 31);
}

/// A map and what it should be; the keys live beside the map, as they do in the session table.
class Model {
public:
    Model(std::size_t entries_max, Hash hash)
        : map_(entries_max), hash_(std::move(hash)), keys_(entries_max) {
        for (std::size_t index = entries_max; index > 0; --index)
            free_.push_back(static_cast<std::uint32_t>(index - 1));
    }

    [[nodiscard]] bool full() const { return free_.empty(); }
    [[nodiscard]] bool has(std::uint64_t key) const { return expected_.contains(key); }
    [[nodiscard]] const FlatMap& map() const { return map_; }

    void insert(std::uint64_t key) {
        const std::uint32_t index = free_.back();
        free_.pop_back();
        keys_[index] = key;
        map_.insert(hash_(key), index);
        expected_[key] = index;
    }

    void erase(std::uint64_t key) {
        const std::uint32_t index = expected_.at(key);
        map_.erase(hash_(key), index, [&](std::uint32_t other) { return hash_(keys_[other]); });
        expected_.erase(key);
        free_.push_back(index);
        std::shuffle(free_.begin() + static_cast<std::ptrdiff_t>(
                                         free_.size() - std::min<std::size_t>(free_.size(), 4)),
                     free_.end(), order_);
    }

    [[nodiscard]] bool agrees_on(std::uint64_t key) const {
        const auto found =
            map_.find(hash_(key), [&](std::uint32_t index) { return keys_[index] == key; });
        const auto wanted = expected_.find(key);
        return wanted == expected_.end() ? !found : found == wanted->second;
    }

    [[nodiscard]] bool agrees(std::uint64_t keys) const {
        if (map_.size() != expected_.size()) return false;
        for (std::uint64_t key = 0; key < keys; ++key) {
            if (!agrees_on(key)) return false;
        }
        return true;
    }

private:
    FlatMap map_;
    Hash hash_;
    std::vector<std::uint64_t> keys_;
    std::vector<std::uint32_t> free_;
    std::unordered_map<std::uint64_t, std::uint32_t> expected_;
    std::mt19937_64 order_{7};
};

void compare(std::size_t entries_max, std::uint64_t keys, const Hash& hash, int operations,
             std::uint64_t seed) {
    Model model(entries_max, hash);
    std::mt19937_64 random(seed);
    int met_full = 0;
    for (int step = 0; step < operations; ++step) {
        const std::uint64_t key = random() % keys;
        // Long phases of growth and of decay, so that the map is full and empty again and again.
        const bool growing = (step / static_cast<int>(4 * entries_max)) % 2 == 0;
        if (model.has(key)) {
            if (!growing || random() % 4 == 0) model.erase(key);
        } else if (model.full()) {
            ++met_full;
        } else if (growing || random() % 4 == 0) {
            model.insert(key);
        }
        REQUIRE(model.agrees_on(key));
        REQUIRE(model.agrees_on(random() % keys));
        if (step % 509 == 0) REQUIRE(model.agrees(keys));
    }
    CHECK(model.agrees(keys));
    CHECK(met_full > 0);
}

TEST_CASE(
    "a flat map does what std::unordered_map does, over 100000 random operations up to full load") {
    for (const std::uint64_t seed : {1U, 2U}) {
        CAPTURE(seed);
        compare(500, 1000, mixed, 100'000, seed);
    }
}

TEST_CASE("a peek tells where a search will look first, without comparing keys") {
    FlatMap map(16);
    constexpr std::uint64_t hash = 0x1234567800000003;
    CHECK_FALSE(map.peek(hash).has_value());
    map.insert(hash, 7);
    CHECK(map.peek(hash) == 7U);
    CHECK_FALSE(
        map.peek(hash ^ (std::uint64_t{1} << 40)).has_value());  // the same cell, another tag
    map.prefetch(hash);
}

TEST_CASE("a flat map at its full load keeps every entry of a run that wraps around the end") {
    // 32 entries in 64 cells; every home lies in the last three cells.
    compare(
        32, 96, [](std::uint64_t key) { return (mixed(key) << 32) | (61 + key % 3); }, 100'000, 3);
}

TEST_CASE("a flat map tells entries apart whose hashes are the same") {
    compare(
        16, 40, [](std::uint64_t) { return std::uint64_t{0x1234'5678'9abc'def0}; }, 20'000, 4);
}

TEST_CASE("a flat map tells entries apart whose hashes differ only in the bits it does not keep") {
    // The lowest bit of the upper half is lost to the mark of an occupied cell.
    compare(
        16, 40, [](std::uint64_t key) { return (key & 1) << 32; }, 20'000, 5);
    compare(
        16, 40, [](std::uint64_t key) { return (key & 3) << 60; }, 20'000, 6);
}

TEST_CASE("flat maps of every small size work up to their last entry") {
    for (std::size_t entries_max = 1; entries_max <= 17; ++entries_max) {
        CAPTURE(entries_max);
        compare(entries_max, 3 * entries_max, mixed, 2'000, entries_max);
        compare(
            entries_max, 3 * entries_max, [](std::uint64_t key) { return key << 32 | 0xffff'ffff; },
            2'000, entries_max);
    }
}

TEST_CASE("a miss in a full flat map ends") {
    FlatMap map(8);
    for (std::uint32_t index = 0; index < 8; ++index) map.insert(0, index);
    CHECK(map.size() == map.entries_max());
    int compared = 0;
    CHECK_FALSE(map.find(0, [&](std::uint32_t) { return ++compared < 0; }).has_value());
    CHECK(compared == 8);
}

TEST_CASE("the longest probe is remembered, and short for honest hashes at half load") {
    FlatMap map(1 << 14);
    CHECK(map.longest_probe() == 0);
    for (std::uint32_t index = 0; index < 1 << 14; ++index) map.insert(mixed(index), index);
    CHECK(map.longest_probe() > 1);
    CHECK(map.longest_probe() < 64);  // expected: about 20 at load 1/2

    FlatMap crowded(8);
    for (std::uint32_t index = 0; index < 8; ++index) crowded.insert(7, index);
    CHECK(crowded.longest_probe() == 8);
    crowded.erase(7, 3, [](std::uint32_t) { return std::uint64_t{7}; });
    CHECK(crowded.longest_probe() == 8);
}

TEST_CASE("probes do not grow with age") {
    Model model(1000, mixed);
    std::uint64_t next = 0;
    while (!model.full()) model.insert(next++);
    const std::size_t young = model.map().longest_probe();
    for (int round = 0; round < 50'000; ++round) {
        model.erase(next - 1000);
        model.insert(next++);
    }
    CHECK(model.map().longest_probe() <= young + 40);
}

TEST_CASE("a flat map asserts that it is not overfilled, and that what is erased is there") {
    FlatMap map(1);
    map.insert(5, 0);
    CHECK(breaks_a_law([&] { map.insert(6, 1); }));
    CHECK(breaks_a_law([&] { map.erase(5, 1, [](std::uint32_t) { return std::uint64_t{5}; }); }));
}

}  // namespace
}  // namespace udpproxy
