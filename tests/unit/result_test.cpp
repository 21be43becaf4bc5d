// Result: a value or a sentence, and the sentences of failed system calls.
#include "udpproxy/base/result.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <memory>

#include "broken_law.hpp"

namespace udpproxy {
namespace {

Result<int> half_of(int number) {
    if (number % 2 != 0) return Error{"odd"};
    return number / 2;
}

TEST_CASE("a result holds a value or an error, never both") {
    const Result<int> good = half_of(4);
    CHECK(good.has_value());
    CHECK(static_cast<bool>(good));
    CHECK(good.value() == 2);
    CHECK(*good == 2);
    const Result<int> bad = half_of(3);
    CHECK_FALSE(bad.has_value());
    CHECK_FALSE(static_cast<bool>(bad));
    CHECK(bad.error().message == "odd");
}

TEST_CASE("a result's value can be changed, reached into and moved out") {
    Result<std::string> text = std::string("ab");
    text->push_back('c');
    *text += 'd';
    CHECK(text->size() == 4);
    CHECK(*text == "abcd");
    Result<std::unique_ptr<int>> owner = std::make_unique<int>(7);
    const std::unique_ptr<int> taken = *std::move(owner);
    CHECK(*taken == 7);
}

TEST_CASE("a result of errors-as-values keeps the two apart") {
    const Result<std::string> value = std::string("text");
    const Result<std::string> error = Error{"text"};
    CHECK(value.has_value());
    CHECK_FALSE(error.has_value());
}

TEST_CASE("a result of nothing is good unless it has an error") {
    const Result<void> good;
    CHECK(good.has_value());
    const Result<void> bad = Error{"no"};
    CHECK_FALSE(static_cast<bool>(bad));
    CHECK(bad.error().message == "no");
}

TEST_CASE("a failed system call becomes a sentence with the errno's text") {
    CHECK(error_text(EADDRINUSE) == "Address already in use");
    const Error error = system_error("bind", EADDRINUSE);
    CHECK(error.message == "bind: Address already in use");
    CHECK(error.code == EADDRINUSE);
    CHECK(Error{"no system call"}.code == 0);
}

TEST_CASE("a result asserts that only what it holds is taken") {
    const Result<int> good = 1;
    const Result<int> bad = Error{"no"};
    const Result<void> nothing;
    CHECK(breaks_a_law([&] { (void)bad.value(); }));
    CHECK(breaks_a_law([&] { (void)good.error(); }));
    CHECK(breaks_a_law([&] { (void)nothing.error(); }));
}

TEST_CASE("a broken law names itself and its place") {
    const std::string said = law_broken_by([] { UDPPROXY_ASSERT(1 + 1 == 3); });
    CHECK(said.rfind("udpproxy: assertion failed: 1 + 1 == 3 (", 0) == 0);
    CHECK(said.find("result_test.cpp:") != std::string::npos);
    CHECK_FALSE(breaks_a_law([] { UDPPROXY_ASSERT(1 + 1 == 2); }));
}

}  // namespace
}  // namespace udpproxy
