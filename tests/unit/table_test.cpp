// SessionTable against a plain map of sessions: finding, expiry over several time-outs, and which
// session is evicted first when capacity is short.
#include "udpproxy/session/table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

constexpr Duration tick = ExpiryWheel::tick;
constexpr SipKey hash_key{0x0123456789abcdef, 0xfedcba9876543210};
const std::vector<SessionTimeouts> timeouts{{300s, 30s}, {100ms, 100ms}, {7 * 24h, 1h}, {2s, 1s}};

ClientKey key_of(std::uint32_t number) {
    ClientKey key;
    key.client = Address::ipv4(number);
    key.port = static_cast<std::uint16_t>(number % 60000 + 1);
    return key;
}

std::uint32_t admit(SessionTable& table, std::uint32_t number, std::uint16_t proxy, Instant now) {
    const ClientKey key = key_of(number);
    return table.admit(table.hash(key), key, proxy, now);
}

std::optional<std::uint32_t> find(const SessionTable& table, const ClientKey& key) {
    return table.find(table.hash(key), key);
}

/// All that have expired, retired in passing.
std::vector<std::uint64_t> expire(SessionTable& table, Instant now) {
    std::vector<std::uint64_t> ids;
    std::uint32_t scan_budget = 1U << 30;
    while (const auto index = table.next_expired(now, scan_budget)) {
        ids.push_back(table[*index].id);
        table.retire(*index);
    }
    return ids;
}

TEST_CASE("a session is found by its whole key and by nothing less") {
    SessionTable table(100, timeouts, hash_key);
    ClientKey key = key_of(1);
    key.local = Address::ipv4(0x01020304);
    key.listener = 3;
    const std::uint32_t index = table.admit(table.hash(key), key, 0, Instant{1s});
    CHECK(find(table, key) == index);
    CHECK(table[index].key == key);

    std::vector<ClientKey> others(7, key);
    others[0].client.bytes[15] ^= 1;
    others[1].client = Address{};
    others[2].local.bytes[12] ^= 0x80;
    others[3].local = Address{};
    others[4].scope = 2;
    others[5].port ^= 0x100;
    others[6].listener = 4;
    for (const ClientKey& other : others) CHECK_FALSE(find(table, other).has_value());
    for (const ClientKey& other : others)
        (void)table.admit(table.hash(other), other, 0, Instant{1s});
    std::set<std::uint32_t> found;
    for (const ClientKey& other : others) CHECK(found.insert(find(table, other).value()).second);
    CHECK_FALSE(found.contains(index));
    CHECK(table.size() == 8);
}

TEST_CASE(
    "an admitted session begins unassured, unanswered and active now, under an id of its own") {
    SessionTable table(2, timeouts, hash_key);
    const std::uint32_t index = admit(table, 1, 2, Instant{5s});
    const Session session = table[index];
    CHECK(session.proxy == 2);
    CHECK(session.admitted_at == Instant{5s});
    CHECK(session.last_active_at == Instant{5s});
    CHECK_FALSE(session.replied);
    CHECK_FALSE(session.assured);
    CHECK(session.requests.datagrams == 0);
    table.retire(index);
    CHECK_FALSE(find(table, key_of(1)).has_value());
    const std::uint32_t again = admit(table, 1, 0, Instant{6s});
    CHECK(again == index);
    CHECK(table[again].id != session.id);
}

TEST_CASE("the hash depends on the table's key") {
    const SessionTable one(1, timeouts, hash_key);
    const SessionTable other(1, timeouts, SipKey{1, 2});
    CHECK(one.hash(key_of(1)) != other.hash(key_of(1)));
    CHECK(one.hash(key_of(1)) == siphash13(hash_key, key_of(1).words()));
}

TEST_CASE("an unassured session ends after the short time-out, an assured one after the long") {
    SessionTable table(10, timeouts, hash_key);
    expire(table, Instant{1000s});
    const std::uint64_t brief = table[admit(table, 1, 0, Instant{1000s})].id;
    const std::uint32_t lasting = admit(table, 2, 0, Instant{1000s});
    const std::uint64_t lasting_id = table[lasting].id;
    table.assure(lasting);
    CHECK(expire(table, Instant{1030s} - 1ns).empty());
    CHECK(expire(table, Instant{1030s} + tick) == std::vector{brief});
    CHECK(expire(table, Instant{1300s} - 1ns).empty());
    CHECK(expire(table, Instant{1300s} + tick) == std::vector{lasting_id});
    CHECK(table.size() == 0);
    CHECK_FALSE(table.next_due().has_value());
}

TEST_CASE("activity postpones the end, and the session is looked at once per time-out") {
    SessionTable table(1, timeouts, hash_key);
    expire(table, Instant{0s});
    const std::uint32_t index = admit(table, 1, 0, Instant{0s});
    std::uint32_t scan_budget = 1000;
    for (Duration at{0}; at < 3000s; at += 10ms) {
        table[index].last_active_at = Instant{at};
        REQUIRE_FALSE(table.next_expired(Instant{at}, scan_budget).has_value());
    }
    CHECK(1000 - scan_budget <= 3000 / 30 + 1);
    CHECK(expire(table, Instant{3029s}).empty());
    CHECK(expire(table, Instant{3030s} + tick).size() == 1);
}

TEST_CASE("a call looks at no more sessions than it was allowed, and the rest are due at once") {
    SessionTable table(1000, timeouts, hash_key);
    expire(table, Instant{100s});
    for (std::uint32_t number = 0; number < 1000; ++number)
        (void)admit(table, number, 0, Instant{100s});
    const Instant now{200s};
    std::size_t ended = 0;
    for (int turn = 0; turn < 10; ++turn) {
        std::uint32_t scan_budget = 100;
        while (const auto index = table.next_expired(now, scan_budget)) {
            table.retire(*index);
            ++ended;
        }
        CHECK(scan_budget == 0);
        CHECK(ended == static_cast<std::size_t>(turn + 1) * 100);
        if (table.size() > 0) CHECK(*table.next_due() <= now);
    }
    CHECK(table.size() == 0);

    // Those that were active meanwhile cost a look as well.
    for (std::uint32_t number = 0; number < 1000; ++number)
        table[admit(table, number, 0, now)].last_active_at = now + 25s;
    std::uint32_t scan_budget = 100;
    CHECK_FALSE(table.next_expired(now + 40s, scan_budget).has_value());
    CHECK(scan_budget == 0);
    CHECK(*table.next_due() <= now + 40s);
    std::uint32_t more = 10'000;
    CHECK_FALSE(table.next_expired(now + 40s, more).has_value());
    CHECK(10'000 - more == 900);
}

/// What a session is to the model.
struct Expected {
    std::uint32_t number = 0;
    std::uint16_t proxy = 0;
    Instant last_active_at;
    bool assured = false;

    [[nodiscard]] Instant due() const {
        return last_active_at + (assured ? timeouts[proxy].idle : timeouts[proxy].unassured);
    }
};

TEST_CASE("a shard that sleeps until next_due ends every session in its tick") {
    std::mt19937_64 random(29);
    SessionTable table(500, timeouts, hash_key);
    std::map<std::uint64_t, Expected> expected;
    Instant now{10h};
    for (std::uint32_t number = 0; number < 500; ++number) {
        const auto proxy = static_cast<std::uint16_t>(random() % timeouts.size());
        const Instant admitted_at = now + 1ms * number;
        const std::uint32_t index = admit(table, number, proxy, admitted_at);
        Expected& session = expected[table[index].id] = {number, proxy, admitted_at};
        if (random() % 2 == 0) {
            table.assure(index);
            session.assured = true;
        }
    }
    now += 501ms;
    std::uint64_t wakes = 0;
    for (bool first = true; table.size() > 0; first = false) {
        if (!first) {
            REQUIRE(*table.next_due() > now);
            now = *table.next_due();
        }
        ++wakes;
        for (const std::uint64_t id : expire(table, now)) {
            const auto ended = expected.find(id);
            REQUIRE(ended != expected.end());
            REQUIRE(ended->second.due() <= now);
            if (!first) REQUIRE(ended->second.due() + tick >= now);
            expected.erase(ended);
        }
    }
    CHECK(expected.empty());
    CHECK(wakes < 500 * static_cast<std::uint64_t>(7 * 24h / 275s + 2));
}

class Model {
public:
    explicit Model(std::uint64_t seed) : random_(seed), table_(sessions_max, timeouts, hash_key) {
        now_ = Instant{Duration{static_cast<std::int64_t>(below(1ULL << 53))}};
    }

    void step() {
        switch (below(16)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
                admit_one();
                break;
            case 5:
                retire_one();
                break;
            case 6:
                pass_time();
                break;
            case 7:
            case 8:
                turn(static_cast<std::uint32_t>(below(2) == 0 ? 1 + below(10) : 1U << 30));
                break;
            case 9:
                evict_somebody();
                break;
            default:
                use_one();
                break;
        }
        REQUIRE(table_.size() == expected_.size());
        REQUIRE(table_.full() == (expected_.size() == sessions_max));
        REQUIRE(table_.next_due().has_value() == !expected_.empty());
    }

    /// Everybody is where they should be.
    void check_all() {
        std::set<std::uint32_t> numbers;
        for (const auto& [id, session] : expected_) {
            const auto index = find(table_, key_of(session.number));
            REQUIRE(index.has_value());
            REQUIRE(table_[*index].id == id);
            REQUIRE(table_[*index].assured == session.assured);
            REQUIRE(table_[*index].proxy == session.proxy);
            numbers.insert(session.number);
        }
        for (std::uint32_t number = 0; number < clients; ++number)
            REQUIRE(find(table_, key_of(number)).has_value() == numbers.contains(number));
    }

    [[nodiscard]] std::uint64_t evictions() const { return evictions_; }
    [[nodiscard]] std::uint64_t expiries() const { return expiries_; }

private:
    static constexpr std::uint32_t sessions_max = 150;
    static constexpr std::uint32_t clients = 400;

    std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

    void admit_one() {
        const auto number = static_cast<std::uint32_t>(below(clients));
        if (table_.full() || find(table_, key_of(number))) return;
        const auto proxy = static_cast<std::uint16_t>(below(timeouts.size()));
        const std::uint32_t index = admit(table_, number, proxy, now_);
        REQUIRE(expected_.try_emplace(table_[index].id, Expected{number, proxy, now_}).second);
    }

    std::optional<std::uint32_t> any_session() {
        const ClientKey key = key_of(static_cast<std::uint32_t>(below(clients)));
        return find(table_, key);
    }

    void use_one() {
        const auto index = any_session();
        if (!index) return;
        Expected& session = expected_.at(table_[*index].id);
        table_[*index].last_active_at = session.last_active_at = now_;
        if (!session.assured && below(4) == 0) {
            table_.assure(*index);
            session.assured = true;
        }
    }

    void retire_one() {
        const auto index = any_session();
        if (!index) return;
        expected_.erase(table_[*index].id);
        table_.retire(*index);
    }

    void pass_time() {
        switch (below(12)) {
            case 0:
                now_ += Duration{1h} * below(50);
                break;
            case 1:
                now_ += tick * (ExpiryWheel::buckets - 2 + static_cast<std::int64_t>(below(5)));
                break;
            case 2:
                now_ += 1s * below(400);
                break;
            default:
                now_ += 1ns * below(500'000'000);
                break;
        }
    }

    void turn(std::uint32_t looks_allowed) {
        std::uint32_t scan_budget = looks_allowed;
        while (const auto index = table_.next_expired(now_, scan_budget)) {
            const auto session = expected_.find(table_[*index].id);
            REQUIRE(session != expected_.end());
            REQUIRE(session->second.due() <= now_);
            expected_.erase(session);
            table_.retire(*index);
            ++expiries_;
        }
        REQUIRE(looks_allowed - scan_budget <= 3 * sessions_max);
        Instant earliest = Instant::max();
        for (const auto& [id, session] : expected_) earliest = std::min(earliest, session.due());
        if (expected_.empty()) return;
        REQUIRE(*table_.next_due() <= std::max(now_, earliest + tick));
        if (scan_budget > 0) {
            REQUIRE(earliest + tick > now_);
            REQUIRE(*table_.next_due() > now_);
        } else if (earliest + tick <= now_) {
            REQUIRE(*table_.next_due() <= now_);
        }
    }

    void evict_somebody() {
        const auto proxy = static_cast<std::uint16_t>(below(timeouts.size()));
        const Duration idle = 100ms * below(20);
        const auto index = table_.eviction_candidate(proxy, now_, idle);
        if (!index) return;
        const auto session = expected_.find(table_[*index].id);
        REQUIRE(session != expected_.end());
        REQUIRE(session->second.proxy == proxy);
        REQUIRE_FALSE(session->second.assured);
        REQUIRE(now_ - session->second.last_active_at >= idle);
        if (below(4) == 0) return;  // chosen, and then not needed after all
        expected_.erase(session);
        table_.retire(*index);
        ++evictions_;
    }

    std::mt19937_64 random_;
    SessionTable table_;
    std::map<std::uint64_t, Expected> expected_;
    Instant now_;
    std::uint64_t evictions_ = 0;
    std::uint64_t expiries_ = 0;
};

TEST_CASE(
    "over 400000 random events no session ends early, lives longer than a tick beyond its time, or "
    "is evicted against the rules") {
    for (const std::uint64_t seed : {1U, 2U, 3U, 4U}) {
        CAPTURE(seed);
        Model model(seed);
        for (int event = 0; event < 100'000; ++event) {
            model.step();
            if (event % 1009 == 0) model.check_all();
        }
        CHECK(model.evictions() > 100);
        CHECK(model.expiries() > 1000);
    }
}

TEST_CASE("of sessions that were silent since their admission the oldest goes first") {
    SessionTable table(40, timeouts, hash_key);
    for (std::uint32_t number = 0; number < 40; ++number)
        (void)admit(table, number, 0, Instant{1s * number});
    for (std::uint32_t number = 0; number < 40; ++number) {
        const auto index = table.eviction_candidate(0, Instant{100s}, 1s);
        REQUIRE(index.has_value());
        CHECK(table[*index].key == key_of(number));
        table.retire(*index);
    }
    CHECK_FALSE(table.eviction_candidate(0, Instant{100s}, 1s).has_value());
}

TEST_CASE("assured sessions, those of other proxies and those that were active just now never go") {
    SessionTable table(10, timeouts, hash_key);
    table.assure(admit(table, 1, 0, Instant{1s}));
    (void)admit(table, 2, 1, Instant{1s});
    const std::uint32_t fresh = admit(table, 3, 0, Instant{9s});
    CHECK_FALSE(table.eviction_candidate(0, Instant{10s} - 1ns, 1s).has_value());
    CHECK(table.eviction_candidate(0, Instant{10s}, 1s) == fresh);
    table[fresh].last_active_at = Instant{10s};
    CHECK_FALSE(table.eviction_candidate(0, Instant{11s} - 1ns, 1s).has_value());
    CHECK(table.eviction_candidate(0, Instant{11s}, 1s) == fresh);
    CHECK_FALSE(table.eviction_candidate(2, Instant{11s}, 1s).has_value());
}

// The three cases below are one story: the order of eviction moved a session that had been active
// since the last look to the back, without asking how long ago that was.

TEST_CASE(
    "when every session was active once since its admission, long ago, the first call finds a "
    "candidate") {
    SessionTable table(40, timeouts, hash_key);
    for (std::uint32_t number = 0; number < 40; ++number)
        table[admit(table, number, 0, Instant{1s})].last_active_at = Instant{1s + 1ms};
    CHECK(table.eviction_candidate(0, Instant{20s}, 1s).has_value());
}

TEST_CASE("a session that is idle is found behind one that was active just now") {
    SessionTable table(2, timeouts, hash_key);
    const std::uint32_t busy = admit(table, 1, 0, Instant{0s});
    const std::uint32_t idle = admit(table, 2, 0, Instant{0s});
    table[idle].last_active_at = Instant{1s};
    table[busy].last_active_at = Instant{20s};
    CHECK(table.eviction_candidate(0, Instant{20s}, 1s) == idle);
    CHECK(table.eviction_candidate(0, Instant{20s} + 500ms, 1s) == idle);
}

TEST_CASE(
    "of two sessions the one that was active less recently goes, whichever was admitted first") {
    SessionTable table(2, timeouts, hash_key);
    const std::uint32_t older = admit(table, 1, 0, Instant{0s});
    table[older].last_active_at = Instant{1s};
    (void)admit(table, 2, 0, Instant{5s});
    CHECK(table.eviction_candidate(0, Instant{20s}, 1s) == older);
}

TEST_CASE(
    "of up to 16 unassured sessions exactly the least recently active goes, over 50000 random "
    "events") {
    std::mt19937_64 random(47);
    SessionTable table(16, timeouts, hash_key);
    std::set<std::uint32_t> sessions;
    Instant now{1000s};
    std::uint32_t next_number = 0;
    for (int event = 0; event < 50'000; ++event) {
        now += 1ms * (random() % 100);
        if (random() % 3 == 0 && !table.full())
            sessions.insert(admit(table, next_number++, 0, now));
        for (const std::uint32_t index : sessions) {
            if (random() % 8 == 0) table[index].last_active_at = now;
        }
        const Duration idle = 100ms * (random() % 10);
        Instant oldest = Instant::max();
        for (const std::uint32_t index : sessions)
            oldest = std::min(oldest, table[index].last_active_at);
        const auto index = table.eviction_candidate(0, now, idle);
        REQUIRE(index.has_value() == (!sessions.empty() && now - oldest >= idle));
        if (!index) continue;
        REQUIRE(table[*index].last_active_at == oldest);
        if (random() % 2 == 0) {
            sessions.erase(*index);
            table.retire(*index);
        }
    }
}

TEST_CASE("while every session is idle each call finds a candidate, however many there are") {
    std::mt19937_64 random(53);
    SessionTable table(1000, timeouts, hash_key);
    for (std::uint32_t number = 0; number < 1000; ++number) {
        const std::uint32_t index = admit(table, number, 0, Instant{1ms * number});
        if (random() % 2 == 0)
            table[index].last_active_at = Instant{1ms * (1000 + random() % 1000)};
    }
    while (table.size() > 0) {
        const auto index = table.eviction_candidate(0, Instant{20s}, 1s);
        REQUIRE(index.has_value());
        table.retire(*index);
    }
}

TEST_CASE(
    "at a steady pace of new clients an idle session is found for each, though every session was "
    "active once") {
    // A capacity of 700 and 300 new clients a second, each active 20 ms after its admission: the
    // oldest is 2.3 s old when it is evicted. If a session that was active went to the end of the
    // order however long ago that was, the order would be mixed up within a second and new clients
    // be refused.
    constexpr std::uint32_t capacity = 700;
    SessionTable table(capacity, timeouts, hash_key);
    std::vector<std::uint32_t> admitted;
    int refused = 0;
    for (std::uint32_t number = 0; number < 6000; ++number) {
        const Instant now{std::chrono::microseconds{3333} * number};
        if (number >= 6) {
            const std::uint32_t replied = admitted[admitted.size() - 6];
            table[replied].last_active_at = now;
        }
        if (table.full()) {
            const auto index = table.eviction_candidate(0, now, 1s);
            if (!index) {
                ++refused;
                continue;
            }
            table.retire(*index);
        }
        admitted.push_back(admit(table, number, 0, now));
    }
    CHECK(refused == 0);
}

TEST_CASE("a table asserts that it is not overfilled and that a session is assured once") {
    SessionTable table(1, timeouts, hash_key);
    const std::uint32_t index = admit(table, 1, 0, Instant{0s});
    CHECK(table.full());
    CHECK(breaks_a_law([&] { (void)admit(table, 2, 0, Instant{0s}); }));
    table.assure(index);
    CHECK(breaks_a_law([&] { table.assure(index); }));
    table.retire(index);
    CHECK(breaks_a_law([&] { table.retire(index); }));
}

}  // namespace
}  // namespace udpproxy
