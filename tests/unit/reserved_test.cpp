// Reserved: zeroed address space that costs no memory until it is touched.
#include "udpproxy/base/reserved.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace udpproxy {
namespace {

std::size_t pages_in_memory(Reserved<std::uint64_t>& array) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t bytes = array.size() * sizeof(std::uint64_t);
    std::vector<unsigned char> pages((bytes + page - 1) / page);
    REQUIRE(::mincore(&array[0], bytes, pages.data()) == 0);
    std::size_t count = 0;
    for (const unsigned char state : pages) count += state & 1U;
    return count;
}

TEST_CASE("reserved items are zero, and become memory page by page where they are touched") {
    Reserved<std::uint64_t> array(1U << 20);
    CHECK(array.size() == 1U << 20);
    CHECK(pages_in_memory(array) == 0);
    array[1U << 19] = 7;
    CHECK(array[1U << 19] == 7);
    CHECK(array[(1U << 19) + 1] == 0);
    CHECK(pages_in_memory(array) == 1);
}

TEST_CASE("an array moves whole, and none has no memory") {
    Reserved<std::uint32_t> one(10);
    one[9] = 5;
    const Reserved<std::uint32_t> other(std::move(one));
    CHECK(other.size() == 10);
    CHECK(other[9] == 5);
    CHECK(Reserved<std::uint32_t>(0).size() == 0);
}

TEST_CASE("what cannot be reserved throws, and can be asked for before") {
    CHECK(can_reserve(1U << 20));
    CHECK_FALSE(can_reserve(std::size_t{1} << 60));
    CHECK_THROWS_AS(Reserved<std::uint64_t>{std::size_t{1} << 57}, std::bad_alloc);
    CHECK_THROWS_AS(Reserved<std::uint64_t>{~std::size_t{0}}, std::bad_alloc);
}

}  // namespace
}  // namespace udpproxy
