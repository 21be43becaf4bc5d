// QuerySlot: one question at a time, limits that hold, and what becomes of a question that was
// given up on. With Mailbox's and Published's, the only unit tests with threads.
#include "udpproxy/base/query_slot.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace udpproxy {
namespace {

using Slot = QuerySlot<int, std::vector<int>>;

constexpr Duration long_enough = std::chrono::seconds{20};
constexpr Duration short_time = std::chrono::milliseconds{2};

void answer(Slot& slot) {
    const int* question = slot.take();
    REQUIRE(question != nullptr);
    slot.draft().assign(2, *question);
    slot.hand_over();
}

TEST_CASE("a slot takes one question at a time, and the next only when that is answered") {
    Slot slot;
    CHECK(slot.take() == nullptr);
    CHECK(slot.answer() == nullptr);
    REQUIRE(slot.ask(7));
    CHECK_FALSE(slot.ask(8));
    CHECK(slot.answer() == nullptr);
    const int* question = slot.take();
    REQUIRE(question != nullptr);
    CHECK(*question == 7);
    CHECK(slot.take() == nullptr);
    CHECK_FALSE(slot.ask(8));
    slot.draft() = {1};
    slot.hand_over();
    REQUIRE(slot.answer() != nullptr);
    CHECK(slot.answer()->size() == 1);
    CHECK(slot.ask(8));
    CHECK(slot.answer() == nullptr);
}

TEST_CASE("a question that is withdrawn is never seen; one that was taken cannot be withdrawn") {
    Slot slot;
    REQUIRE(slot.ask(1));
    CHECK(slot.withdraw());
    CHECK(slot.take() == nullptr);
    CHECK(slot.answer() == nullptr);
    REQUIRE(slot.ask(2));
    CHECK(*slot.take() == 2);
    CHECK_FALSE(slot.withdraw());
    slot.hand_over();
    CHECK_FALSE(slot.withdraw());
    CHECK(slot.answer() != nullptr);
}

TEST_CASE("a question that is not taken is withdrawn at the limit, or when the asker gives up") {
    Slot slot;
    const auto never = [] { return false; };
    int nudges = 0;
    CHECK(slot.query(
              1, short_time, [&] { ++nudges; }, never) == QueryOutcome::withdrawn);
    CHECK(nudges == 1);
    CHECK(slot.query(
              2, long_enough, [] {}, [] { return true; }) == QueryOutcome::withdrawn);
    CHECK(slot.take() == nullptr);
}

TEST_CASE("a question that is still being answered is abandoned, and the slot is free after that") {
    Slot slot;
    const auto never = [] { return false; };
    const auto take = [&] { REQUIRE(slot.take() != nullptr); };
    CHECK(slot.query(1, short_time, take, never) == QueryOutcome::abandoned);
    // While it is being answered, the next question is not even asked.
    CHECK(slot.query(
              2, short_time, [] {}, never) == QueryOutcome::withdrawn);
    slot.draft() = {1};
    slot.hand_over();
    CHECK(slot.query(
              3, long_enough, [&] { answer(slot); }, never) == QueryOutcome::answered);
    CHECK(*slot.answer() == std::vector<int>{3, 3});
}

TEST_CASE("between two threads each answer belongs to its question, whichever gives up when") {
    Slot slot;
    std::atomic<bool> done{false};
    std::thread answering([&] {
        while (!done.load(std::memory_order_relaxed)) {
            const int* question = slot.take();
            if (question == nullptr) {
                std::this_thread::yield();
                continue;
            }
            const int number = *question;
            slot.draft().assign(static_cast<std::size_t>(number % 50), number);
            slot.hand_over();
        }
    });
    int answered = 0;
    bool belongs = true;
    for (int number = 1; number <= 5000; ++number) {
        const bool is_hasty = number % 3 == 0;
        const QueryOutcome outcome = slot.query(
            number, long_enough, [] {}, [&] { return is_hasty; });
        if (outcome != QueryOutcome::answered) continue;
        ++answered;
        belongs = belongs && slot.answer()->size() == static_cast<std::size_t>(number % 50) &&
                  (slot.answer()->empty() || slot.answer()->front() == number);
    }
    done = true;
    answering.join();
    CHECK(belongs);
    CHECK(answered >= 5000 / 3);
}

}  // namespace
}  // namespace udpproxy
