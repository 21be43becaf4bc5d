// IndexList against std::list, over items that can be on several lists through different links.
#include "udpproxy/base/index_list.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <list>
#include <random>
#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

/// The indices from front to back, then checked from back to front by the links alone.
template <class Links>
std::list<std::uint32_t> walk(const IndexList& list, Links&& links) {
    std::list<std::uint32_t> found;
    std::uint32_t previous = no_index;
    for (std::uint32_t at = list.front(); at != no_index; at = links(at).next) {
        if (links(at).previous != previous || found.size() > list.size()) return {no_index};
        found.push_back(at);
        previous = at;
    }
    return found;
}

TEST_CASE("what joins at the front is the first to be found, and the rest keep their order") {
    std::vector<ListLinks> items(4);
    const auto links = [&](std::uint32_t index) -> ListLinks& { return items[index]; };
    IndexList list;
    list.push_front(2, links);
    list.push_back(3, links);
    list.push_front(1, links);
    CHECK(list.size() == 3);
    for (const std::uint32_t expected : {1U, 2U, 3U}) {
        CHECK(list.front() == expected);
        list.remove(list.front(), links);
    }
    CHECK(list.empty());
}

TEST_CASE("an index list is first in, first out") {
    std::array<ListLinks, 3> items{};
    const auto links = [&](std::uint32_t index) -> ListLinks& { return items[index]; };
    IndexList list;
    CHECK(list.empty());
    CHECK(list.front() == no_index);
    for (const std::uint32_t index : {2U, 0U, 1U}) list.push_back(index, links);
    CHECK(list.size() == 3);
    for (const std::uint32_t index : {2U, 0U, 1U}) {
        CHECK(list.front() == index);
        list.remove(index, links);
        CHECK(items[index].previous == no_index);
        CHECK(items[index].next == no_index);
    }
    CHECK(list.empty());
    CHECK(list.front() == no_index);
}

TEST_CASE(
    "index lists do what std::list does, over 100000 random joins and leaves on four lists at "
    "once") {
    constexpr std::uint32_t items_max = 40;
    constexpr std::size_t lists = 4;
    constexpr std::size_t nowhere = lists;
    std::vector<ListLinks> items(items_max);
    const auto links = [&](std::uint32_t index) -> ListLinks& { return items[index]; };
    std::array<IndexList, lists> real;
    std::array<std::list<std::uint32_t>, lists> expected;
    std::vector<std::size_t> whereabouts(items_max, nowhere);
    std::mt19937_64 random(13);
    for (int step = 0; step < 100'000; ++step) {
        const auto index = static_cast<std::uint32_t>(random() % items_max);
        std::size_t& place = whereabouts[index];
        if (place == nowhere) {
            place = random() % lists;
            real[place].push_back(index, links);
            expected[place].push_back(index);
        } else {
            real[place].remove(index, links);
            expected[place].remove(index);
            place = nowhere;
        }
        const std::size_t looked_at = random() % lists;
        REQUIRE(walk(real[looked_at], links) == expected[looked_at]);
        REQUIRE(real[looked_at].size() == expected[looked_at].size());
        REQUIRE(real[looked_at].empty() == expected[looked_at].empty());
    }
}

TEST_CASE("an index list asserts that nothing leaves it when it is empty") {
    std::array<ListLinks, 1> items{};
    IndexList list;
    CHECK(breaks_a_law(
        [&] { list.remove(0, [&](std::uint32_t index) -> ListLinks& { return items[index]; }); }));
}

}  // namespace
}  // namespace udpproxy
