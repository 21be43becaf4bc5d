// docs/configuration.md and udpproxy.toml.example against the code's list of keys: nothing missing,
// nothing stale, nothing that does not work.
#include <algorithm>

#include "config_dump.hpp"
#include "source_tree.hpp"
#include "udpproxy/config/keys.hpp"

namespace udpproxy {
namespace {

std::string heading(std::string_view section) {
    return section == "proxy" ? "[[proxy]]" : "[" + std::string{section} + "]";
}

bool starts_with(const std::string& line, std::string_view start) {
    return line.compare(0, start.size(), start) == 0;
}

std::string default_cell(const ConfigKey& key) {
    if (!key.default_value.empty()) return "`" + std::string{key.default_value} + "`";
    return key.name == "name" || key.name == "listen" || key.name == "upstream" ? "required"
                                                                                : "absent";
}

std::string effect_cell(const ConfigKey& key) {
    switch (key.takes_effect) {
        case TakesEffect::at_reload:
            return "at reload";
        case TakesEffect::at_restart:
            return "at restart";
        case TakesEffect::at_restart_for_listeners:
            return "at reload, listeners: at restart";
    }
    return {};
}

/// The row that a key has in its section's table; a bar inside a cell is escaped.
std::string table_row(const ConfigKey& key) {
    std::string values;
    for (const char letter : key.values)
        values += letter == '|' ? std::string{"\\|"} : std::string{letter};
    return "| `" + std::string{key.name} + "` | " + std::string{key.kind} + " | " + values + " | " +
           default_cell(key) + " | " + effect_cell(key) + " | " + std::string{key.summary} + " |";
}

Config accepted(const std::string& text, const std::string& name) {
    std::variant<Config, ConfigComplaints> result = parse_config(text, name);
    if (const auto* complaints = std::get_if<ConfigComplaints>(&result))
        for (const std::string& line : complaints->lines) MESSAGE(line);
    REQUIRE(std::holds_alternative<Config>(result));
    return std::get<Config>(result);
}

/// The example up to, and from, the floating address, which stands there as comments.
struct Example {
    std::vector<std::string> loopback;
    std::vector<std::string> floating_address;
};

Example read_example() {
    const std::vector<std::string> lines =
        lines_of(read_file(source_path("udpproxy.toml.example")));
    const auto cut = std::find(lines.begin(), lines.end(), "#[[proxy]]");
    REQUIRE(cut != lines.end());
    return {{lines.begin(), cut}, {cut, lines.end()}};
}

/// Takes the sign off `#key = value`, but leaves prose, which has a space behind the sign.
std::string enabled(const std::string& line) {
    return line.size() > 1 && line[0] == '#' && line[1] != ' ' ? line.substr(1) : line;
}

std::string joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line + '\n';
    return text;
}

TEST_CASE("docs/configuration.md has a table for each section, with exactly the keys of the code") {
    std::vector<std::string> expected;
    std::string_view section;
    for (const ConfigKey& key : config_keys()) {
        if (key.section != section) expected.push_back("## " + heading(key.section));
        section = key.section;
        expected.push_back(table_row(key));
    }
    std::vector<std::string> found;
    bool is_in_table = false;
    for (const std::string& line : lines_of(read_file(source_path("docs/configuration.md")))) {
        if (starts_with(line, "## [")) found.push_back(line);
        if (starts_with(line, "| `") && is_in_table) found.push_back(line);
        is_in_table = starts_with(line, "| Key |") || (is_in_table && starts_with(line, "|"));
    }
    for (std::size_t i = 0; i < std::max(expected.size(), found.size()); ++i)
        CHECK((i < found.size() ? found[i] : "(missing)") ==
              (i < expected.size() ? expected[i] : "(nothing)"));
}

TEST_CASE("every configuration shown in the documents is accepted") {
    for (const std::string document : {"docs/configuration.md", "docs/protocols.md"}) {
        int blocks = 0;
        bool is_toml = false;
        std::string block;
        for (const std::string& line : lines_of(read_file(source_path(document)))) {
            if (is_toml && line == "```") {
                accepted(block, document);
                ++blocks;
                is_toml = false;
            } else if (is_toml) {
                block += line + '\n';
            } else if (line == "```toml") {
                is_toml = true;
                block.clear();
            }
        }
        CHECK(blocks > 0);
        CHECK_FALSE(is_toml);
    }
}

TEST_CASE("the complaints that docs/configuration.md shows are those of one file") {
    const auto outcome = parse_config(
        "[[proxy]]\nname = \"dns\"\nlisten = \"10.1.0.1\"\nupstream = \"10.0.0.254:53\"\n"
        "reply_aliases = [\"10.0.0.253\", \"2001:db8::1\"]\nidle-timeout = \"30s\"\n",
        "udpproxy.toml");
    std::vector<std::string> shown;
    for (const std::string& line : lines_of(read_file(source_path("docs/configuration.md"))))
        if (starts_with(line, "    udpproxy.toml:")) shown.push_back(line.substr(4));
    REQUIRE(std::holds_alternative<ConfigComplaints>(outcome));
    CHECK(joined(std::get<ConfigComplaints>(outcome).lines) == joined(shown));
}

TEST_CASE(
    "udpproxy.toml.example has every key, in its section and in the order of the code, set or as a "
    "comment with its default") {
    std::vector<std::string> expected;
    for (const ConfigKey& key : config_keys())
        expected.push_back(heading(key.section) + " " + std::string{key.name});
    std::vector<std::string> found;
    std::string section;
    for (const std::string& line : read_example().loopback) {
        const std::string text = enabled(line);
        if (starts_with(text, "[")) section = text;
        const std::size_t equals = text.find(" = ");
        if (starts_with(text, "#") || equals == std::string::npos) continue;
        const std::string entry = section + " " + text.substr(0, equals);
        if (found.empty() || found.back() != entry)
            found.push_back(entry);  // reply_aliases stands there as a comment and set
        if (line == text) continue;
        for (const ConfigKey& key : config_keys())
            if (heading(key.section) + " " + std::string{key.name} == entry &&
                !key.default_value.empty())
                CHECK(text == std::string{key.name} + " = " + std::string{key.default_value});
    }
    CHECK(joined(found) == joined(expected));
}

TEST_CASE("udpproxy.toml.example runs on loopback as it is") {
    const std::string text =
        joined(read_example().loopback) + joined(read_example().floating_address);
    const Config config = accepted(text, "udpproxy.toml.example");
    REQUIRE(config.proxies.size() == 1);
    Config expected;
    expected.proxies.emplace_back();
    ProxyConfig& proxy = expected.proxies[0];
    proxy.name = "example";
    proxy.listen = {{parse_endpoint("127.0.0.1:12345").value(), "127.0.0.1:12345"}};
    proxy.upstream = {parse_endpoint("127.0.0.254:12345").value(), "", 12345, "127.0.0.254:12345"};
    for (const char* address : {"127.0.0.253", "127.0.0.252"})
        proxy.reply_aliases.push_back(
            {Prefix{parse_address(address).value(), 32}, 0, std::uint16_t{12345}, address});
    CHECK(dump(config) == dump(expected));
}

TEST_CASE(
    "taking the sign off each default in udpproxy.toml.example changes nothing, and the other keys "
    "are right as well") {
    std::string text;
    for (const std::string& line : read_example().loopback)
        if (line != "#reply_aliases = []")
            text += enabled(line) + '\n';  // that one is set a line below
    Config config = accepted(text, "udpproxy.toml.example");
    CHECK(config.proxies.at(0).source.size() == 1);
    CHECK(config.proxies.at(0).ports == PortRange{20000, 59999});
    config.proxies.at(0).source.clear();
    config.proxies.at(0).ports.reset();
    CHECK(dump(config) == dump(accepted(joined(read_example().loopback), "udpproxy.toml.example")));
}

TEST_CASE("the floating address in udpproxy.toml.example is a configuration of its own") {
    std::string text;
    for (const std::string& line : read_example().floating_address) text += enabled(line) + '\n';
    const Config config = accepted(text, "udpproxy.toml.example");
    REQUIRE(config.proxies.size() == 1);
    CHECK(config.proxies[0].listen.size() == 2);
    CHECK(config.proxies[0].upstream.text == "10.0.0.254:12345");
    CHECK(config.proxies[0].reply_aliases.size() == 2);
}

}  // namespace
}  // namespace udpproxy
