// The word that was meant: by letters, by parts of names, by what was left out; and the sentence
// that all refusals of unknown words are.
#include "udpproxy/base/nearest.hpp"

#include <doctest/doctest.h>

namespace udpproxy {
namespace {

const std::vector<std::string_view> keys{"idle_timeout", "sessions_max", "receive_buffer", "ports"};

TEST_CASE("a mistyped, shortened or twisted word is near the one that was meant") {
    CHECK(nearest("idle-timeout", keys) == "idle_timeout");
    CHECK(nearest("sesions_max", keys) == "sessions_max");
    CHECK(nearest("sessoins_max", keys) == "sessions_max");
    CHECK(nearest("timeout", keys) == "idle_timeout");
    CHECK(nearest("max_sessions", keys) == "sessions_max");
    CHECK(nearest("max-session", keys) == "sessions_max");
    CHECK(nearest("port", keys) == "ports");
}

TEST_CASE("what is far from all is near none, however long it is") {
    CHECK(nearest("xyzzy", keys).empty());
    CHECK_MESSAGE(nearest("c", {"a", "b"}).empty(), "every letter is one edit from every other");
    CHECK(nearest("", keys).empty());
    CHECK(nearest(std::string(100'000, 'a'), keys).empty());
    CHECK(nearest("ports", {}).empty());
}

TEST_CASE("an unknown word is refused with the one that was meant, or with all of a short list") {
    CHECK(unknown_word("command", "port", keys) ==
          "there is no command \"port\"; did you mean ports?");
    CHECK(unknown_word("proxy", "x", {"dns", "ntp"}) ==
          "there is no proxy \"x\"; there are dns and ntp");
    CHECK(unknown_word("proxy", "xyzzy", {"dns"}) == "there is no proxy \"xyzzy\"; there is dns");
    CHECK(unknown_word("proxy", "x", {}) == "there is no proxy \"x\"");
    const std::vector<std::string_view> many(listed_max + 1, "dns");
    CHECK(unknown_word("proxy", "xyzzy", many) == "there is no proxy \"xyzzy\"");
    CHECK(unknown_word("proxy", "\x1b[31m", {"dns"}) ==
          "there is no proxy \"\\x1b[31m\"; there is dns");
    CHECK(unknown_word("proxy", std::string(100'000, 'a'), {"dns"}).size() < 200);
}

}  // namespace
}  // namespace udpproxy
