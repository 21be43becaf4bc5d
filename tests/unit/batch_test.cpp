// Batch: a fixed array with a fill level.
#include "udpproxy/base/batch.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

TEST_CASE("a batch takes as many items as it has room for and gives them back in order") {
    Batch<int> batch(4);
    CHECK(batch.empty());
    CHECK(batch.room() == 4);
    batch.push(3);
    batch.push(1);
    batch.append() = 2;
    CHECK(batch.size() == 3);
    CHECK(batch.room() == 1);
    CHECK_FALSE(batch.full());
    batch.push(5);
    CHECK(batch.full());
    CHECK(batch.capacity() == 4);
    CHECK(std::vector<int>(batch.begin(), batch.end()) == std::vector<int>{3, 1, 2, 5});
    batch[1] = 9;
    const Batch<int>& seen = batch;
    CHECK(seen[1] == 9);
    CHECK(std::vector<int>(seen.begin(), seen.end()) == std::vector<int>{3, 9, 2, 5});
}

TEST_CASE("a truncated batch keeps its first items, a cleared one none") {
    Batch<int> batch(4);
    for (int i = 0; i < 4; ++i) batch.push(i);
    batch.truncate(4);
    CHECK(batch.full());
    batch.truncate(2);
    CHECK(std::vector<int>(batch.begin(), batch.end()) == std::vector<int>{0, 1});
    batch.clear();
    CHECK(batch.empty());
    CHECK(batch.begin() == batch.end());
}

TEST_CASE("a batch that is filled and cleared again does not move") {
    Batch<int> batch(3);
    const int* const memory = batch.begin();
    for (int turn = 0; turn < 100; ++turn) {
        while (!batch.full()) batch.push(turn);
        CHECK(batch.begin() == memory);
        batch.clear();
    }
}

TEST_CASE("a batch of nothing is both empty and full") {
    const Batch<int> batch(0);
    CHECK(batch.empty());
    CHECK(batch.full());
    CHECK(batch.room() == 0);
}

TEST_CASE("a batch asserts its bounds") {
    Batch<int> batch(1);
    CHECK(breaks_a_law([&] { batch[0] = 1; }));
    CHECK(breaks_a_law([&] { batch.truncate(1); }));
    batch.push(1);
    CHECK(breaks_a_law([&] { batch.push(2); }));
    CHECK(breaks_a_law([&] { batch[1] = 1; }));
}

}  // namespace
}  // namespace udpproxy
