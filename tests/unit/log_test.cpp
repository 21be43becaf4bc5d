// Log lines: one line each, in text and in JSON, whatever the values contain; the JSON is read back
// by a JSON parser.
#include "udpproxy/log/log.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

namespace udpproxy {
namespace {

std::string text(const std::vector<LogField>& fields) {
    return format_line(LogFormat::text, "T", LogLevel::info, "e", fields);
}
std::string json(const std::vector<LogField>& fields) {
    return format_line(LogFormat::json, "T", LogLevel::info, "e", fields);
}

/// A text line taken apart as its readers do: blanks divide, a value that begins with a quote is a
/// JSON string.
std::vector<std::pair<std::string, std::string>> fields_of(const std::string& line) {
    std::vector<std::pair<std::string, std::string>> fields;
    for (std::size_t at = 0; at < line.size();) {
        const std::size_t equals = line.find('=', at);
        if (equals == std::string::npos) return {};
        std::string key = line.substr(at, equals - at);
        std::size_t end = equals + 1;
        if (end < line.size() && line[end] == '"') {
            for (++end; end < line.size() && line[end] != '"'; ++end) {
                if (line[end] == '\\') ++end;
            }
            ++end;
            fields.emplace_back(std::move(key),
                                nlohmann::json::parse(line.substr(equals + 1, end - equals - 1))
                                    .get<std::string>());
        } else {
            end = std::min(line.find(' ', end), line.size());
            fields.emplace_back(std::move(key), line.substr(equals + 1, end - equals - 1));
        }
        at = end + 1;
    }
    return fields;
}

bool has_control_characters(const std::string& line) {
    return std::any_of(line.begin(), line.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

TEST_CASE("a line begins with time, level and event, and the fields follow in order") {
    CHECK(format_line(LogFormat::text, "2026-01-02T03:04:05.000006Z", LogLevel::warn, "limit_met",
                      {{"b", "x"}, {"a", "y"}}) ==
          "time=2026-01-02T03:04:05.000006Z level=warn event=limit_met b=x a=y");
    CHECK(
        format_line(LogFormat::json, "2026-01-02T03:04:05.000006Z", LogLevel::warn, "limit_met",
                    {{"b", "x"}, {"a", "y"}}) ==
        R"({"time":"2026-01-02T03:04:05.000006Z","level":"warn","event":"limit_met","b":"x","a":"y"})");
    CHECK(text({}) == "time=T level=info event=e");
    CHECK(json({}) == R"({"time":"T","level":"info","event":"e"})");
}

TEST_CASE("levels have the names the configuration knows") {
    for (const auto& [level, name] : {std::pair{LogLevel::error, "error"},
                                      {LogLevel::warn, "warn"},
                                      {LogLevel::info, "info"}}) {
        CHECK(format_line(LogFormat::text, "T", level, "e", {}) ==
              std::string{"time=T level="} + name + " event=e");
        CHECK(format_line(LogFormat::json, "T", level, "e", {}) ==
              std::string{R"({"time":"T","level":")"} + name + R"(","event":"e"})");
    }
}

TEST_CASE("numbers and booleans are bare, in text and in JSON") {
    const std::vector<LogField> fields{{"zero", 0},
                                       {"negative", -5},
                                       {"most", std::numeric_limits<std::uint64_t>::max()},
                                       {"least", std::numeric_limits<std::int64_t>::min()},
                                       {"port", std::uint16_t{65535}},
                                       {"seconds", 1.5},
                                       {"long", 12345678.9},
                                       {"yes", true},
                                       {"no", false}};
    CHECK(text(fields) ==
          "time=T level=info event=e zero=0 negative=-5 most=18446744073709551615 "
          "least=-9223372036854775808 port=65535 seconds=1.500 "
          "long=12345678.900 yes=true no=false");
    CHECK(
        json(fields) ==
        R"({"time":"T","level":"info","event":"e","zero":0,"negative":-5,"most":18446744073709551615,"least":-9223372036854775808,)"
        R"("port":65535,"seconds":1.500,"long":12345678.900,"yes":true,"no":false})");
}

TEST_CASE("text that looks like a number or a boolean stays text in JSON") {
    for (const char* value : {"0", "1.5", "true", "null", "-1", "{}", "[1]"}) {
        const auto line = nlohmann::json::parse(json({{"k", value}}));
        CHECK(line["k"].is_string());
        CHECK(line["k"] == value);
    }
}

TEST_CASE("a text value without blanks, quotes, equals signs and backslashes stays as it is") {
    for (const char* value :
         {"dns", "192.0.2.1:53", "[2001:db8::1%eth0]:53", "/var/log/x", "a,b;c", "Zürich"})
        CHECK(text({{"k", value}}) == std::string{"time=T level=info event=e k="} + value);
}

TEST_CASE("a text value that would fall apart is quoted as in JSON") {
    CHECK(text({{"k", ""}}) == R"(time=T level=info event=e k="")");
    CHECK(text({{"k", "a b"}}) == R"(time=T level=info event=e k="a b")");
    CHECK(text({{"k", "a=b"}}) == R"(time=T level=info event=e k="a=b")");
    CHECK(text({{"k", "say \"x\""}}) == R"(time=T level=info event=e k="say \"x\"")");
    CHECK(text({{"k", "a\\b"}}) == R"(time=T level=info event=e k="a\\b")");
    CHECK(text({{"k", "a\nlevel=error"}}) == R"(time=T level=info event=e k="a\nlevel=error")");
    CHECK(text({{"k", std::string("a\0b", 3)}}) == R"(time=T level=info event=e k="a\u0000b")");
    CHECK(text({{"k", "\x1b[31mred"}}) == R"(time=T level=info event=e k="\u001b[31mred")");
    CHECK(text({{"k", "reply_aliases = [\"192.0.2.1:53\"]"}}) ==
          R"(time=T level=info event=e k="reply_aliases = [\"192.0.2.1:53\"]")");
}

TEST_CASE(
    "over 5000 random values of every ASCII character a line is one line, and its reader gets the "
    "values back") {
    std::mt19937_64 random(41);
    for (int round = 0; round < 5'000; ++round) {
        std::vector<std::pair<std::string, std::string>> wanted{
            {"time", "T"}, {"level", "info"}, {"event", "e"}};
        std::vector<LogField> fields;
        for (std::uint64_t i = 0; i < random() % 4; ++i) {
            std::string value(random() % 8, '\0');
            for (char& c : value)
                c = random() % 2 == 0 ? static_cast<char>(random() % 128)
                                      : std::string_view{"a\\\"= \n"}[random() % 6];
            wanted.emplace_back("k" + std::to_string(i), value);
            fields.emplace_back(wanted.back().first, value);
        }
        const std::string in_text = text(fields);
        REQUIRE_FALSE(has_control_characters(in_text));
        REQUIRE(fields_of(in_text) == wanted);
        const std::string in_json = json(fields);
        REQUIRE_FALSE(has_control_characters(in_json));
        const auto read = nlohmann::ordered_json::parse(in_json);
        REQUIRE(read.size() == wanted.size());
        std::size_t at = 0;
        for (const auto& [key, value] : read.items()) {
            REQUIRE(key == wanted[at].first);
            REQUIRE(value == wanted[at].second);
            ++at;
        }
    }
}

TEST_CASE("bytes that are no UTF-8 become replacement characters in JSON and in quoted text") {
    CHECK(json({{"k",
                 "a\xff"
                 "b"}}) ==
          "{\"time\":\"T\",\"level\":\"info\",\"event\":\"e\",\"k\":\"a\xef\xbf\xbd"
          "b\"}");
    CHECK(text({{"k", "a \xff"}}) == "time=T level=info event=e k=\"a \xef\xbf\xbd\"");
    std::mt19937_64 random(43);
    for (int round = 0; round < 5'000; ++round) {
        std::string value(random() % 12, '\0');
        for (char& c : value) c = static_cast<char>(random() % 256);
        const std::string line = json({{"k", value}});
        REQUIRE_FALSE(has_control_characters(line));
        REQUIRE(nlohmann::json::accept(line));
        REQUIRE_FALSE(has_control_characters(text({{"k", value}})));
    }
}

// A value with neither blanks nor quotes in it was passed on as it was.
TEST_CASE("a text line is UTF-8 whatever its values are") {
    CHECK(nlohmann::json::accept('"' +
                                 text({{"k",
                                        "a\xff"
                                        "b"}}) +
                                 '"'));
}

// JSON leaves DEL alone, so quoting did not escape it.
TEST_CASE("a text line has no DEL in it") {
    CHECK(text({{"k",
                 "a\x7f"
                 "b"}})
              .find('\x7f') == std::string::npos);
}

}  // namespace
}  // namespace udpproxy
