// Caddyfiles to TOML: what is taken over, what is complained about and where, and that no file at
// all brings the reader down.
#include "udpproxy/config/caddyfile.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>

#include "source_tree.hpp"

namespace udpproxy {
namespace {

const std::map<std::string, std::string> variables{
    {"PORT", "12345"}, {"ALIASES", "10.0.0.9:1 10.0.0.8:1"}, {"EMPTY", ""}};

std::variant<std::string, ConfigComplaints> migrate(std::string_view text) {
    return migrate_caddyfile(
        text, "Caddyfile", [](const std::string& name) -> std::optional<std::string> {
            const auto found = variables.find(name);
            return found != variables.end() ? std::optional<std::string>{found->second}
                                            : std::nullopt;
        });
}

std::string complaints_of(std::string_view text) {
    const auto outcome = migrate(text);
    if (const auto* toml = std::get_if<std::string>(&outcome)) return "accepted:\n" + *toml;
    std::string lines;
    for (const std::string& line : std::get<ConfigComplaints>(outcome).lines) lines += line + '\n';
    return lines;
}

Config config_of(std::string_view text) {
    const auto outcome = migrate(text);
    REQUIRE_MESSAGE(std::holds_alternative<std::string>(outcome), complaints_of(text));
    const auto config = parse_config(std::get<std::string>(outcome), "migrated.toml");
    REQUIRE_MESSAGE(std::holds_alternative<Config>(config),
                    std::get<ConfigComplaints>(config).lines.front());
    return std::get<Config>(config);
}

std::vector<std::string> aliases_of(const ProxyConfig& proxy) {
    std::vector<std::string> texts;
    for (const Alias& alias : proxy.reply_aliases) texts.push_back(alias.text);
    return texts;
}

constexpr std::string_view origin =
    "proxy :12345 10.0.0.254:12345 {\n    reply-addr-alias 10.0.0.253:12345 10.0.0.252:12345\n}\n";

TEST_CASE("the block of the origin's README becomes a proxy with the same addresses") {
    const auto outcome = migrate(origin);
    REQUIRE(std::holds_alternative<std::string>(outcome));
    CHECK(std::get<std::string>(outcome) ==
          "# Line 1 of the Caddyfile.\n[[proxy]]\nname = \"proxy-12345\"\nlisten = "
          "\":12345\"\nupstream = \"10.0.0.254:12345\"\n"
          "reply_aliases = [\n    \"10.0.0.253:12345\",\n    \"10.0.0.252:12345\",\n]\n");
    CHECK(config_of(origin).proxies.at(0).listen.size() == 2);
}

TEST_CASE("several blocks become several proxies, each with a name of its own") {
    const Config config = config_of(
        "# two of them\r\nproxy 10.0.0.1:53 10.1.0.1:53 {\r\n}\r\n\r\nPROXY, 10.0.0.2:53, "
        "[2001:db8::1]:53 {\n\treply-addr-alias "
        "[2001:db8::2]:53 # the second\n"
        "\treply-addr-alias \"[2001:db8::3]:53\"\n}\n");
    REQUIRE(config.proxies.size() == 2);
    CHECK(config.proxies[0].name == "proxy-53");
    CHECK(config.proxies[0].reply_aliases.empty());
    CHECK(config.proxies[1].name == "proxy-53-2");
    CHECK(aliases_of(config.proxies[1]) ==
          std::vector<std::string>{"[2001:db8::2]:53", "[2001:db8::3]:53"});
}

TEST_CASE("a single block needs no braces") {
    CHECK(aliases_of(config_of("proxy :1 10.0.0.1:1\nreply-addr-alias 10.0.0.2:1").proxies.at(0)) ==
          std::vector<std::string>{"10.0.0.2:1"});
    CHECK(config_of("proxy :1 10.0.0.1:1").proxies.size() == 1);
    CHECK(complaints_of("proxy :1 10.0.0.1:1\nproxy :2 10.0.0.1:2\n") ==
          "Caddyfile:2:1: \"proxy\": a block inside the block of line 1; write braces around the "
          "lines of each block\n");
}

TEST_CASE("environment variables become their values, in both spellings and inside words") {
    const Config config = config_of("proxy :{$PORT} 10.0.0.7:{%PORT%}{$EMPTY} {\n}\n");
    CHECK(config.proxies.at(0).upstream.text == "10.0.0.7:12345");
    CHECK(complaints_of("proxy :1 {$NO_SUCH}:1 {\n}\n")
              .find("Caddyfile:1:10: \"{$NO_SUCH}:1\": the environment variable \"NO_SUCH\" is not "
                    "set") == 0);
    CHECK(complaints_of("proxy :1 {$PORT:1 {\n}\n")
              .find("Caddyfile:1:10: \"{$PORT:1\": the end of the variable, \"}\", is missing") ==
          0);
    // One word stays one word, as with Caddy.
    CHECK(complaints_of("proxy :1 10.0.0.1:1 {\nreply-addr-alias {$ALIASES}\n}\n")
              .find("Caddyfile:2:18: reply-addr-alias: ") == 0);
}

TEST_CASE(
    "what the origin did not mind is left out with a remark: an alias listed twice, the upstream "
    "among the aliases") {
    const std::string text =
        "proxy :1 10.0.0.1:1 {\nreply-addr-alias 10.0.0.2:1 10.0.0.1:1 10.0.0.2:1\n}\n";
    CHECK(aliases_of(config_of(text).proxies.at(0)) == std::vector<std::string>{"10.0.0.2:1"});
    CHECK(std::get<std::string>(migrate(text))
              .find("# 10.0.0.1:1 is left out: listed already.\n# 10.0.0.2:1 is left out") !=
          std::string::npos);
}

TEST_CASE("an upstream without an address is loopback, as Go has it") {
    CHECK(config_of("proxy :1 :2 {\n}\n").proxies.at(0).upstream.text == "127.0.0.1:2");
}

TEST_CASE("every complaint names its directive and where it stands") {
    const auto begins = [](std::string_view text, std::string_view start) {
        const std::string complaints = complaints_of(text);
        CHECK_MESSAGE(complaints.substr(0, start.size()) == start, complaints);
    };
    begins("proxy :1 10.0.0.1:1 {\n  tls off\n}\n",
           "Caddyfile:2:3: \"tls\": unknown directive; `proxy` blocks have `reply-addr-alias` "
           "alone\n");
    begins("proxy :1 10.0.0.1:1 {\n  reply-addr-alais 10.0.0.2:1\n}\n",
           "Caddyfile:2:3: \"reply-addr-alais\": unknown directive; did you mean "
           "`reply-addr-alias`?\n");
    begins("proxy :1 10.0.0.1:1 {\n  reply-addr-alias\n}\n",
           "Caddyfile:2:3: \"reply-addr-alias\": no address");
    begins("proxy :1 10.0.0.1:1 {\n  reply-addr-alias 10.0.0.2:1 host:1\n}\n",
           "Caddyfile:2:31: reply-addr-alias: \"host\" is");
    begins("echo :1 {\n  whatever {\n  }\n}\nproxy :1 10.0.0.1:1 {\n}\n",
           "Caddyfile:1:1: \"echo\": not a block that can be migrated");
    begins("(snippet) {\n", "Caddyfile:1:1: \"(snippet)\": the closing brace of this snippet");
    begins("(snippet)\n", "Caddyfile:1:1: \"(snippet)\": a snippet is written `(name) {`");
    begins("import other\n", "Caddyfile:1:1: import: there is no snippet of this name before");
    begins("(a) {\n  import a\n}\n", "Caddyfile:2:3: import: there is no snippet of this name");
    begins("proxy :1 {\n}\n",
           "Caddyfile:1:1: \"proxy\": proxy has two addresses, where to listen and where to send "
           "to; 1 given\n");
    begins("proxy :1 10.0.0.1:1 10.0.0.2:1 {\n}\n",
           "Caddyfile:1:21: \"10.0.0.2:1\": proxy has two addresses, where to listen and where to "
           "send to; 3 given\n");
    begins("proxy :1 10.0.0.1:1 {}\n", "Caddyfile:1:21: \"{}\": a brace stands alone");
    begins("proxy :1 10.0.0.1:1 {\n",
           "Caddyfile:1:1: \"proxy\": the closing brace of this block is missing\n");
    begins("}\n", "Caddyfile:1:1: \"}\": a brace without its block");
    begins("proxy :1 10.0.0.1:1\n}\n",
           "Caddyfile:2:1: \"}\": a closing brace without an opening one\n");
    begins("proxy :1 10.0.0.1:1 {\n} proxy\n",
           "Caddyfile:2:3: \"proxy\": a closing brace stands on a line of its own\n");
    begins("proxy :0 10.0.0.1:1 {\n}\n", "Caddyfile:1:7: proxy: ");
    begins("proxy :1 10.0.0.1 {\n}\n", "Caddyfile:1:10: proxy: ");
    begins("proxy \":1 10.0.0.1:1 {\n}\n",
           "Caddyfile:1:7: syntax: a quotation mark that is never closed\n");
    begins("proxy :1 \"\" {\n}\n", "Caddyfile:1:10: proxy: ");
    begins(", {\n}\n", "Caddyfile:1:1: \",\": not a block");
    begins("", "Caddyfile:1:1: proxy: there is no `proxy LISTEN UPSTREAM");
    begins("# é\nproxy :1 é:1 {\n}\n", "Caddyfile:2:10: proxy: ");
}

TEST_CASE("a header goes on in the next line after a comma, as in Caddy") {
    const Config config = config_of("proxy :1,\n  10.0.0.1:1 {\n}\nproxy, :2,\n10.0.0.1:2 {\n}\n");
    REQUIRE(config.proxies.size() == 2);
    CHECK(config.proxies[1].upstream.text == "10.0.0.1:2");
}

TEST_CASE("the lines of a snippet stand where it is imported, whole blocks too") {
    const Config config = config_of(
        "(members) {\n  reply-addr-alias 10.0.0.3:{$PORT}\n}\n"
        "(dns) {\n  proxy :53 10.0.0.1:53 {\n    import members\n  }\n}\n"
        "import dns\nproxy :1 10.0.0.1:1 {\n  IMPORT members\n  reply-addr-alias 10.0.0.2:1\n}\n");
    REQUIRE(config.proxies.size() == 2);
    CHECK(aliases_of(config.proxies[0]) == std::vector<std::string>{"10.0.0.3:12345"});
    CHECK(aliases_of(config.proxies[1]) ==
          std::vector<std::string>{"10.0.0.3:12345", "10.0.0.2:1"});
}

TEST_CASE("snippets that multiply are complained about in time") {
    std::string text = "(s0) {\n  a\n  a\n}\n";
    for (int i = 1; i < 60; ++i)
        text += "(s" + std::to_string(i) + ") {\n  import s" + std::to_string(i - 1) +
                "\n  import s" + std::to_string(i - 1) + "\n}\n";
    CHECK(complaints_of(text + "import s59\n").find("snippets bring more than 10000 lines") !=
          std::string::npos);
}

TEST_CASE("names of services and of hosts become ports and addresses, as Go resolves them") {
    const auto migrate_with_names = [](std::string_view text) {
        return migrate_caddyfile(
            text, "Caddyfile", [](const std::string&) { return std::nullopt; },
            [](const std::string& name) {
                return name == "domain" ? std::optional<std::uint16_t>{53} : std::nullopt;
            },
            [](const std::string& name) {
                if (name == "vip.test")
                    return std::vector<Address>{parse_address("10.0.0.9").value()};
                if (name != "members.test") return std::vector<Address>{};
                return std::vector<Address>{parse_address("10.0.0.2").value(),
                                            parse_address("10.0.0.4").value()};
            });
    };
    const auto outcome = migrate_with_names(
        "proxy vip.test:domain upstream.test:domain {\n"
        "  reply-addr-alias members.test:domain 10.0.0.3:domain\n}\n");
    REQUIRE(std::holds_alternative<std::string>(outcome));
    CHECK(std::get<std::string>(outcome) ==
          "# Line 1 of the Caddyfile.\n[[proxy]]\nname = \"proxy-53\"\nlisten = \"10.0.0.9:53\"\n"
          "upstream = \"upstream.test:53\"\n"
          "# members.test:53 had the addresses 10.0.0.2:53, 10.0.0.4:53.\n"
          "reply_aliases = [\n    \"10.0.0.2:53\",\n    \"10.0.0.4:53\",\n    "
          "\"10.0.0.3:53\",\n]\n");
    const auto unknown = migrate_with_names("proxy :nonsense 10.0.0.1:1 {\n}\n");
    REQUIRE(std::holds_alternative<ConfigComplaints>(unknown));
}

TEST_CASE("what only the whole shows is complained about at the Caddyfile's places") {
    CHECK(complaints_of("proxy :1 10.0.0.1:1 {\n}\nproxy :1 10.0.0.2:1 {\n}\n")
              .find("Caddyfile:3:7: as TOML: proxy \"proxy-1-2\": listen: \":1\" is the same as") ==
          0);
    CHECK(complaints_of("proxy :1 127.0.0.1:1 {\n}\n")
              .find("Caddyfile:1:10: as TOML: proxy \"proxy-1\": upstream: ") == 0);
    CHECK(complaints_of("proxy :1 10.0.0.1:1 {\nreply-addr-alias 10.0.0.2:1 [2001:db8::1]:1\n}\n")
              .find("Caddyfile:2:29: as TOML: ") == 0);
}

/// The fenced blocks of docs/migrating.md that begin with this line.
std::vector<std::string> blocks_of_document(const std::string& fence) {
    std::vector<std::string> blocks;
    bool is_inside = false;
    bool is_wanted = false;
    for (const std::string& line : lines_of(read_file(source_path("docs/migrating.md")))) {
        if (line.rfind("```", 0) == 0) {
            is_wanted = !is_inside && line == fence;
            is_inside = !is_inside;
            if (is_wanted) blocks.emplace_back();
        } else if (is_wanted) {
            blocks.back() += line + '\n';
        }
    }
    return blocks;
}

TEST_CASE("docs/migrating.md shows what is printed, and only configurations that are accepted") {
    const std::vector<std::string> caddyfiles = blocks_of_document("```");
    const std::vector<std::string> configurations = blocks_of_document("```toml");
    REQUIRE(caddyfiles.size() == 1);
    REQUIRE(configurations.size() == 2);
    CHECK(std::get<std::string>(migrate(caddyfiles[0])) == configurations[0]);
    for (const std::string& text : configurations)
        CHECK(std::holds_alternative<Config>(parse_config(text, "docs/migrating.md")));
}

TEST_CASE("a file that is not there is named") {
    const auto outcome = migrate_caddyfile("/nonexistent/Caddyfile");
    REQUIRE(std::holds_alternative<ConfigComplaints>(outcome));
    CHECK(std::get<ConfigComplaints>(outcome).lines.at(0) ==
          "/nonexistent/Caddyfile: cannot be read: No such file or directory");
}

TEST_CASE(
    "twenty thousand mutated files are migrated to what is accepted, or complained about with a "
    "place") {
    const std::vector<std::string> seeds{
        std::string{origin},
        "# a comment\nproxy 10.0.0.1:53 host.example:53 {\n\treply-addr-alias \"10.0.0.3\" "
        "10.0.0.0/24:* # more\n}\nproxy [::1]:1 "
        "[fd00::1]:2 {\n}\n",
        "proxy :{$PORT} {%PORT%}:1\nreply-addr-alias {$EMPTY} {$NONE}\n",
    };
    const std::vector<std::string> pieces{"{",
                                          "}",
                                          "\n",
                                          "\"",
                                          "\\\"",
                                          "#",
                                          "{$",
                                          "{%",
                                          "%}",
                                          "proxy ",
                                          "reply-addr-alias ",
                                          ",",
                                          "\t",
                                          "\xff",
                                          "\xc3",
                                          "\r\n",
                                          std::string(1, '\0'),
                                          ":",
                                          "[",
                                          "]",
                                          "/",
                                          "*",
                                          "import x\n",
                                          "65536",
                                          "(s) {\n",
                                          "\xef\xbb\xbf"};
    std::mt19937 random{20260801};  // the same files every time
    int accepted = 0;
    for (int round = 0; round < 20000; ++round) {
        std::string text = seeds[random() % seeds.size()];
        for (auto change = random() % 5; change > 0; --change) {
            const std::size_t at = random() % (text.size() + 1);
            switch (random() % 4) {
                case 0:
                    text.insert(at, pieces[random() % pieces.size()]);
                    break;
                case 1:
                    text.erase(at, random() % 8);
                    break;
                case 2:
                    text.insert(at, text.substr(random() % (text.size() + 1), random() % 32));
                    break;
                default:
                    if (at < text.size()) text[at] = static_cast<char>(random() % 256);
            }
        }
        const auto outcome = migrate(text);
        if (const auto* toml = std::get_if<std::string>(&outcome)) {
            ++accepted;
            const auto config = parse_config(*toml, "t");
            if (!std::holds_alternative<Config>(config)) FAIL(text << "\nbecame\n" << *toml);
        } else {
            const auto& lines = std::get<ConfigComplaints>(outcome).lines;
            if (lines.empty()) FAIL("no complaint about\n" << text);
            for (const std::string& line : lines)
                if (line.substr(0, 10) != "Caddyfile:" ||
                    line.find_first_of("\n\r") != std::string::npos)
                    FAIL(line);
        }
    }
    CHECK(accepted > 1000);
}

}  // namespace
}  // namespace udpproxy
