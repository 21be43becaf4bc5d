// GroupPool: lending, resting and closing of reply groups, against a plain list of them. No sockets: slots are numbers here.
#include "udpproxy/session/group_pool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <set>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

constexpr Duration idle_after = 60s;

/// As the shard does it: closing begins, the last socket goes, the group is forgotten.
void close(GroupPool& pool, std::uint32_t index) {
    pool.begin_close(index);
    pool[index].members_open = 0;
    pool.forget(index);
}

TEST_CASE("a new group is lent to its session at once, in its lane's generation") {
    GroupPool pool(2, {10s, 10s});
    pool.outdate(1);
    const std::uint32_t group = pool.add(1, 77);
    CHECK(pool.is_live(group));
    CHECK(pool[group].state == GroupState::lent);
    CHECK(pool[group].session == 77);
    CHECK(pool[group].lane == 1);
    CHECK(pool[group].generation == 1);
    CHECK(pool.generation(0) == 0);
    CHECK(pool.size() == 1);
    CHECK(pool.resting() == 0);
    CHECK_FALSE(pool.full());
}

TEST_CASE("a group is lent again when its rest is over, not before") {
    GroupPool pool(2, {10s});
    const std::uint32_t group = pool.add(0, 1);
    pool.rest(group, Instant{100s});
    CHECK(pool[group].state == GroupState::resting);
    CHECK(pool[group].session == no_index);
    CHECK(pool.resting() == 1);
    CHECK_FALSE(pool.lend(0, 2, Instant{110s} - 1ns).has_value());
    CHECK(pool.lend(0, 2, Instant{110s}) == group);
    CHECK(pool[group].state == GroupState::lent);
    CHECK(pool[group].session == 2);
    CHECK(pool.resting() == 0);
    CHECK_FALSE(pool.lend(0, 3, Instant{1000s}).has_value());
}

TEST_CASE("the group that has rested longest is lent first, and never to another lane") {
    GroupPool pool(4, {0s, 0s});
    const std::uint32_t a = pool.add(0, 1);
    const std::uint32_t b = pool.add(0, 2);
    const std::uint32_t c = pool.add(1, 3);
    pool.rest(c, Instant{1s});
    pool.rest(b, Instant{2s});
    pool.rest(a, Instant{3s});
    CHECK(pool.lend(0, 4, Instant{3s}) == b);
    CHECK(pool.lend(0, 5, Instant{3s}) == a);
    CHECK_FALSE(pool.lend(0, 6, Instant{3s}).has_value());
    CHECK(pool.lend(1, 6, Instant{3s}) == c);
}

TEST_CASE("an outdated group is not lent and had better be closed; groups opened since are lent") {
    GroupPool pool(4, {10s});
    const std::uint32_t old = pool.add(0, 1);
    pool.rest(old, Instant{0s});
    pool.outdate(0);
    CHECK_FALSE(pool.lend(0, 2, Instant{1h}).has_value());
    CHECK(pool.surplus(Instant{0s}, idle_after) == old);
    CHECK(*pool.next_surplus(idle_after) <= Instant{0s});
    close(pool, old);
    const std::uint32_t fresh = pool.add(0, 2);
    pool.rest(fresh, Instant{0s});
    CHECK_FALSE(pool.surplus(Instant{10s}, idle_after).has_value());
    CHECK(pool.lend(0, 3, Instant{10s}) == fresh);
}

TEST_CASE("a group nobody wants becomes surplus some time after its rest") {
    GroupPool pool(4, {10s, 1s});
    CHECK_FALSE(pool.surplus(Instant{1h}, idle_after).has_value());
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    const std::uint32_t patient = pool.add(0, 1);
    const std::uint32_t hasty = pool.add(1, 2);
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    pool.rest(patient, Instant{100s});
    CHECK(pool.next_surplus(idle_after) == Instant{170s});
    pool.rest(hasty, Instant{105s});
    CHECK(pool.next_surplus(idle_after) == Instant{166s});
    CHECK_FALSE(pool.surplus(Instant{166s} - 1ns, idle_after).has_value());
    CHECK(pool.surplus(Instant{166s}, idle_after) == hasty);
    close(pool, hasty);
    CHECK_FALSE(pool.surplus(Instant{170s} - 1ns, idle_after).has_value());
    CHECK(pool.surplus(Instant{170s}, idle_after) == patient);
}

TEST_CASE("a group that nobody had before is lent at once, ahead of those that rest") {
    GroupPool pool(3, {10s});
    const std::uint32_t used = pool.add(0, 1);
    pool.rest(used, Instant{95s});
    const std::uint32_t fresh = pool.add(0, no_index);
    pool.rest_ready(fresh, Instant{100s});
    CHECK(pool.resting(0) == 2);
    CHECK(pool.oldest_resting() == fresh);
    CHECK(pool.lend(0, 2, Instant{100s}) == fresh);
    CHECK_FALSE(pool.lend(0, 3, Instant{100s}).has_value());
    CHECK(pool.lend(0, 3, Instant{105s}) == used);
}

TEST_CASE("of those that are kept none is surplus but an outdated one, and what is lacking is told") {
    GroupPool pool(4, {10s});
    pool.set_kept(0, 2);
    CHECK(pool.lacking(0) == 2);
    const std::uint32_t first = pool.add(0, no_index);
    pool.rest_ready(first, Instant{100s});
    CHECK(pool.lacking(0) == 1);
    pool.rest_ready(pool.add(0, no_index), Instant{100s});
    CHECK(pool.lacking(0) == 0);
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    CHECK_FALSE(pool.surplus(Instant{1000s}, idle_after).has_value());
    pool.rest(pool.add(0, 1), Instant{200s});
    CHECK(pool.lacking(0) == 0);
    REQUIRE(pool.surplus(Instant{1000s}, idle_after).has_value());
    close(pool, *pool.surplus(Instant{1000s}, idle_after));
    CHECK_FALSE(pool.surplus(Instant{1000s}, idle_after).has_value());
    pool.outdate(0);
    CHECK(pool.surplus(Instant{1000s}, idle_after).has_value());
}

TEST_CASE("when descriptors are short the group that has rested longest goes, of whatever lane and however long its rest") {
    GroupPool pool(4, {1h, 0s, 1h});
    CHECK_FALSE(pool.oldest_resting().has_value());
    const std::uint32_t a = pool.add(0, 1);
    const std::uint32_t b = pool.add(1, 2);
    const std::uint32_t c = pool.add(2, 3);
    CHECK_FALSE(pool.oldest_resting().has_value());
    pool.rest(c, Instant{1s});
    pool.rest(b, Instant{2s});
    pool.rest(a, Instant{3s});
    CHECK(pool.oldest_resting() == c);
    close(pool, c);
    CHECK(pool.oldest_resting() == b);
    CHECK(pool.lend(1, 4, Instant{3s}) == b);
    CHECK(pool.oldest_resting() == a);
}

TEST_CASE("a closing group belongs to nobody and makes room only when its last socket is gone") {
    GroupPool pool(1, {0s});
    const std::uint32_t group = pool.add(0, 1);
    pool[group].members = 3;
    CHECK(pool.full());
    pool.begin_close(group);
    CHECK(pool[group].state == GroupState::closing);
    CHECK(pool[group].session == no_index);
    CHECK(pool[group].members_open == 3);
    CHECK(pool.full());
    pool[group].members_open = 0;
    pool.forget(group);
    CHECK_FALSE(pool.is_live(group));
    CHECK(pool.size() == 0);
    CHECK(pool.add(0, 2) == group);
    CHECK(pool[group].members == 0);
}

TEST_CASE("a resting group that is closed is no longer lent, surplus or anybody's oldest") {
    GroupPool pool(2, {0s, 0s});
    const std::uint32_t group = pool.add(0, 1);
    pool.rest(group, Instant{0s});
    pool.begin_close(group);
    CHECK(pool.resting() == 0);
    CHECK_FALSE(pool.lend(0, 2, Instant{1h}).has_value());
    CHECK_FALSE(pool.surplus(Instant{1h}, 0s).has_value());
    CHECK_FALSE(pool.oldest_resting().has_value());
}

TEST_CASE("a group pool asserts the order of a group's life") {
    GroupPool pool(1, {0s});
    const std::uint32_t group = pool.add(0, 1);
    CHECK(breaks_a_law([&] { (void)pool.add(0, 2); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));
    pool[group].members = 1;
    pool.rest(group, Instant{0s});
    CHECK(breaks_a_law([&] { pool.rest(group, Instant{0s}); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));
    pool.begin_close(group);
    CHECK(breaks_a_law([&] { pool.begin_close(group); }));
    CHECK(breaks_a_law([&] { pool.rest(group, Instant{0s}); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));  // a socket is open
    pool[group].members_open = 0;
    pool.forget(group);
    CHECK(breaks_a_law([&] { pool.forget(group); }));
}

/// One lane as it should be.
struct ExpectedLane {
    std::uint32_t generation = 0;
    std::set<std::uint32_t> lent;
    struct Resting {
        std::uint32_t group = 0;
        Instant since;
        std::uint32_t generation = 0;
    };
    std::deque<Resting> resting;
};

TEST_CASE("over 100000 random events the pool lends, rests and gives up what a plain list would") {
    const std::vector<Duration> rests{0s, 1s, 10s};
    constexpr std::uint32_t groups_max = 60;
    GroupPool pool(groups_max, rests);
    std::vector<ExpectedLane> lanes(rests.size());
    std::set<std::uint32_t> closing;
    std::mt19937_64 random(31);
    Instant now{1000s};
    std::uint32_t next_session = 0;

    const auto began_to_close = [&](std::uint32_t group) {
        for (ExpectedLane& lane : lanes) {
            lane.lent.erase(group);
            std::erase_if(lane.resting, [&](const auto& resting) { return resting.group == group; });
        }
        closing.insert(group);
        pool.begin_close(group);
    };

    for (int event = 0; event < 100'000; ++event) {
        now += 1ms * (random() % 100);
        if (random() % 500 == 0) now += 100s;
        const auto lane_index = static_cast<PoolLane>(random() % lanes.size());
        ExpectedLane& lane = lanes[lane_index];
        switch (random() % 8) {
            case 0:
            case 1:
            case 2: {  // a newcomer: lend, else open
                const auto serves = std::find_if(lane.resting.begin(), lane.resting.end(), [&](const auto& resting) {
                    return resting.generation == lane.generation && now - resting.since >= rests[lane_index];
                });
                const auto lent = pool.lend(lane_index, ++next_session, now);
                if (lent) {
                    REQUIRE(serves != lane.resting.end());
                    REQUIRE(*lent == serves->group);
                    lane.resting.erase(serves);
                } else {
                    // Outdated groups hide those behind them until they are closed.
                    REQUIRE((serves == lane.resting.end() || lane.resting.front().generation != lane.generation));
                    if (pool.full()) break;
                }
                const std::uint32_t group = lent ? *lent : pool.add(lane_index, next_session);
                REQUIRE(lane.lent.insert(group).second);
                REQUIRE(pool[group].state == GroupState::lent);
                REQUIRE(pool[group].session == next_session);
                REQUIRE(pool[group].generation == lane.generation);
                break;
            }
            case 3:
            case 4: {  // a session ends
                if (lane.lent.empty()) break;
                const std::uint32_t group = *std::next(lane.lent.begin(), static_cast<std::ptrdiff_t>(random() % lane.lent.size()));
                if (pool[group].generation != lane.generation) {
                    began_to_close(group);
                } else {
                    pool.rest(group, now);
                    lane.lent.erase(group);
                    lane.resting.push_back({group, now, lane.generation});
                }
                break;
            }
            case 5: {  // closing comes to its end
                if (closing.empty()) break;
                const std::uint32_t group = *closing.begin();
                closing.erase(group);
                pool[group].members_open = 0;
                pool.forget(group);
                break;
            }
            case 6: {
                bool any = false;
                for (std::size_t i = 0; i < lanes.size(); ++i) {
                    for (const auto& resting : lanes[i].resting)
                        any = any || resting.generation != lanes[i].generation || now - resting.since >= rests[i] + idle_after;
                }
                const auto group = pool.surplus(now, idle_after);
                REQUIRE(group.has_value() == any);
                const auto next = pool.next_surplus(idle_after);
                REQUIRE(next.has_value() == (pool.resting() > 0));
                if (next) {
                    REQUIRE(pool.surplus(*next, idle_after).has_value());
                    REQUIRE((*next <= now) == any);
                }
                if (group) began_to_close(*group);
                break;
            }
            default: {
                if (random() % 50 == 0) {
                    pool.outdate(lane_index);
                    ++lane.generation;
                    REQUIRE(pool.generation(lane_index) == lane.generation);
                }
                Instant oldest = Instant::max();
                for (const ExpectedLane& each : lanes) {
                    if (!each.resting.empty()) oldest = std::min(oldest, each.resting.front().since);
                }
                const auto group = pool.oldest_resting();
                REQUIRE(group.has_value() == (oldest != Instant::max()));
                if (!group) break;
                REQUIRE(pool[*group].rests_since == oldest);
                if (random() % 20 == 0) began_to_close(*group);
                break;
            }
        }
        std::size_t lent = 0;
        std::size_t resting = 0;
        for (const ExpectedLane& each : lanes) {
            lent += each.lent.size();
            resting += each.resting.size();
        }
        REQUIRE(pool.resting() == resting);
        REQUIRE(pool.size() == lent + resting + closing.size());
        REQUIRE(pool.full() == (pool.size() == groups_max));
    }
}

}  // namespace
}  // namespace udpproxy
