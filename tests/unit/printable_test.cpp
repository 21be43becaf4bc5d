// Text on its way to a terminal: what is obeyed is shown instead, and what people write stays.
#include "udpproxy/base/printable.hpp"

#include <doctest/doctest.h>

#include <random>

#include "udpproxy/base/json_text.hpp"

namespace udpproxy {
namespace {

TEST_CASE("what people write stays as it is") {
    for (const char* text : {"", "udp.toml:1:2: x", "Z\xc3\xbcrich", "\xe2\x82\xac", "\xe2\x80\xa6",
                             "\xf0\x9f\x98\x80", "\xc2\xa0"}) {
        CHECK(printable(text) == text);
        CHECK(printable_lines(text) == text);
    }
}

TEST_CASE("what a terminal obeys, and bytes that are no UTF-8, are shown as bytes") {
    CHECK(printable("a\x1b[2Jb") == "a\\x1b[2Jb");
    CHECK(printable("\r\t\x07\x7f") == "\\x0d\\x09\\x07\\x7f");
    CHECK(printable("\xc2\x9b"
                    "31m") == "\\xc2\\x9b31m");  // CSI as one character of C1
    CHECK(printable("\x9b"
                    "31m") == "\\x9b31m");                          // the same in Latin-1
    CHECK(printable("\xe2\x80\xaelmot") == "\\xe2\\x80\\xaelmot");  // from right to left
    CHECK(printable("\xe2\x81\xa6x") == "\\xe2\\x81\\xa6x");
    CHECK(printable("\xd8\x9cx") == "\\xd8\\x9cx");  // U+061C
    CHECK(printable("\xd8\x9b") == "\xd8\x9b");      // its neighbour, a semicolon
    CHECK(printable("\xe2\x80\xa8x") == "\\xe2\\x80\\xa8x");
    CHECK(printable("\xe2\x80") == "\\xe2\\x80");
    CHECK(printable("a\nb") == "a\\x0ab");
    CHECK(printable_lines("a\nb\r") == "a\nb\\x0d");
    CHECK(printable(std::string_view{"a\0b", 3}) == "a\\x00b");
}

TEST_CASE("whatever bytes come, nothing in the result is obeyed, in text and in JSON") {
    const auto has_obeyed = [](std::string_view text) {
        while (!text.empty()) {
            const std::size_t length = utf8_length(text);
            if (length == 0 || is_obeyed(text.substr(0, length))) return true;
            text.remove_prefix(length);
        }
        return false;
    };
    std::mt19937 random(3);
    for (int round = 0; round < 20'000; ++round) {
        std::string bytes;
        for (std::size_t i = random() % 9; i > 0; --i)
            bytes += random() % 2 == 0 ? static_cast<char>(random())
                                       : "\xe2\x80\xae\x81\xa6\xc2\x9b\x1b"[random() % 8];
        REQUIRE_FALSE(has_obeyed(printable(bytes)));
        std::string json;
        append_json_string(json, bytes);
        REQUIRE_FALSE(has_obeyed(json));
    }
}

}  // namespace
}  // namespace udpproxy
