// From text to a configuration: what is read into which field, which complaints are made, and that
// no file breaks the reader. Complaints live as golden files in golden/config: NAME.toml and, in
// NAME.expected, the complaints word for word, or `ok` and the summary. To accept a change, run
// with UDPPROXY_GOLDEN_UPDATE=1 and read what git shows.
#include "udpproxy/config/config.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "config_dump.hpp"
#include "source_tree.hpp"
#include "udpproxy/config/keys.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {
namespace {

const std::string minimal =
    "[[proxy]]\nname = \"dns\"\nlisten = \"127.0.0.1:12345\"\nupstream = \"127.0.0.254:12345\"\n";

Config accepted(const std::string& text) {
    std::variant<Config, ConfigComplaints> result = parse_config(text, "test.toml");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&result))
        for (const std::string& line : complaints->lines) MESSAGE(line);
    REQUIRE(std::holds_alternative<Config>(result));
    return std::get<Config>(result);
}

std::vector<std::string> complaints(const std::string& text) {
    std::variant<Config, ConfigComplaints> result = parse_config(text, "test.toml");
    REQUIRE(std::holds_alternative<ConfigComplaints>(result));
    REQUIRE_FALSE(std::get<ConfigComplaints>(result).lines.empty());
    return std::get<ConfigComplaints>(result).lines;
}

/// What golden files hold: the complaints, or `ok` and the summary.
std::string verdict(const std::string& text, const std::string& name) {
    const std::variant<Config, ConfigComplaints> result = parse_config(text, name);
    if (const auto* config = std::get_if<Config>(&result)) return "ok\n" + summarise(*config);
    std::string lines;
    for (const std::string& line : std::get<ConfigComplaints>(result).lines) lines += line + '\n';
    return lines;
}

std::string diff(const std::string& expected, const std::string& found) {
    const std::vector<std::string> left = lines_of(expected);
    const std::vector<std::string> right = lines_of(found);
    std::string text;
    for (const std::string& line : left)
        if (std::find(right.begin(), right.end(), line) == right.end()) text += "\n- " + line;
    for (const std::string& line : right)
        if (std::find(left.begin(), left.end(), line) == left.end()) text += "\n+ " + line;
    return text.empty() ? "\n(the same lines in another order or number)" : text;
}

TEST_CASE("complaints are as in the golden files") {
    const char* update = std::getenv("UDPPROXY_GOLDEN_UPDATE");
    std::set<std::string> cases;
    for (const auto& entry :
         std::filesystem::directory_iterator{source_path("tests/unit/golden/config")}) {
        const std::string extension = entry.path().extension().string();
        CHECK_MESSAGE((extension == ".toml" || extension == ".expected"),
                      entry.path() << " is no golden file");
        cases.insert((entry.path().parent_path() / entry.path().stem()).string());
    }
    CHECK(cases.size() > 20);
    for (const std::string& path : cases) {
        const std::string name = std::filesystem::path{path}.filename().string() + ".toml";
        CAPTURE(name);
        const std::string found = verdict(read_file(path + ".toml"), name);
        if (update != nullptr && *update == '1')
            std::ofstream{path + ".expected", std::ios::binary} << found;
        const std::string expected = read_file(path + ".expected");
        CHECK_MESSAGE(found == expected, name << ": - expected, + found" << diff(expected, found));
    }
}

TEST_CASE("a proxy of three keys has the defaults that config.hpp gives") {
    const Config config = accepted(minimal);
    Config expected;
    expected.proxies.emplace_back();
    expected.proxies[0].name = "dns";
    expected.proxies[0].listen = {{parse_endpoint("127.0.0.1:12345").value(), "127.0.0.1:12345"}};
    expected.proxies[0].upstream = {parse_endpoint("127.0.0.254:12345").value(), "", 12345,
                                    "127.0.0.254:12345"};
    CHECK(dump(config) == dump(expected));
    CHECK(config.sessions_max_position.empty());
}

TEST_CASE("writing each key's default changes nothing") {
    std::string text;
    std::string_view section;
    for (const ConfigKey& key : config_keys()) {
        if (key.section != section)
            text += key.section == "proxy" ? minimal
                                           : std::string{'['}.append(key.section).append("]\n");
        section = key.section;
        if (!key.default_value.empty())
            text += std::string{key.name} + " = " + std::string{key.default_value} + '\n';
    }
    CAPTURE(text);
    CHECK(dump(accepted(text)) == dump(accepted(minimal)));
}

TEST_CASE("each key is read into its field") {
    const Config config =
        accepted(read_file(source_path("tests/unit/golden/config/accepted_everything.toml")));
    CHECK(dump(config) ==
          "runtime.engine io_uring\n"
          "runtime.shards 4\n"
          "runtime.cpu_pinning true\n"
          "runtime.busy_poll 50us\n"
          "runtime.batch_wait 20us\n"
          "log.level warn\n"
          "log.format json\n"
          "log.file /var/log/udpproxy.log\n"
          "log.sessions true\n"
          "limits.sessions_max 100000\n"
          "limits.new_sessions_per_second 5000\n"
          "limits.new_sessions_burst 20000\n"
          "limits.pool_min 100\n"
          "admin.socket /run/other.sock\n"
          "admin.group games\n"
          "admin.listen [2001:db8::1]:9090\n"
          "admin.allow_remote true\n"
          "proxy.name dns\n"
          "proxy.listen  10.1.0.1:53(10.1.0.1:53) [::1]:53([::1]:53) 0.0.0.0:54(:54) [::]:54(:54)\n"
          "proxy.upstream 10.0.0.254:53 port 53(10.0.0.254:53)\n"
          "proxy.on_change close\n"
          "proxy.reply_aliases  10.0.0.253/32%0:53(10.0.0.253:53) 10.0.0.252/32%0:53(10.0.0.252)"
          " 10.0.0.0/24%0:53(10.0.0.0/24:53) 10.0.0.251/32%0:-1(10.0.0.251:*)"
          " 10.0.0.0/24%0:-1(10.0.0.0/24:*)\n"
          "proxy.alias_filter open\n"
          "proxy.unlisted_replies off\n"
          "proxy.source  10.0.0.1 10.0.0.2\n"
          "proxy.ports 20000-59999\n"
          "proxy.port_cooldown 0s\n"
          "proxy.idle_timeout 90m\n"
          "proxy.unassured_timeout 500ms\n"
          "proxy.sessions_max 65536\n"
          "proxy.sessions_per_client_max 16\n"
          "proxy.new_sessions_per_second 100\n"
          "proxy.new_sessions_burst 500\n"
          "proxy.amplification_limit 3\n"
          "proxy.replies_max 2\n"
          "proxy.end_after_replies 4\n"
          "proxy.end_after_requests 5\n"
          "proxy.datagram_max 1452\n"
          "proxy.dscp clear\n"
          "proxy.path_mtu omit\n"
          "proxy.offload off\n"
          "proxy.receive_buffer 64KiB\n"
          "proxy.send_buffer 1GiB\n"
          "proxy.name by-name\n"
          "proxy.listen  [2001:db8::53]:53([2001:db8::53]:53)\n"
          "proxy.upstream name dns.example.org port 5353(dns.example.org:5353)\n"
          "proxy.on_change keep\n"
          "proxy.reply_aliases  2001:db8::1/128%0:5353(2001:db8::1) "
          "2001:db8::2/128%0:53([2001:db8::2]:53)"
          " 2001:db8::3/128%0:-1([2001:db8::3]:*) 2001:db8:1::/48%0:53([2001:db8:1::/48]:53)"
          " 2001:db8:2::/48%0:-1([2001:db8:2::/48]:*)\n"
          "proxy.alias_filter auto\n"
          "proxy.unlisted_replies auto\n"
          "proxy.source  2001:db8::5\n"
          "proxy.ports 0-0\n"
          "proxy.port_cooldown 10s\n"
          "proxy.idle_timeout 5m\n"
          "proxy.unassured_timeout 30s\n"
          "proxy.sessions_max auto\n"
          "proxy.sessions_per_client_max 0\n"
          "proxy.new_sessions_per_second 0\n"
          "proxy.new_sessions_burst auto\n"
          "proxy.amplification_limit 0\n"
          "proxy.replies_max 0\n"
          "proxy.end_after_replies 0\n"
          "proxy.end_after_requests 0\n"
          "proxy.datagram_max 0\n"
          "proxy.dscp copy\n"
          "proxy.path_mtu want\n"
          "proxy.offload auto\n"
          "proxy.receive_buffer 4MiB\n"
          "proxy.send_buffer 4MiB\n");
}

TEST_CASE("whether the admin socket was asked for is known, even by its default") {
    CHECK_FALSE(accepted(minimal).admin.socket_given);
    CHECK(
        accepted("[admin]\nsocket = \"/run/udpproxy/admin.sock\"\n" + minimal).admin.socket_given);
}

TEST_CASE("the admin address is a loopback one, unless others are allowed") {
    const auto listen = [](const std::string& lines) {
        return accepted("[admin]\n" + lines + "\n" + minimal).admin.listen;
    };
    CHECK_FALSE(listen("listen = \"\"").has_value());
    CHECK(listen("listen = \"127.1.2.3:9090\"") == parse_endpoint("127.1.2.3:9090").value());
    CHECK(listen("listen = \"[::1]:9090\"") == parse_endpoint("[::1]:9090").value());
    CHECK(listen("allow_remote = true\nlisten = \"10.0.0.1:9090\"") ==
          parse_endpoint("10.0.0.1:9090").value());
}

TEST_CASE("each word is read as the value of its name") {
    const auto engine = [](const std::string& word) {
        return accepted("[runtime]\nengine = \"" + word + "\"\n" + minimal).engine;
    };
    CHECK(engine("auto") == EngineChoice::automatic);
    CHECK(engine("io_uring") == EngineChoice::io_uring);
    CHECK(engine("epoll") == EngineChoice::epoll);
    const auto level = [](const std::string& word) {
        return accepted("[log]\nlevel = \"" + word + "\"\n" + minimal).log_level;
    };
    CHECK(level("error") == LogLevel::error);
    CHECK(level("warn") == LogLevel::warn);
    CHECK(level("info") == LogLevel::info);
    const auto log_format = [](const std::string& word) {
        return accepted("[log]\nformat = \"" + word + "\"\n" + minimal).log_format;
    };
    CHECK(log_format("text") == LogFormat::text);
    CHECK(log_format("json") == LogFormat::json);
    const auto proxy = [](const std::string& line) {
        return accepted(minimal + line + "\n").proxies.at(0);
    };
    CHECK(proxy("on_change = \"keep\"").on_change == OnChange::keep);
    CHECK(proxy("on_change = \"close\"").on_change == OnChange::close);
    CHECK(proxy("alias_filter = \"auto\"").alias_filter == AliasFilter::automatic);
    CHECK(proxy("alias_filter = \"connected\"").alias_filter == AliasFilter::connected);
    CHECK(proxy("alias_filter = \"open\"").alias_filter == AliasFilter::open);
    CHECK(proxy("unlisted_replies = \"auto\"").unlisted_replies == UnlistedReplies::automatic);
    CHECK(proxy("unlisted_replies = \"all\"").unlisted_replies == UnlistedReplies::all);
    CHECK(proxy("unlisted_replies = \"off\"").unlisted_replies == UnlistedReplies::off);
    CHECK(proxy("dscp = \"copy\"").dscp == DscpPolicy::copy);
    CHECK(proxy("dscp = \"clear\"").dscp == DscpPolicy::clear);
    CHECK(proxy("path_mtu = \"want\"").path_mtu == PathMtu::want);
    CHECK(proxy("path_mtu = \"probe\"").path_mtu == PathMtu::probe);
    CHECK(proxy("path_mtu = \"omit\"").path_mtu == PathMtu::omit);
    CHECK(proxy("offload = \"auto\"").offload == Offload::automatic);
    CHECK(proxy("offload = \"off\"").offload == Offload::off);
}

TEST_CASE("bounds are inside") {
    const auto proxy = [](const std::string& line) {
        return accepted(minimal + line + "\n").proxies.at(0);
    };
    CHECK(proxy("port_cooldown = \"1h\"").port_cooldown == std::chrono::hours{1});
    CHECK(proxy("port_cooldown = \"1us\"").port_cooldown == std::chrono::microseconds{1});
    CHECK(proxy("idle_timeout = \"7d\"").idle_timeout == std::chrono::hours{7 * 24});
    CHECK(proxy("unassured_timeout = \"100ms\"").unassured_timeout ==
          std::chrono::milliseconds{100});
    CHECK(proxy("receive_buffer = \"4KiB\"").receive_buffer_bytes == 4096);
    CHECK(proxy("send_buffer = \"1073741824\"").send_buffer_bytes == 1U << 30);
    CHECK(proxy("sessions_max = 1").sessions_max == 1);
    CHECK(proxy("sessions_max = 65536").sessions_max == 65536);
    CHECK(proxy("ports = \"1-65535\"").ports == PortRange{1, 65535});
    CHECK(proxy("ports = \"7-7\"\nsessions_max = 1").ports == PortRange{7, 7});
    CHECK(proxy("new_sessions_per_second = 1000000").new_sessions.per_second == 1000000);
    CHECK(proxy("new_sessions_per_second = 1\nnew_sessions_burst = 1048576").new_sessions.burst ==
          1048576);
    CHECK(proxy("amplification_limit = 1000").amplification_limit == 1000);
    CHECK(proxy("replies_max = 65535").replies_max == 65535);
    CHECK(proxy("sessions_per_client_max = 65536").sessions_per_client_max == 65536);
    CHECK(accepted("runtime.shards = 1024\n" + minimal).shards == 1024);
    CHECK(accepted("limits.sessions_max = 1048576\n" + minimal).sessions_max == 1048576);
}

TEST_CASE("only one address with one port is exact") {
    const auto alias = [](const std::string& text) {
        return accepted(minimal + "reply_aliases = \"" + text + "\"")
            .proxies.at(0)
            .reply_aliases.at(0);
    };
    CHECK(alias("127.0.0.253").is_exact());
    CHECK(alias("127.0.0.253:53").is_exact());
    CHECK(alias("127.0.0.253/32:53").is_exact());
    CHECK_FALSE(alias("127.0.0.253:*").is_exact());
    CHECK_FALSE(alias("127.0.0.0/24:53").is_exact());
}

TEST_CASE("positions point at sessions_max, or at the table that lacks it") {
    const Config config = accepted("[limits]\nsessions_max = 7\n" + minimal +
                                   "  sessions_max = 5\n  [[proxy]]\nname = \"b\"\n" +
                                   "listen = \":1\"\nupstream = \"10.0.0.1:1\"\n");
    CHECK(config.sessions_max_position == "test.toml:2:16");
    CHECK(config.proxies.at(0).position == "test.toml:7:18");
    CHECK(config.proxies.at(1).position == "test.toml:8:3");
}

TEST_CASE("a byte order mark and carriage returns do no harm") {
    std::string text = "\xef\xbb\xbf";
    for (const std::string& line : lines_of(minimal)) text += line + "\r\n";
    CHECK(dump(accepted(text)) == dump(accepted(minimal)));
    CHECK(complaints(text + "dscp = \"\"\r\n").at(0).substr(0, 16) == "test.toml:5:8: p");
}

TEST_CASE("a file that cannot be read is one complaint") {
    const auto reason = [](const std::string& path) {
        const std::variant<Config, ConfigComplaints> result = read_config(path);
        REQUIRE(std::holds_alternative<ConfigComplaints>(result));
        CHECK(std::get<ConfigComplaints>(result).lines.size() == 1);
        return std::get<ConfigComplaints>(result).lines.at(0);
    };
    CHECK(reason("/nonexistent.toml") ==
          "/nonexistent.toml: cannot be read: No such file or directory");
    CHECK(reason("/") == "/: cannot be read: it is a directory");
    CHECK(reason("/dev/zero") == "/dev/zero: cannot be read: it is a device");
    const std::string large(1 + (1U << 20U), '\n');
    CHECK(complaints(large).at(0) == "test.toml: cannot be read: it is larger than 1 MiB");
    CHECK(complaints("").at(0).find("test.toml:1:1: proxy: there is none") == 0);
}

TEST_CASE("a file that is UTF-16 is named so, with its mark and without") {
    for (const std::string_view begin :
         {std::string_view{"\xff\xfe[\0", 4}, std::string_view{"\xfe\xff\0[", 4},
          std::string_view{"[\0r\0", 4}, std::string_view{"\0[\0r", 4}})
        CHECK(
            complaints(std::string{begin}) ==
            std::vector<std::string>{"test.toml: cannot be read: it is UTF-16; save it as UTF-8"});
}

TEST_CASE("no file nests deep enough to break the reader") {
    std::string dotted = "a";
    for (int i = 0; i < 100'000; ++i) dotted += ".a";
    CHECK(complaints(dotted + " = 1").at(0).find("test.toml:1:66: syntax: ") == 0);
    CHECK(complaints("\n[" + dotted + "]").at(0).find("test.toml:2:67: syntax: ") == 0);
    CHECK(complaints("x = [\n{ " + dotted + " = 1 } ]")
              .at(0)
              .find("test.toml:2:68: syntax: a key of so many parts") == 0);
    CHECK(complaints("a = " + std::string(100'000, '[')).size() == 1);
    std::string inline_tables;
    for (int i = 0; i < 50'000; ++i) inline_tables += "{a=";
    CHECK(complaints("a = " + inline_tables).size() == 1);
}

TEST_CASE(
    "where toml++ asserts, there is a complaint about the line, and the first one where there are "
    "several") {
    const std::string line_is_nothing =
        ": syntax: the line is neither a section nor a key with a value nor a comment; check "
        "brackets "
        "and commas";
    for (const std::string mistyped :
         {"[=", "[[=", "[[[a]]]", "[&", "[\n", "[[\n", "[ \t.a]", "  [#a]", "source = [1, }"}) {
        CAPTURE(mistyped);
        CHECK(complaints(minimal + mistyped) ==
              std::vector<std::string>{"test.toml:5:1" + line_is_nothing});
        CHECK(complaints(minimal + mistyped + "\n\xc3\xa9 = 1\n") ==
              std::vector<std::string>{"test.toml:5:1" + line_is_nothing});
        CHECK(complaints("a = b\n" + minimal + mistyped).at(0).find("test.toml:1:5: syntax: ") ==
              0);
    }
    for (const std::string mistyped :
         {"[]", "[[ ]]", "[", "[[", "[ [a]]", "listen = ]", "listen = [,]", "listen = ,"}) {
        CAPTURE(mistyped);
        const std::vector<std::string> lines = complaints(minimal + mistyped);
        CHECK(lines.size() == 1);
        CHECK(lines.at(0).find("test.toml:5:") == 0);
    }
}

TEST_CASE("brackets at the start of a line inside a list are no headings") {
    accepted(minimal + "reply_aliases = [ # [\n  \n]\n");
    const std::vector<std::string> lines =
        complaints(minimal + "reply_aliases = [\n[],\n[-5]\n]\n");
    CHECK(lines.at(0) ==
          "test.toml:6:1: proxy \"dns\": reply_aliases[0]: is a list; write a string");
}

TEST_CASE("letters beyond ASCII are for strings and comments") {
    accepted("# \xc3\xa9\n" + minimal + "# \xc3\xa9");
    CHECK(complaints("\xc3\xa9 = 1\n" + minimal).at(0) ==
          "test.toml:1:1: syntax: a letter beyond ASCII; write it in quotation marks, or in a "
          "comment");
    CHECK(complaints("[\"\xc3\xa9\" \xc3\xa9]\n" + minimal)
              .at(0)
              .find("test.toml:1:6: syntax: a letter beyond ASCII") == 0);
    CHECK(complaints(minimal + "source = 5\"\xc3\xa9\"").at(0).find("test.toml:5:11: syntax: ") ==
          0);
    CHECK(complaints(minimal + "source = a=\"\xc3\xa9\"").at(0).find("test.toml:5:10: syntax: ") ==
          0);
    CHECK(complaints(minimal + "source = \"\xc3\"").at(0).find("test.toml:5:10: syntax: ") == 0);
    CHECK(complaints("[\"\xc3\xa9\"]\n" + minimal)
              .at(0)
              .find("test.toml:1:2: \"\xc3\xa9\": unknown section") == 0);
    CHECK(complaints(minimal + "source = [\n\xc2\xa0\"127.0.0.1\"]")
              .at(0)
              .find("test.toml:6:1: syntax: a letter beyond ASCII") == 0);
}

TEST_CASE("strings of several lines are refused, because no value needs one") {
    CHECK(complaints(minimal + "dscp = \"\"\"copy\"\"\"")
              .at(0)
              .find("test.toml:5:8: syntax: a string of several lines") == 0);
    CHECK(complaints(minimal + "dscp = '''\ncopy'''")
              .at(0)
              .find("test.toml:5:8: syntax: a string of several lines") == 0);
}

TEST_CASE("dots in strings and comments are no nesting") {
    const std::string dots(1000, '.');
    accepted("# " + dots + " ' \" \n" + minimal + "# \"\"\" " + dots);
    CHECK(complaints(minimal + "dscp = \"" + dots + "\"").size() == 1);
    CHECK(complaints(minimal + "dscp = '" + dots + "'").at(0).find("unknown word") !=
          std::string::npos);
    CHECK(complaints(minimal + "dscp = \"\\\"" + dots + "'\"").at(0).find("unknown word") !=
          std::string::npos);
}

TEST_CASE("there are 256 proxies at most") {
    std::string text;
    for (int i = 1; i <= 256; ++i) {
        const std::string number = std::to_string(i);
        text += "[[proxy]]\nname = \"p" + number + "\"\nlisten = \":" + number +
                "\"\nupstream = \"10.0.0.1:" + number + "\"\n";
    }
    CHECK(accepted(text).proxies.size() == 256);
    CHECK(complaints(text + minimal).at(0) ==
          "test.toml:1025:1: proxy: there are more than 256; write at most that many");
}

TEST_CASE("a thousand complaints are shown, and the rest is counted") {
    std::string text = "[runtime]\n";
    for (int i = 0; i < 2000; ++i) text += "unheard_of_" + std::to_string(i) + " = 1\n";
    const std::vector<std::string> lines = complaints(text + minimal);
    CHECK(lines.size() == 1001);
    CHECK(lines.back() == "test.toml: 1000 more complaints are not shown");
}

TEST_CASE("whatever the file holds, a complaint is one line of printable text") {
    const std::string evil = R"("\u001b[2J\r\nroot: all is well\u007f")";
    const std::string text = evil + " = 1\n[[proxy]]\nname = " + evil + "\nlisten = " + evil +
                             "\nupstream = " + evil + "\nreply_aliases = [" + evil +
                             "]\ndscp = " + evil + "\nsource = " + evil + "\nports = " + evil +
                             "\nidle_timeout = " + evil + "\nsend_buffer = " + evil +
                             "\nsessions_max = " + evil + "\n" + evil + " = 2\n";
    const std::vector<std::string> lines = complaints(text);
    CHECK(lines.size() == 12);
    for (const std::string& line : lines)
        CHECK_MESSAGE(std::all_of(line.begin(), line.end(),
                                  [](char letter) { return letter >= ' ' && letter <= '~'; }),
                      line);
    for (const std::string& line : complaints("a = \n" + evil))
        CHECK(line.find('\n') == std::string::npos);
}

// What would be right repeats a part of what is wrong. A fuzzer found the first.
TEST_CASE("a complaint that repeats a part of the value repeats it on one line") {
    const auto is_one_line = [](const Error& error) {
        return error.message.find('\x1b') == std::string::npos;
    };
    CHECK(is_one_line(parse_alias("[2001:db8::1\x1b]", 53).error()));
    CHECK(is_one_line(parse_listen("*:\x1b").error()));
}

TEST_CASE("a value that lacks its quotation marks is told so, in words and not in grammar") {
    // The parser's words were `could not determine value type`, or spoke of dates and digits.
    const auto told = [](const std::string& line) {
        const std::vector<std::string> lines = complaints(minimal + line);
        REQUIRE(lines.size() == 1);
        return lines.front();
    };
    const auto value = [](const std::string& right) {
        return "syntax: the value needs quotation marks; write " + right;
    };
    CHECK(told("listen = :53") == "test.toml:5:10: " + value("listen = \":53\""));
    CHECK(told("source = 10.0.0.1 # here") == "test.toml:5:10: " + value("source = \"10.0.0.1\""));
    CHECK(told("listen=[::1]:53") == "test.toml:5:8: " + value("listen = \"[::1]:53\""));
    CHECK(told("\"\xc3\xa9\" = :53") == "test.toml:5:7: " + value("\"\xc3\xa9\" = \":53\""));
    CHECK(told("a.dscp = copy") == "test.toml:5:10: " + value("dscp = \"copy\""));
    for (const char* right :
         {"idle_timeout = \"30s\"", "idle_timeout = \"1h30m\"", "receive_buffer = \"4MiB\"",
          "ports = \"20000-30000\"", "sessions_max = \"auto\"", "xyzzy = \"a/b\""}) {
        std::string line = right;
        line.erase(std::remove(line.begin(), line.end(), '"'), line.end());
        CHECK(told(line).find(value(right)) != std::string::npos);
    }
    CHECK(told("reply_aliases = [10.0.0.1, \"10.0.0.2\"]") ==
          "test.toml:5:18: syntax: the entry needs quotation marks; write \"10.0.0.1\"");
    CHECK(told("reply_aliases = [\n  \"10.0.0.1\",\n  10.0.0.2, # b\n]") ==
          "test.toml:7:3: syntax: the entry needs quotation marks; write \"10.0.0.2\"");
    CHECK(told("sessions_max = 10 000") ==
          "test.toml:5:16: syntax: \"10 000\" is not a number; write digits alone");
    CHECK(told("idle_timeout = \"30s") ==
          "test.toml:5:16: syntax: \"30s\" does not end; the second quotation mark is missing");
    CHECK(
        complaints("[runtime]\ncpu_pinning = yes\n" + minimal).front() ==
        "test.toml:2:15: syntax: \"yes\" is not a boolean; write true or false, in small letters");
    CHECK(told("# \xe4").find("a byte that is not UTF-8; save the file as UTF-8") !=
          std::string::npos);
    // Where no quotation mark is missing the parser's words stay.
    CHECK(told("listen 10.0.0.1:53").find("expected '='") != std::string::npos);
    CHECK(told("dscp = \"copy\" x").find("expected a comment") != std::string::npos);
    CHECK(told("dscp =\n").find("expected value") != std::string::npos);
    CHECK(told("[x\n").find("expected ']'") != std::string::npos);
}

TEST_CASE("what URLs and other programs' files add to an address is refused with what is right") {
    const auto told = [](const std::string& key, const std::string& text) {
        const std::string head = key == "admin" ? "[admin]\nlisten = \"" + text + "\"\n" : "";
        const std::string line = key == "admin" ? "" : key + " = \"" + text + "\"\n";
        std::string proxy = minimal;
        if (proxy.find("\n" + key + " = ") != std::string::npos)
            proxy.replace(proxy.find("\n" + key + " = ") + 1, 0, "#");
        return complaints(head + proxy + line).front();
    };
    const std::pair<const char*, const char*> wrong[] = {
        {"udp://10.0.0.1:53", "a scheme has no place here; write \"10.0.0.1:53\""},
        {"udp://[2001:db8::1]:53/", "a scheme has no place here; write \"[2001:db8::1]:53\""},
        {"10.0.0.1:53/udp", "a protocol has no place here; write \"10.0.0.1:53\""},
        {" 10.0.0.1:53", "a space has no place here; write \"10.0.0.1:53\""},
        {"10.0.0.1:53 ", "a space has no place here; write \"10.0.0.1:53\""},
        {"udp://", "a scheme has no place here; write an address"},
        {"  ", "a space has no place here; write an address"}};
    for (const auto& pair : wrong) {
        for (const char* key : {"listen", "upstream", "reply_aliases", "source", "admin"}) {
            const std::string line = told(key, pair.first);
            CHECK_MESSAGE(line.find(pair.second) != std::string::npos, line);
        }
    }
}

TEST_CASE("a range of ports that is written otherwise is told as it should be") {
    const auto told = [](const std::string& text) {
        return complaints(minimal + "ports = \"" + text + "\"").front();
    };
    for (const char* text :
         {"20000 - 30000", " 20000-30000", "20000:30000", "20000..30000", "20000,30000",
          "20000\xe2\x80\x93"
          "30000",
          "20000 to 30000"})
        CHECK_MESSAGE(
            told(text).find(" is not a range of ports; write \"20000-30000\"") != std::string::npos,
            told(text));
    for (const char* text : {"", "20000", "20000-", "-30000", "a-b", "1-2-3"})
        CHECK_MESSAGE(told(text).find("; write the first and the last, as in \"20000-59999\"") !=
                          std::string::npos,
                      told(text));
    CHECK(told("30000-20000").find("ends before it begins; write \"20000-30000\"") !=
          std::string::npos);
    CHECK(told("20000-70000").find("\"20000-70000\": \"70000\" is not a port (1 to 65535)") !=
          std::string::npos);
    CHECK(told("0-100").find("\"0-100\": \"0\" is not a port") != std::string::npos);
}

}  // namespace
}  // namespace udpproxy
