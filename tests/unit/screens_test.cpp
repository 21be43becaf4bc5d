// What udpproxyctl shows of recorded answers, on 80 and on 160 columns. The answers are
// golden/screens/NAME.json, the screens NAME.80.txt and NAME.160.txt; NAME up to its first hyphen
// is the view. To accept a change, run with UDPPROXY_GOLDEN_UPDATE=1 and read what git shows.
#include <doctest/doctest.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "ctl/table.hpp"
#include "ctl/top.hpp"
#include "ctl/trace.hpp"
#include "ctl/upgrade.hpp"
#include "ctl/views.hpp"
#include "source_tree.hpp"

namespace udpproxy::ctl {
namespace {

constexpr std::size_t rows_of_top = 23;

std::string view_trace(const Json& answer, std::size_t width) {
    std::string made;
    for (const Json& record : answer["records"]) made += view_record(record, width);
    return made;
}

std::string view_top(const Json& answer, std::size_t width) {
    const auto sample = [](const Json& from) {
        return Sample{from["status"], from["proxies"], from["sessions"]};
    };
    return view_frame(sample(answer["before"]), sample(answer["now"]), 2, rows_of_top, width);
}

const std::map<std::string, std::function<std::string(const Json&, std::size_t)>>& views() {
    static const std::map<std::string, std::function<std::string(const Json&, std::size_t)>> all{
        {"status", view_status},
        {"proxies", view_proxies},
        {"sessions",
         [](const Json& answer, std::size_t width) { return view_sessions(answer, "", width); }},
        {"sessions_by_age",
         [](const Json& answer, std::size_t width) { return view_sessions(answer, "age", width); }},
        {"unlisted", view_unlisted},
        {"drops", view_drops},
        {"killed", view_killed},
        {"log", view_log_level},
        {"reload", view_reload},
        {"drain", view_drain},
        {"resume", view_resume},
        {"doctor", view_findings},
        {"top", view_top},
        {"trace", view_trace},
        {"upgrade", view_upgrade},
    };
    return all;
}

/// A command, or a line for the configuration: it is copied, and therefore never broken.
bool is_to_be_copied(const std::string& line) {
    return line.starts_with("  reply_aliases = [") || line.starts_with("        fix: ");
}

void check_screen(const std::string& path, const std::string& found) {
    if (const char* update = std::getenv("UDPPROXY_GOLDEN_UPDATE");
        update != nullptr && *update == '1')
        std::ofstream{path, std::ios::binary} << found;
    const std::string expected = read_file(path);
    CHECK_MESSAGE(found == expected, path << " is not what is shown:\n" << found);
}

TEST_CASE("screens are as in the golden files, and no line is wider than the terminal") {
    ::setenv("TZ", "UTC", 1);
    ::tzset();
    std::set<std::string> seen;
    for (const auto& entry :
         std::filesystem::directory_iterator{source_path("tests/unit/golden/screens")}) {
        if (entry.path().extension() != ".json") continue;
        const std::string name = entry.path().stem().string();
        CAPTURE(name);
        const auto view = views().find(name.substr(0, name.find('-')));
        REQUIRE(view != views().end());
        seen.insert(view->first);
        const Json answer = Json::parse(read_file(entry.path().string()));
        for (const std::size_t width : {width_min, std::size_t{80}, std::size_t{160}}) {
            CAPTURE(width);
            const std::string found = view->second(answer, width);
            for (const std::string& line : lines_of(found))
                CHECK_MESSAGE((width_of(line) <= width || is_to_be_copied(line)), line);
            if (view->first == "top") CHECK(lines_of(found).size() <= rows_of_top);
            if (width > width_min)
                check_screen((entry.path().parent_path() / name).string() + '.' +
                                 std::to_string(width) + ".txt",
                             found);
        }
    }
    for (const auto& entry : views()) CHECK_MESSAGE(seen.count(entry.first) == 1, entry.first);
}

Json starts_of(std::uint64_t crash, std::uint64_t upgrade, std::uint64_t undone) {
    return {{"first", 1}, {"crash", crash}, {"upgrade", upgrade}, {"undone", undone}};
}

TEST_CASE("the outcome of an upgrade is read from the status of whichever worker serves") {
    const Json asked{
        {"version", "0.1.0"}, {"pid", 7}, {"starts", starts_of(2, 1, 0)}, {"upgrades_refused", 3}};
    Json status{{"version", "0.1.0"}, {"pid", 7}};
    const auto outcome = [&](const char* reason, const Json& starts, std::uint64_t refused) {
        status["worker"] = {{"reason", reason},
                            {"starts", starts},
                            {"last_end", "signal 9 (Killed)"},
                            {"sessions_adopted", 5},
                            {"sessions_closed", 0},
                            {"pause_ms", 1.5},
                            {"upgrades_refused", refused},
                            {"last_refusal", "no"}};
        const std::optional<Json> found = outcome_of_upgrade(asked, status);
        return found ? text(*found, "outcome") + ", " + text(*found, "reason") : "";
    };
    CHECK(outcome("upgrade", starts_of(2, 1, 0), 3).empty());  // that of an hour ago
    CHECK(outcome("upgrade", starts_of(2, 1, 0), 4) == "refused, no");
    CHECK(outcome("upgrade", starts_of(2, 2, 0), 0) == "upgraded, ");
    CHECK(outcome("undone", starts_of(2, 2, 1), 0) == "undone, signal 9 (Killed)");
    CHECK(outcome("undone", starts_of(2, 1, 1), 1) == "undone, no");
    // The worker died while the program was asked: the keeper asks again.
    CHECK(outcome("crash", starts_of(3, 1, 0), 0).empty());
    // It died while it handed over.
    CHECK(outcome("crash", starts_of(3, 1, 0), 1) == "refused, no");
    CHECK(outcome("crash", starts_of(3, 2, 0), 0) == "crashed, signal 9 (Killed)");
    status["pid"] = 8;
    CHECK(outcome("first", starts_of(0, 0, 0), 0) == "restarted, ");
}

TEST_CASE("names are shortened before a column goes, and columns go by rank") {
    const std::vector<Column> columns{{.heading = "NAME", .least = 8},
                                      {.heading = "FIRST", .rank = 2},
                                      {.heading = "LATER", .rank = 1},
                                      {.heading = "DROPS", .is_number = true}};
    const Rows rows{{"a-name-of-twenty-six-bytes", "0123456789", "9876543210", "42"}};
    CHECK(table(columns, rows, 60) ==
          "NAME                        FIRST       LATER       DROPS\n"
          "a-name-of-twenty-six-bytes  0123456789  9876543210     42\n");
    CHECK(table(columns, rows, 50) ==
          "NAME                 FIRST       LATER       DROPS\n"
          "a-name-of\u2026six-bytes  0123456789  9876543210     42\n");
    CHECK(table({columns[0], columns[1], columns[2], columns[2], columns[3]},
                {{rows[0][0], rows[0][1], rows[0][2], rows[0][2], "42"}}, 48) ==
          "NAME               LATER       LATER       DROPS\n"
          "a-name-o\u2026ix-bytes  9876543210  9876543210     42\n"
          "not shown, for want of width: FIRST\n");
}

TEST_CASE("a table without a limit of width is whole") {
    const Rows rows{{std::string(300, 'x'), "42"}};
    const std::vector<Column> columns{{.heading = "NAME", .rank = 1, .least = 8},
                                      {.heading = "DROPS", .is_number = true}};
    CHECK(table(columns, rows, unlimited) ==
          "NAME" + std::string(296, ' ') + "  DROPS\n" + std::string(300, 'x') + "     42\n");
}

TEST_CASE("what stays whatever happens is shortened where even that does not fit") {
    const Rows rows{{std::string(50, 'x'), std::string(50, 'y')}};
    const std::vector<std::string> lines =
        lines_of(table({{.heading = "ONE"}, {.heading = "OTHER"}}, rows, width_min));
    REQUIRE(lines.size() == 2);
    CHECK(width_of(lines[1]) == width_min);
}

TEST_CASE("lines are broken at blanks, and a longer word where the line ends") {
    CHECK(wrapped("  one two  three", 4, 16) == "  one two  three");
    CHECK(wrapped("  one two  three", 4, 15) == "  one two\n    three");
    CHECK(wrapped("  one two", 4, 7) == "  one\n    two");
    CHECK(wrapped("12345678", 2, 5) == "12345\n  678");
    CHECK(wrapped("a 12345678", 2, 5) == "a 123\n  456\n  78");
    CHECK(wrapped("have 12 345", 2, 8) == "have\n  12 345");
    CHECK(wrapped("\u00e4\u00e4\u00e4 \u00e4", 0, 3) == "\u00e4\u00e4\u00e4\n\u00e4");
    CHECK(wrapped("", 2, 5).empty());
}

TEST_CASE("an ellipsis stands where a name was shortened, never inside a character") {
    CHECK(shortened("frankfurt", 9) == "frankfurt");
    CHECK(shortened("frankfurt-1", 8) == "fran\u2026t-1");
    CHECK(shortened("\u00e4\u00f6\u00fc\u00df", 3) == "\u00e4\u2026\u00df");
    CHECK(shortened("ab", 1) == "\u2026");
}

}  // namespace
}  // namespace udpproxy::ctl
