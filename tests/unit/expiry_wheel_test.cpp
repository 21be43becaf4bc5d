// ExpiryWheel against a list of due times: when items are looked at, what next_due() promises, and
// how it takes a clock that leaps.
#include "udpproxy/session/expiry_wheel.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

constexpr Duration tick = ExpiryWheel::tick;
constexpr Duration reach = tick * (ExpiryWheel::buckets - 1);

/// A wheel with items that remember their bucket and when they are due, and that looks at nothing
/// before its time.
class Model {
    auto links() {
        return [this](std::uint32_t index) -> ListLinks& { return links_[index]; };
    }

public:
    explicit Model(std::uint32_t items) : links_(items), buckets_(items) {}

    [[nodiscard]] const std::map<std::uint32_t, Instant>& filed() const { return due_; }
    [[nodiscard]] const ExpiryWheel& wheel() const { return wheel_; }
    [[nodiscard]] std::uint64_t scan_budget() const { return scan_budget_; }

    void file(std::uint32_t index, Instant due) {
        buckets_[index] = wheel_.file(index, due, links());
        due_[index] = due;
    }
    void remove(std::uint32_t index) {
        wheel_.remove(index, buckets_[index], links());
        due_.erase(index);
    }
    /// Looks at no more than `bound` items and files again those that are not due yet. Returns the
    /// others, in the order in which they were looked at.
    std::vector<std::uint32_t> turn(Instant now, int bound) {
        std::vector<std::uint32_t> over;
        for (int look = 0; look < bound; ++look) {
            const auto index = wheel_.take_due(now, links());
            if (!index) break;
            ++scan_budget_;
            if (due_.at(*index) <= now) {
                over.push_back(*index);
                due_.erase(*index);
            } else {
                buckets_[*index] = wheel_.file(*index, due_.at(*index), links());
            }
        }
        return over;
    }
    [[nodiscard]] Instant earliest() const {
        Instant earliest = Instant::max();
        for (const auto& [index, due] : due_) earliest = std::min(earliest, due);
        return earliest;
    }

private:
    ExpiryWheel wheel_;
    std::vector<ListLinks> links_;
    std::vector<std::uint32_t> buckets_;
    std::map<std::uint32_t, Instant> due_;
    std::uint64_t scan_budget_ = 0;
};

constexpr int unbounded = 1 << 30;

TEST_CASE("an empty wheel is never due") {
    Model model(1);
    CHECK(model.wheel().size() == 0);
    CHECK_FALSE(model.wheel().next_due().has_value());
    CHECK(model.turn(Instant{100h}, unbounded).empty());
    CHECK_FALSE(model.wheel().next_due().has_value());
}

TEST_CASE("an item within reach is looked at no earlier than its time and at most one tick later") {
    for (const Instant start : {Instant{0s}, Instant{5s}, Instant{1000h}, Instant{tick * 4096},
                                Instant{tick * 4095 + 1ns}}) {
        for (const Duration ahead : {Duration{0}, Duration{1ns}, tick - 1ns, tick, tick + 1ns,
                                     Duration{1s}, Duration{30s}, reach - 2 * tick}) {
            CAPTURE(start.time_since_epoch().count());
            CAPTURE(ahead.count());
            Model model(1);
            model.turn(start, unbounded);
            const Instant due = start + ahead;
            model.file(0, due);
            REQUIRE(model.wheel().next_due().has_value());
            const Instant look = *model.wheel().next_due();
            CHECK(look >= due);
            CHECK(look <= due + tick);
            CHECK(model.turn(look - 1ns, unbounded).empty());
            CHECK(model.scan_budget() == 0);
            CHECK(model.turn(look, unbounded) == std::vector<std::uint32_t>{0});
            CHECK(model.wheel().size() == 0);
        }
    }
}

TEST_CASE("an item that is overdue when it is filed is looked at within one tick") {
    Model model(1);
    const Instant now{1000s};
    model.turn(now, unbounded);
    model.file(0, now - 500s);
    CHECK(*model.wheel().next_due() <= now + tick);
    CHECK(model.turn(now + tick, unbounded) == std::vector<std::uint32_t>{0});
}

TEST_CASE(
    "an item beyond the wheel's reach is looked at early, once per round, and ends in its tick") {
    Model model(1);
    Instant now{1000s};
    model.turn(now, unbounded);
    const Instant due = now + 7 * 24h;
    model.file(0, due);
    std::vector<std::uint32_t> over;
    while (over.empty()) {
        REQUIRE(model.wheel().next_due().has_value());
        REQUIRE(*model.wheel().next_due() > now);
        now = *model.wheel().next_due();
        over = model.turn(now, unbounded);
    }
    CHECK(now >= due);
    CHECK(now <= due + tick);
    CHECK(model.scan_budget() <= static_cast<std::uint64_t>(7 * 24h / reach) + 2);
}

TEST_CASE("items that are removed are not looked at") {
    Model model(3);
    model.turn(Instant{10s}, unbounded);
    for (std::uint32_t index = 0; index < 3; ++index) model.file(index, Instant{20s});
    model.remove(1);
    CHECK(model.turn(Instant{21s}, unbounded) == std::vector<std::uint32_t>{0, 2});
    model.file(0, Instant{30s});
    model.remove(0);
    CHECK(model.wheel().size() == 0);
    CHECK_FALSE(model.wheel().next_due().has_value());
}

TEST_CASE("the earliest of many is found wherever in the wheel it lies") {
    std::mt19937_64 random(23);
    for (int round = 0; round < 2'000; ++round) {
        Model model(2);
        const Instant now{Duration{static_cast<std::int64_t>(random() % (1ULL << 50))}};
        model.turn(now, unbounded);
        for (std::uint32_t index = 0; index < 2; ++index)
            model.file(index, now + Duration{static_cast<std::int64_t>(
                                        random() %
                                        static_cast<std::uint64_t>((reach - 2 * tick).count()))});
        REQUIRE(*model.wheel().next_due() >= model.earliest());
        REQUIRE(*model.wheel().next_due() <= model.earliest() + tick);
    }
}

TEST_CASE(
    "after a stall of any length every overdue item comes out, each looked at twice at most") {
    for (const Duration stall : {Duration{1s}, reach - tick, reach, reach + tick, reach + 2 * tick,
                                 Duration{24h}, Duration{24h * 365 * 100}}) {
        CAPTURE(stall.count());
        constexpr std::uint32_t items = 1000;
        Model model(items);
        const Instant start{3600s};
        model.turn(start, unbounded);
        for (std::uint32_t index = 0; index < items; ++index)
            model.file(index, start + Duration{1s} * index);
        const Instant now = start + stall;
        for (const std::uint32_t index : model.turn(now, unbounded))
            REQUIRE(start + Duration{1s} * index <= now);
        for (const auto& [index, due] : model.filed()) REQUIRE(due + tick > now);
        CHECK(model.scan_budget() <= 2 * items);
        if (model.wheel().size() > 0) CHECK(*model.wheel().next_due() > now);
    }
}

TEST_CASE(
    "a wheel that was filed into before it was ever asked, or after a long silence, is no later "
    "for it") {
    Model model(2);
    const Instant now{1000h};
    model.file(0, now + 30s);
    CHECK(*model.wheel().next_due() <= now + 30s + tick);
    CHECK(model.turn(now, unbounded).empty());
    CHECK(*model.wheel().next_due() >= now + 30s);
    CHECK(*model.wheel().next_due() <= now + 30s + tick);
    // Hours later an item is filed before anything has asked what is due.
    const Instant later = now + 5h;
    model.file(1, later + 1s);
    CHECK(model.turn(later, unbounded) == std::vector<std::uint32_t>{0});
    CHECK(*model.wheel().next_due() >= later + 1s);
    CHECK(*model.wheel().next_due() <= later + 1s + tick);
}

Duration random_step(std::mt19937_64& random) {
    switch (random() % 16) {
        case 0:
            return reach + tick * (static_cast<std::int64_t>(random() % 5) - 2);
        case 1:
            return 1h * static_cast<int>(random() % 100);
        case 2:
        case 3:
            return Duration{static_cast<std::int64_t>(random() % 100) * 1'000'000'000};
        case 4:
            return tick;
        case 5:
            return Duration{0};
        default:
            return Duration{static_cast<std::int64_t>(random() % 200'000'000)};
    }
}

TEST_CASE(
    "over 100000 random filings, removals and leaps of time no item is due early, late or "
    "forgotten") {
    constexpr std::uint32_t items = 200;
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
        CAPTURE(seed);
        std::mt19937_64 random(seed);
        Model model(items);
        Instant now{Duration{static_cast<std::int64_t>(random() % (1ULL << 53))}};
        for (int step = 0; step < 35'000; ++step) {
            const auto index = static_cast<std::uint32_t>(random() % items);
            if (model.filed().contains(index)) {
                if (random() % 4 == 0) model.remove(index);
            } else {
                const auto ahead =
                    static_cast<std::int64_t>(random() % 8 == 0 ? random() % 720'000'000'000'000
                                                                : random() % 300'000'000'000);
                model.file(index, now + Duration{ahead});
            }
            REQUIRE(model.wheel().size() == model.filed().size());
            if (random() % 4 != 0) continue;

            now += random_step(random);
            const int bound = random() % 2 == 0 ? static_cast<int>(random() % 8) : unbounded;
            const std::uint64_t looks_before = model.scan_budget();
            for (const std::uint32_t over : model.turn(now, bound))
                REQUIRE_FALSE(model.filed().contains(over));
            REQUIRE(model.scan_budget() - looks_before <= 3 * items);
            const auto next = model.wheel().next_due();
            REQUIRE(next.has_value() == !model.filed().empty());
            if (!next) continue;
            REQUIRE(*next <= std::max(now, model.earliest() + tick));
            if (bound == unbounded) {
                REQUIRE(*next > now);  // a sleep until then does not end in vain at once
                REQUIRE(model.earliest() + tick > now);
            }
        }
    }
}

}  // namespace
}  // namespace udpproxy
