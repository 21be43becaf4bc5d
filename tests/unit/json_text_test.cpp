// JsonText against a reader of JSON: what is written is read as it was meant.
#include "udpproxy/base/json_text.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace udpproxy {
namespace {

TEST_CASE("objects, arrays and values stand in the order in which they were written") {
    JsonText json;
    json.begin_object().member("name", "a \"b\"").member("count", 7U).member("flag", true);
    json.key("list").begin_array().value(1).value(-2).null().begin_object().end_object();
    json.begin_array().end_array().end_array();
    json.member("seconds", 1.5).key("nothing").raw("{}").end_object();
    CHECK(json.take() ==
          "{\"name\":\"a \\\"b\\\"\",\"count\":7,\"flag\":true,\"list\":[1,-2,null,{},[]],"
          "\"seconds\":1.5,\"nothing\":{}}\n");
}

TEST_CASE("numbers keep their value, and what is none is null") {
    JsonText json;
    json.begin_array().value(0.1).value(1e300).value(5e-5).value(3.0);
    json.value(std::numeric_limits<std::uint64_t>::max());
    json.value(std::numeric_limits<double>::infinity()).end_array();
    const auto read = nlohmann::json::parse(json.take());
    CHECK(read[0] == 0.1);
    CHECK(read[1] == 1e300);
    CHECK(read[2] == 5e-5);
    CHECK(read[3] == 3);
    CHECK(read[4] == std::numeric_limits<std::uint64_t>::max());
    CHECK(read[5].is_null());
}

TEST_CASE("control characters are escaped, and what is no UTF-8 is replaced") {
    const auto string_of = [](std::string_view text) {
        std::string json;
        append_json_string(json, text);
        return json;
    };
    CHECK(string_of("\n\x01\x1b\x7f\\") == "\"\\n\\u0001\\u001b\\u007f\\\\\"");
    CHECK(string_of("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80") ==
          "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
    // Cut short, too long, a surrogate, beyond the end of Unicode, a byte of the middle.
    for (const char* text : {"\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"}) {
        const std::string json = string_of(text);
        CHECK(json.starts_with("\"\xef\xbf\xbd"));
        CHECK(nlohmann::json::accept(json));
    }
}

TEST_CASE("whatever bytes a string has, a reader takes it, and valid text comes back as it was") {
    std::mt19937 random(7);
    for (int round = 0; round < 2000; ++round) {
        std::string bytes;
        for (std::size_t i = random() % 12; i > 0; --i) bytes += static_cast<char>(random());
        std::string json;
        append_json_string(json, bytes);
        const std::string read = nlohmann::json::parse(json).get<std::string>();
        std::string again;
        append_json_string(again, read);
        CHECK(again == json);
        const std::string expected = nlohmann::json::parse(
            nlohmann::json(bytes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
        const bool was_valid = read == bytes;
        if (was_valid) CHECK(expected == bytes);
        if (expected == bytes) CHECK(was_valid);
    }
}

}  // namespace
}  // namespace udpproxy
