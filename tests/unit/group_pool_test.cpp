// GroupPool: acquiring, cooling and closing of reply groups, against a plain list of them. No
// sockets: slots are numbers here.
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
    pool.begin_close(index, Instant{});
    pool[index].members_open = 0;
    pool.forget(index);
}

TEST_CASE("a new group belongs to its session at once, in its source binding's generation") {
    GroupPool pool(2, {10s, 10s});
    pool.outdate(1);
    const std::uint32_t group = pool.add(1, 77);
    CHECK(pool.is_live(group));
    CHECK(pool[group].state == GroupState::in_use);
    CHECK(pool[group].session == 77);
    CHECK(pool[group].binding == 1);
    CHECK(pool[group].generation == 1);
    CHECK(pool.generation(0) == 0);
    CHECK(pool.size() == 1);
    CHECK(pool.cooling() == 0);
    CHECK_FALSE(pool.full());
}

TEST_CASE("a group is acquired again when its cooldown is over, not before") {
    GroupPool pool(2, {10s});
    const std::uint32_t group = pool.add(0, 1);
    pool.cooldown(group, Instant{100s});
    CHECK(pool[group].state == GroupState::cooling);
    CHECK(pool[group].session == no_index);
    CHECK(pool.cooling() == 1);
    CHECK_FALSE(pool.acquire(0, 2, Instant{110s} - 1ns).has_value());
    CHECK(pool.acquire(0, 2, Instant{110s}) == group);
    CHECK(pool[group].state == GroupState::in_use);
    CHECK(pool[group].session == 2);
    CHECK(pool.cooling() == 0);
    CHECK_FALSE(pool.acquire(0, 3, Instant{1000s}).has_value());
}

TEST_CASE(
    "the group that has cooled down longest is acquired first, and never for another source "
    "binding") {
    GroupPool pool(4, {0s, 0s});
    const std::uint32_t a = pool.add(0, 1);
    const std::uint32_t b = pool.add(0, 2);
    const std::uint32_t c = pool.add(1, 3);
    pool.cooldown(c, Instant{1s});
    pool.cooldown(b, Instant{2s});
    pool.cooldown(a, Instant{3s});
    CHECK(pool.acquire(0, 4, Instant{3s}) == b);
    CHECK(pool.acquire(0, 5, Instant{3s}) == a);
    CHECK_FALSE(pool.acquire(0, 6, Instant{3s}).has_value());
    CHECK(pool.acquire(1, 6, Instant{3s}) == c);
}

TEST_CASE(
    "an outdated group is never acquired and is surplus at once; groups opened since are "
    "acquired") {
    GroupPool pool(4, {10s});
    const std::uint32_t old = pool.add(0, 1);
    pool.cooldown(old, Instant{0s});
    pool.outdate(0);
    CHECK_FALSE(pool.acquire(0, 2, Instant{1h}).has_value());
    CHECK(pool.surplus(Instant{0s}, idle_after) == old);
    CHECK(*pool.next_surplus(idle_after) <= Instant{0s});
    close(pool, old);
    const std::uint32_t fresh = pool.add(0, 2);
    pool.cooldown(fresh, Instant{0s});
    CHECK_FALSE(pool.surplus(Instant{10s}, idle_after).has_value());
    CHECK(pool.acquire(0, 3, Instant{10s}) == fresh);
}

TEST_CASE("a group that is not acquired becomes surplus some time after its cooldown") {
    GroupPool pool(4, {10s, 1s});
    CHECK_FALSE(pool.surplus(Instant{1h}, idle_after).has_value());
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    const std::uint32_t slow = pool.add(0, 1);
    const std::uint32_t hasty = pool.add(1, 2);
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    pool.cooldown(slow, Instant{100s});
    CHECK(pool.next_surplus(idle_after) == Instant{170s});
    pool.cooldown(hasty, Instant{105s});
    CHECK(pool.next_surplus(idle_after) == Instant{166s});
    CHECK_FALSE(pool.surplus(Instant{166s} - 1ns, idle_after).has_value());
    CHECK(pool.surplus(Instant{166s}, idle_after) == hasty);
    close(pool, hasty);
    CHECK_FALSE(pool.surplus(Instant{170s} - 1ns, idle_after).has_value());
    CHECK(pool.surplus(Instant{170s}, idle_after) == slow);
}

TEST_CASE("a group that no session has used is acquired at once, ahead of those that cool down") {
    GroupPool pool(3, {10s});
    const std::uint32_t used = pool.add(0, 1);
    pool.cooldown(used, Instant{95s});
    const std::uint32_t fresh = pool.add(0, no_index);
    pool.add_ready(fresh, Instant{100s});
    CHECK(pool.cooling(0) == 2);
    CHECK(pool.oldest_cooling() == fresh);
    CHECK(pool.acquire(0, 2, Instant{100s}) == fresh);
    CHECK_FALSE(pool.acquire(0, 3, Instant{100s}).has_value());
    CHECK(pool.acquire(0, 3, Instant{105s}) == used);
}

TEST_CASE(
    "of the groups that are kept only an outdated one is surplus, and the pool says how many are "
    "lacking") {
    GroupPool pool(4, {10s});
    pool.set_kept(0, 2);
    CHECK(pool.lacking(0) == 2);
    const std::uint32_t first = pool.add(0, no_index);
    pool.add_ready(first, Instant{100s});
    CHECK(pool.lacking(0) == 1);
    pool.add_ready(pool.add(0, no_index), Instant{100s});
    CHECK(pool.lacking(0) == 0);
    CHECK_FALSE(pool.next_surplus(idle_after).has_value());
    CHECK_FALSE(pool.surplus(Instant{1000s}, idle_after).has_value());
    pool.cooldown(pool.add(0, 1), Instant{200s});
    CHECK(pool.lacking(0) == 0);
    REQUIRE(pool.surplus(Instant{1000s}, idle_after).has_value());
    close(pool, *pool.surplus(Instant{1000s}, idle_after));
    CHECK_FALSE(pool.surplus(Instant{1000s}, idle_after).has_value());
    pool.outdate(0);
    CHECK(pool.surplus(Instant{1000s}, idle_after).has_value());
}

TEST_CASE(
    "when descriptors are short the group that has cooled down longest goes, whatever its source "
    "binding and cooldown") {
    GroupPool pool(4, {1h, 0s, 1h});
    CHECK_FALSE(pool.oldest_cooling().has_value());
    const std::uint32_t a = pool.add(0, 1);
    const std::uint32_t b = pool.add(1, 2);
    const std::uint32_t c = pool.add(2, 3);
    CHECK_FALSE(pool.oldest_cooling().has_value());
    pool.cooldown(c, Instant{1s});
    pool.cooldown(b, Instant{2s});
    pool.cooldown(a, Instant{3s});
    CHECK(pool.oldest_cooling() == c);
    close(pool, c);
    CHECK(pool.oldest_cooling() == b);
    CHECK(pool.acquire(1, 4, Instant{3s}) == b);
    CHECK(pool.oldest_cooling() == a);
}

TEST_CASE(
    "a closing group belongs to no session, and its place is free only when its last socket is "
    "gone") {
    GroupPool pool(1, {0s});
    const std::uint32_t group = pool.add(0, 1);
    pool[group].members = 3;
    CHECK(pool.full());
    pool.begin_close(group, Instant{0s});
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

TEST_CASE("the next surplus is told anew after whatever changes it") {
    GroupPool pool(4, {10s});
    CHECK_FALSE(pool.next_surplus(60s).has_value());
    pool.add_ready(pool.add(0, 1), Instant{20s});
    CHECK(pool.next_surplus(60s) == Instant{80s});
    CHECK(pool.next_surplus(30s) == Instant{50s});
    pool.set_cooldown(0, 20s);
    CHECK(pool.next_surplus(30s) == Instant{60s});
    pool.set_kept(0, 1);
    CHECK_FALSE(pool.next_surplus(30s).has_value());
    pool.outdate(0);
    CHECK(pool.next_surplus(30s) == Instant{10s});
}

TEST_CASE("a group of another version is surplus though nothing was before") {
    GroupPool pool(4, {10s});
    pool.set_kept(0, 1);
    pool.cooldown(pool.add(0, 1), Instant{20s});
    CHECK_FALSE(pool.next_surplus(60s).has_value());
    const Upstream upstream{*parse_endpoint("10.0.0.254:53")};
    pool.set_upstream(0, &upstream);
    CHECK(pool.next_surplus(60s) == Instant{20s});
}

TEST_CASE("a cooling group that begins to close is no longer acquired, surplus or the oldest") {
    GroupPool pool(2, {0s, 0s});
    const std::uint32_t group = pool.add(0, 1);
    pool.cooldown(group, Instant{0s});
    pool.begin_close(group, Instant{0s});
    CHECK(pool.cooling() == 0);
    CHECK_FALSE(pool.acquire(0, 2, Instant{1h}).has_value());
    CHECK_FALSE(pool.surplus(Instant{1h}, 0s).has_value());
    CHECK_FALSE(pool.oldest_cooling().has_value());
}

TEST_CASE("a closing group frees its port if that has cooled down, until its last socket is gone") {
    GroupPool pool(2, {10s, 0s});
    for (const auto closed_at : {Instant{9s}, Instant{10s}}) {
        const std::uint32_t group = pool.add(0, 1);
        pool.cooldown(group, Instant{0s});
        pool.begin_close(group, closed_at);
        CHECK(pool.frees_port(0) == (closed_at == Instant{10s}));
        CHECK_FALSE(pool.frees_port(1));
        pool.forget(group);
        CHECK_FALSE(pool.frees_port(0));
    }
    // In use until now: the cooldown has yet to begin, if there is one.
    const std::uint32_t with_cooldown = pool.add(0, 1);
    pool.begin_close(with_cooldown, Instant{1h});
    CHECK_FALSE(pool.frees_port(0));
    const std::uint32_t without = pool.add(1, 2);
    pool.begin_close(without, Instant{1h});
    CHECK(pool.frees_port(1));
}

TEST_CASE("a group pool asserts the order of a group's life") {
    GroupPool pool(1, {0s});
    const std::uint32_t group = pool.add(0, 1);
    CHECK(breaks_a_law([&] { (void)pool.add(0, 2); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));
    pool[group].members = 1;
    pool.cooldown(group, Instant{0s});
    CHECK(breaks_a_law([&] { pool.cooldown(group, Instant{0s}); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));
    pool.begin_close(group, Instant{0s});
    CHECK(breaks_a_law([&] { pool.begin_close(group, Instant{0s}); }));
    CHECK(breaks_a_law([&] { pool.cooldown(group, Instant{0s}); }));
    CHECK(breaks_a_law([&] { pool.forget(group); }));  // a socket is open
    pool[group].members_open = 0;
    pool.forget(group);
    CHECK(breaks_a_law([&] { pool.forget(group); }));
}

/// One source binding as it should be.
struct ExpectedBinding {
    std::uint32_t generation = 0;
    std::set<std::uint32_t> in_use;
    struct Cooling {
        std::uint32_t group = 0;
        Instant since;
        std::uint32_t generation = 0;
    };
    std::deque<Cooling> cooling;
};

TEST_CASE(
    "over 100000 random events the pool acquires, cools down and gives up what a plain list "
    "would") {
    const std::vector<Duration> cooldowns{0s, 1s, 10s};
    constexpr std::uint32_t groups_max = 60;
    GroupPool pool(groups_max, cooldowns);
    std::vector<ExpectedBinding> bindings(cooldowns.size());
    std::set<std::uint32_t> closing;
    std::mt19937_64 random(31);
    Instant now{1000s};
    std::uint32_t next_session = 0;

    const auto began_to_close = [&](std::uint32_t group) {
        for (ExpectedBinding& binding : bindings) {
            binding.in_use.erase(group);
            std::erase_if(binding.cooling,
                          [&](const auto& cooling) { return cooling.group == group; });
        }
        closing.insert(group);
        pool.begin_close(group, now);
    };

    for (int event = 0; event < 100'000; ++event) {
        now += 1ms * (random() % 100);
        if (random() % 500 == 0) now += 100s;
        const auto binding_index = static_cast<BindingIndex>(random() % bindings.size());
        ExpectedBinding& binding = bindings[binding_index];
        switch (random() % 8) {
            case 0:
            case 1:
            case 2: {  // a new client: acquire, else open
                const auto serves = std::find_if(
                    binding.cooling.begin(), binding.cooling.end(), [&](const auto& cooling) {
                        return cooling.generation == binding.generation &&
                               now - cooling.since >= cooldowns[binding_index];
                    });
                const auto in_use = pool.acquire(binding_index, ++next_session, now);
                if (in_use) {
                    REQUIRE(serves != binding.cooling.end());
                    REQUIRE(*in_use == serves->group);
                    binding.cooling.erase(serves);
                } else {
                    // Outdated groups hide those behind them until they are closed.
                    REQUIRE((serves == binding.cooling.end() ||
                             binding.cooling.front().generation != binding.generation));
                    if (pool.full()) break;
                }
                const std::uint32_t group =
                    in_use ? *in_use : pool.add(binding_index, next_session);
                REQUIRE(binding.in_use.insert(group).second);
                REQUIRE(pool[group].state == GroupState::in_use);
                REQUIRE(pool[group].session == next_session);
                REQUIRE(pool[group].generation == binding.generation);
                break;
            }
            case 3:
            case 4: {  // a session ends
                if (binding.in_use.empty()) break;
                const std::uint32_t group =
                    *std::next(binding.in_use.begin(),
                               static_cast<std::ptrdiff_t>(random() % binding.in_use.size()));
                if (pool[group].generation != binding.generation) {
                    began_to_close(group);
                } else {
                    pool.cooldown(group, now);
                    binding.in_use.erase(group);
                    binding.cooling.push_back({group, now, binding.generation});
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
                for (std::size_t i = 0; i < bindings.size(); ++i) {
                    for (const auto& cooling : bindings[i].cooling)
                        any = any || cooling.generation != bindings[i].generation ||
                              now - cooling.since >= cooldowns[i] + idle_after;
                }
                const auto group = pool.surplus(now, idle_after);
                REQUIRE(group.has_value() == any);
                const auto next = pool.next_surplus(idle_after);
                REQUIRE(next.has_value() == (pool.cooling() > 0));
                if (next) {
                    REQUIRE(pool.surplus(*next, idle_after).has_value());
                    REQUIRE((*next <= now) == any);
                }
                if (group) began_to_close(*group);
                break;
            }
            default: {
                if (random() % 50 == 0) {
                    pool.outdate(binding_index);
                    ++binding.generation;
                    REQUIRE(pool.generation(binding_index) == binding.generation);
                }
                Instant oldest = Instant::max();
                for (const ExpectedBinding& each : bindings) {
                    if (!each.cooling.empty())
                        oldest = std::min(oldest, each.cooling.front().since);
                }
                const auto group = pool.oldest_cooling();
                REQUIRE(group.has_value() == (oldest != Instant::max()));
                if (!group) break;
                REQUIRE(pool[*group].cooling_since == oldest);
                if (random() % 20 == 0) began_to_close(*group);
                break;
            }
        }
        std::size_t in_use = 0;
        std::size_t cooling = 0;
        for (const ExpectedBinding& each : bindings) {
            in_use += each.in_use.size();
            cooling += each.cooling.size();
        }
        REQUIRE(pool.cooling() == cooling);
        REQUIRE(pool.size() == in_use + cooling + closing.size());
        REQUIRE(pool.full() == (pool.size() == groups_max));
    }
}

}  // namespace
}  // namespace udpproxy
