// Mailbox: order, fullness, and one sender with one receiver at the same time (the only unit test
// with threads).
#include "udpproxy/base/mailbox.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <deque>
#include <random>
#include <thread>

namespace udpproxy {
namespace {

TEST_CASE("a mailbox gives letters back in the order they were posted") {
    Mailbox<int> mailbox(4);
    int letter = -1;
    CHECK_FALSE(mailbox.take(letter));
    CHECK(letter == -1);
    for (int i = 0; i < 4; ++i) CHECK(mailbox.post(i));
    for (int i = 0; i < 4; ++i) {
        CHECK(mailbox.take(letter));
        CHECK(letter == i);
    }
    CHECK_FALSE(mailbox.take(letter));
}

TEST_CASE("a full mailbox refuses, keeps what it has, and takes letters again once there is room") {
    Mailbox<int> mailbox(2);
    CHECK(mailbox.post(1));
    CHECK(mailbox.post(2));
    CHECK_FALSE(mailbox.post(3));
    int letter = 0;
    CHECK(mailbox.take(letter));
    CHECK(letter == 1);
    CHECK(mailbox.post(4));
    CHECK_FALSE(mailbox.post(5));
    CHECK(mailbox.take(letter));
    CHECK(letter == 2);
    CHECK(mailbox.take(letter));
    CHECK(letter == 4);
}

TEST_CASE("a mailbox is empty once every letter has been taken") {
    Mailbox<int> mailbox(2);
    CHECK(mailbox.is_empty());
    CHECK(mailbox.post(1));
    CHECK_FALSE(mailbox.is_empty());
    int letter = 0;
    CHECK(mailbox.take(letter));
    CHECK(mailbox.is_empty());
}

TEST_CASE("a mailbox's capacity is rounded up to a power of two") {
    for (const std::size_t asked : {1U, 2U, 3U, 5U, 64U, 65U, 4096U}) {
        CAPTURE(asked);
        Mailbox<std::size_t> mailbox(asked);
        std::size_t posted = 0;
        while (mailbox.post(posted)) ++posted;
        CHECK(posted == std::bit_ceil(asked));
    }
}

TEST_CASE("a mailbox does what a bounded std::deque does, over 100000 random posts and takes") {
    Mailbox<std::uint64_t> mailbox(8);
    std::deque<std::uint64_t> expected;
    std::mt19937_64 random(17);
    for (int step = 0; step < 100'000; ++step) {
        if (random() % 2 == 0) {
            const std::uint64_t letter = random();
            REQUIRE(mailbox.post(letter) == (expected.size() < 8));
            if (expected.size() < 8) expected.push_back(letter);
        } else {
            std::uint64_t letter = 0;
            REQUIRE(mailbox.take(letter) == !expected.empty());
            if (!expected.empty()) {
                REQUIRE(letter == expected.front());
                expected.pop_front();
            }
        }
    }
}

TEST_CASE("between two threads no letter is lost, doubled, torn or out of order") {
    struct Letter {
        std::array<std::uint64_t, 8> copies{};  // a cache line, so that a torn letter shows
    };
    constexpr std::uint64_t letters = 200'000;
    Mailbox<Letter> mailbox(64);
    std::thread sender([&] {
        Letter letter;
        for (std::uint64_t number = 0; number < letters; ++number) {
            letter.copies.fill(number);
            while (!mailbox.post(letter)) std::this_thread::yield();
        }
    });
    std::uint64_t wrong = 0;
    std::thread receiver([&] {
        Letter letter;
        for (std::uint64_t number = 0; number < letters; ++number) {
            while (!mailbox.take(letter)) std::this_thread::yield();
            for (const std::uint64_t copy : letter.copies) wrong += copy != number;
        }
    });
    sender.join();
    receiver.join();
    CHECK(wrong == 0);
    Letter none;
    CHECK_FALSE(mailbox.take(none));
}

}  // namespace
}  // namespace udpproxy
