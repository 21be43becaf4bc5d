// BufferPool: which holder has a buffer, where it lies, and that it is released once.
#include "udpproxy/io/buffer_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

TEST_CASE("a buffer has one holder at a time, and the one released last is acquired first") {
    Result<BufferPool> created = BufferPool::create(4, 2048);
    REQUIRE(created);
    BufferPool pool = *std::move(created);
    CHECK(pool.count() == 4);
    std::set<std::uint32_t> out;
    while (pool.available() > 0) CHECK(out.insert(pool.acquire()).second);
    CHECK(out == std::set<std::uint32_t>{0, 1, 2, 3});
    pool.release(2);
    pool.release(0);
    CHECK(pool.available() == 2);
    CHECK(pool.acquire() == 0);
    CHECK(pool.acquire() == 2);
}

TEST_CASE(
    "buffers are as long as asked, lie an odd number of cache lines apart and do not overlap") {
    for (const std::size_t bytes : {1U, 64U, 65U, 2048U, 65535U, 65536U}) {
        CAPTURE(bytes);
        Result<BufferPool> created = BufferPool::create(8, bytes);
        REQUIRE(created);
        const BufferPool& pool = *created;
        CHECK(pool.stride_bytes() >= bytes);
        CHECK(pool.stride_bytes() < bytes + 128);
        CHECK(pool.stride_bytes() % 128 == 64);
        for (std::uint32_t index = 0; index < 8; ++index)
            std::memset(pool.at(index), static_cast<int>(index), bytes);
        for (std::uint32_t index = 0; index < 8; ++index) {
            CHECK(pool.at(index)[0] == std::byte(index));
            CHECK(pool.at(index)[bytes - 1] == std::byte(index));
        }
    }
}

TEST_CASE("over 10000 random steps every buffer is available or with one holder") {
    BufferPool pool = *BufferPool::create(32, 64);
    std::vector<std::uint32_t> held;
    std::mt19937_64 random(19);
    for (int step = 0; step < 10'000; ++step) {
        if (random() % 2 == 0 && pool.available() > 0) {
            const std::uint32_t index = pool.acquire();
            REQUIRE(std::find(held.begin(), held.end(), index) == held.end());
            held.push_back(index);
        } else if (!held.empty()) {
            const std::size_t at = random() % held.size();
            pool.release(held[at]);
            held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
        }
        REQUIRE(pool.available() + held.size() == pool.count());
    }
}

TEST_CASE(
    "a buffer pool asserts that a buffer is released once, and none is acquired when all are out") {
    BufferPool pool = *BufferPool::create(2, 64);
    const std::uint32_t index = pool.acquire();
    CHECK(breaks_a_law([&] {
        pool.release(index);
        pool.release(index);
    }));
    CHECK(breaks_a_law([&] { pool.release(1 - index); }));
    CHECK(breaks_a_law([&] { pool.release(2); }));
    (void)pool.acquire();
    CHECK(breaks_a_law([&] { (void)pool.acquire(); }));
}

}  // namespace
}  // namespace udpproxy
