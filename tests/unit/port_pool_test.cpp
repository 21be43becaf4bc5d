// PortPool: order, cooldown, shards' shares and overlapping ranges, against a plain table of ports.
#include "udpproxy/session/port_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

PortPool pool_of(std::vector<PortRange> ranges, std::uint32_t shard = 0, std::uint32_t shards = 1) {
    return PortPool(ranges, shard, shards);
}

std::vector<std::uint16_t> lease_all(PortPool& pool, std::size_t range, Instant now) {
    std::vector<std::uint16_t> ports;
    while (const auto port = pool.lease(range, now)) ports.push_back(*port);
    return ports;
}

TEST_CASE("every port of the range is leased once, in order, then none") {
    PortPool pool = pool_of({{1000, 1003}});
    CHECK(lease_all(pool, 0, Instant{}) == std::vector<std::uint16_t>{1000, 1001, 1002, 1003});
    CHECK(pool.leased() == 4);
    CHECK_FALSE(pool.lease(0, Instant::max()).has_value());
}

TEST_CASE("reserved ports are left out of a range that spares them, and of no other") {
    const std::vector<PortRange> ranges{{1000, 1005, true}, {1000, 1005}};
    const std::vector<PortRange> reserved{{900, 1000}, {1002, 1003}, {1005, 2000}};
    PortPool pool(ranges, 0, 1, 0, reserved);
    CHECK(pool.ports(0) == 2);
    CHECK(pool.ports(1) == 6);
    CHECK(usable_ports(ranges[0], reserved) == 2);
    CHECK(usable_ports(ranges[1], reserved) == 6);
    CHECK(lease_all(pool, 0, Instant{}) == std::vector<std::uint16_t>{1001, 1004});
    CHECK(lease_all(pool, 1, Instant{}) == std::vector<std::uint16_t>{1000, 1002, 1003, 1005});
    pool.release(1003, Instant{});
    pool.release(1004, Instant{});
    CHECK(lease_all(pool, 0, Instant{}) == std::vector<std::uint16_t>{1004});

    // A session stays on a port that was reserved after it had begun.
    PortPool next(ranges, 0, 1, 0, std::vector<PortRange>{{1001, 1001}});
    next.take_over(pool);
    next.release(1001, Instant{});
    CHECK(lease_all(next, 0, Instant{}) == std::vector<std::uint16_t>{1003});
    CHECK(lease_all(next, 1, Instant{}) == std::vector<std::uint16_t>{1001});
}

TEST_CASE("a port that was given back is leased after all that were given back before it") {
    PortPool pool = pool_of({{1000, 1003}});
    (void)lease_all(pool, 0, Instant{});
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{1002, 1000, 1003})
        pool.release(port, Instant{1s});
    CHECK(pool.leased() == 1);
    CHECK(lease_all(pool, 0, Instant{1s}) == std::vector<std::uint16_t>{1002, 1000, 1003});
}

TEST_CASE("no session gets a port before its cooldown is over") {
    PortPool pool = pool_of({{1000, 1001}});
    (void)lease_all(pool, 0, Instant{});
    pool.release(1001, Instant{10s});
    pool.release(1000, Instant{12s});
    CHECK_FALSE(pool.lease(0, Instant{10s} - 1ns).has_value());
    CHECK(pool.lease(0, Instant{10s}) == 1001);
    CHECK_FALSE(pool.lease(0, Instant{12s} - 1ns).has_value());
    CHECK(pool.lease(0, Instant{12s}) == 1000);
}

TEST_CASE("the shares of the shards are disjoint and cover the range") {
    for (const std::uint32_t shards : {1U, 2U, 3U, 7U, 64U}) {
        for (const PortRange range : {PortRange{1, 65535}, PortRange{32768, 60999},
                                      PortRange{65535, 65535}, PortRange{1, 1}}) {
            CAPTURE(shards);
            std::set<std::uint16_t> seen;
            for (std::uint32_t shard = 0; shard < shards; ++shard) {
                PortPool pool = pool_of({range}, shard, shards);
                for (const std::uint16_t port : lease_all(pool, 0, Instant{})) {
                    REQUIRE(port >= range.first);
                    REQUIRE(port <= range.last);
                    REQUIRE(port % shards == shard);
                    REQUIRE(seen.insert(port).second);
                }
            }
            CHECK(seen.size() == range.ports());
        }
    }
}

TEST_CASE(
    "overlapping ranges never lease one port twice, whichever proxy asks and however they are "
    "nested") {
    const std::vector<std::vector<PortRange>> arrangements{
        {{100, 199}, {150, 249}},              // crossing
        {{100, 199}, {140, 149}},              // nested
        {{100, 199}, {100, 199}},              // the same
        {{100, 199}, {200, 299}},              // neighbours
        {{100, 199}, {300, 399}},              // apart
        {{1, 65535}, {65535, 65535}, {1, 1}},  // the ends of the port space
        {{100, 150}, {120, 180}, {140, 200}, {100, 200}, {130, 130}},
    };
    for (const auto& ranges : arrangements) {
        CAPTURE(&ranges - arrangements.data());
        std::set<std::uint16_t> all;
        for (const PortRange& range : ranges) {
            for (std::uint32_t port = range.first; port <= range.last; ++port)
                all.insert(static_cast<std::uint16_t>(port));
        }
        PortPool pool(ranges, 0, 1);
        std::set<std::uint16_t> seen;
        // In turn, so that every proxy takes from the shared stretches; then each to the end.
        for (int round = 0; round < 10; ++round) {
            for (std::size_t range = 0; range < ranges.size(); ++range) {
                const auto port = pool.lease(range, Instant{});
                if (!port) continue;
                REQUIRE(ranges[range].first <= *port);
                REQUIRE(*port <= ranges[range].last);
                REQUIRE(seen.insert(*port).second);
            }
        }
        for (std::size_t range = 0; range < ranges.size(); ++range) {
            for (const std::uint16_t port : lease_all(pool, range, Instant{}))
                REQUIRE(seen.insert(port).second);
        }
        CHECK(seen == all);
        CHECK(pool.leased() == all.size());
    }
}

/// Leases and releases at random. With one cooldown for all, the pool must lease the port whose
/// cooldown is over first; with different cooldowns it must only be safe.
void compare(std::uint64_t seed, const std::vector<PortRange>& ranges, std::uint32_t shards,
             const std::vector<Duration>& cooldowns) {
    std::mt19937_64 random(seed);
    const auto shard = static_cast<std::uint32_t>(random() % shards);
    PortPool pool(ranges, shard, shards);
    std::map<std::uint16_t, Instant> cooling;
    for (const PortRange& range : ranges) {
        for (std::uint32_t port = range.first; port <= range.last; ++port) {
            if (port % shards == shard) cooling[static_cast<std::uint16_t>(port)] = Instant::min();
        }
    }
    std::vector<std::uint16_t> leased;
    Instant now{1000s};
    for (int step = 0; step < 20'000; ++step) {
        now += 1ms * (random() % 20);
        if (random() % 100 == 0) now += 1s;
        const bool growing = (step / 400) % 2 == 0;
        if (random() % 4 < (growing ? 3U : 1U)) {
            const std::size_t range = random() % ranges.size();
            Instant first_over = Instant::max();
            for (auto at = cooling.lower_bound(ranges[range].first);
                 at != cooling.end() && at->first <= ranges[range].last; ++at)
                first_over = std::min(first_over, at->second);
            const auto port = pool.lease(range, now);
            if (port) {
                REQUIRE(ranges[range].first <= *port);
                REQUIRE(*port <= ranges[range].last);
                REQUIRE(cooling.contains(*port));
                REQUIRE(cooling[*port] <= now);
                if (cooldowns.size() == 1) REQUIRE(cooling[*port] == first_over);
                cooling.erase(*port);
                leased.push_back(*port);
            } else if (cooldowns.size() == 1) {
                REQUIRE(first_over > now);
            }
        } else if (!leased.empty()) {
            std::swap(leased[random() % leased.size()], leased.back());
            const Instant until = now + cooldowns[random() % cooldowns.size()];
            pool.release(leased.back(), until);
            cooling[leased.back()] = until;
            leased.pop_back();
        }
        REQUIRE(pool.leased() == leased.size());
    }
}

TEST_CASE(
    "over random leases and releases a port is leased once, after its cooldown, and the one that "
    "cooled down longest first") {
    const std::vector<PortRange> crossing{{100, 150}, {120, 180}, {140, 200}, {300, 301}};
    compare(1, {{1000, 1063}}, 1, {500ms});
    compare(2, crossing, 1, {300ms});
    compare(3, crossing, 4, {100ms});
    compare(4, crossing, 1, {Duration{0}});
}

TEST_CASE(
    "proxies that share ports may ask for different cooldowns, and each port keeps the one it was "
    "given") {
    const std::vector<PortRange> crossing{{100, 150}, {120, 180}, {100, 180}};
    compare(5, crossing, 1, {Duration{0}, 200ms, 1s});
    compare(6, crossing, 3, {Duration{0}, 5s});
}

TEST_CASE("a shard that has no share of a range gets nothing from it") {
    PortPool pool = pool_of({{10, 11}, {13, 13}}, 1, 4);
    CHECK_FALSE(pool.lease(0, Instant{}).has_value());
    CHECK(pool.lease(1, Instant{}) == 13);
}

TEST_CASE("a port pool asserts that only leased ports are given back") {
    PortPool pool = pool_of({{1000, 1001}});
    CHECK(breaks_a_law([&] { pool.release(1000, Instant{}); }));
    CHECK(breaks_a_law([&] { pool.release(999, Instant{}); }));
    CHECK(breaks_a_law([&] { pool.release(1002, Instant{}); }));
    (void)pool.lease(0, Instant{});
    CHECK(breaks_a_law([&] {
        pool.release(1000, Instant{});
        pool.release(1000, Instant{});
    }));
}

TEST_CASE(
    "a pool that replaces another goes on with its leases and cooldowns, and has the new range's "
    "ports free") {
    const PortRange first{1000, 1009};
    PortPool old(std::vector{first}, 0, 1);
    const Instant now{std::chrono::seconds{100}};
    std::set<std::uint16_t> leased;
    for (int i = 0; i < 6; ++i) leased.insert(old.lease(0, now).value());
    const std::vector<std::uint16_t> cooling{*leased.begin(), *std::next(leased.begin())};
    for (const std::uint16_t port : cooling) {
        leased.erase(port);
        old.release(port, now + std::chrono::seconds{10});
    }
    PortPool pool(std::vector{first, PortRange{1005, 1014}}, 0, 1, 7);
    pool.take_over(old);
    CHECK(pool.leased() == 4);
    std::set<std::uint16_t> got;
    while (const auto port = pool.lease(0, now)) {
        CHECK(first.first <= *port);
        CHECK(*port <= first.last);
        CHECK_FALSE(leased.contains(*port));
        CHECK(std::find(cooling.begin(), cooling.end(), *port) == cooling.end());
        got.insert(*port);
    }
    CHECK(got.size() == 4);
    while (const auto port = pool.lease(1, now)) got.insert(*port);
    CHECK(got.size() == 9);  // 1010 to 1014 as well
    const Instant later = now + std::chrono::seconds{10};
    CHECK(pool.lease(0, later) == cooling[0]);
    CHECK(pool.lease(0, later) == cooling[1]);
    CHECK_FALSE(pool.lease(0, later).has_value());
    for (const std::uint16_t port : leased) pool.release(port, later);
    CHECK(pool.leased() == 11);
}

TEST_CASE("a pool that replaces another may leave out a range that no proxy uses any more") {
    const Instant now{std::chrono::seconds{100}};
    const Instant later = now + std::chrono::seconds{10};
    PortPool old(std::vector{PortRange{1000, 1003}, PortRange{1002, 1009}}, 0, 1);
    const std::uint16_t leased = old.lease(0, now).value();
    const std::uint16_t cooling = old.lease(0, now).value();
    CHECK(leased == 1000);
    CHECK(cooling == 1001);
    old.release(cooling, later);
    PortPool pool(std::vector{PortRange{1000, 1003}, PortRange{1003, 1005}}, 0, 1);
    pool.take_over(old);
    CHECK(pool.leased() == 1);
    std::set<std::uint16_t> got;
    while (const auto port = pool.lease(0, now)) got.insert(*port);
    CHECK(got == std::set<std::uint16_t>{1002, 1003});
    got.clear();
    while (const auto port = pool.lease(1, now)) got.insert(*port);
    CHECK(got == std::set<std::uint16_t>{1004, 1005});
    CHECK(pool.lease(0, later) == cooling);
    pool.release(leased, later);
    CHECK(pool.leased() == 5);
}

}  // namespace
}  // namespace udpproxy
