// One proxy by options: the TOML that says the same, and complaints that name the options.
#include "udpproxy/config/one_proxy.hpp"

#include <doctest/doctest.h>

#include "config_dump.hpp"

namespace udpproxy {
namespace {

std::vector<std::string> complaints_of(const OneProxy& options) {
    const auto outcome = parse_one_proxy(options);
    const auto* complaints = std::get_if<ConfigComplaints>(&outcome);
    return complaints != nullptr ? complaints->lines : std::vector<std::string>{};
}

OneProxy good() { return {std::nullopt, {":53"}, "10.0.0.254:53", {}, {}}; }

TEST_CASE("options are TOML with one line each, which is accepted back unchanged") {
    const OneProxy options{"dns",
                           {":53", "192.0.2.1:54"},
                           "10.0.0.254:53",
                           {"10.0.0.252", "10.0.0.253:*"},
                           {"idle_timeout=10m", "sessions_max=100", "unlisted_replies=off",
                            R"(source=["10.0.0.1", "10.0.0.2"])", "ports=20000-20099"}};
    const OneProxyText text = text_of(options);
    CHECK(text.toml ==
          "[[proxy]]\n"
          "name = \"dns\"\n"
          "listen = [\":53\", \"192.0.2.1:54\"]\n"
          "upstream = \"10.0.0.254:53\"\n"
          "reply_aliases = [\"10.0.0.252\", \"10.0.0.253:*\"]\n"
          "idle_timeout = \"10m\"\n"
          "sessions_max = 100\n"
          "unlisted_replies = \"off\"\n"
          "source = [\"10.0.0.1\", \"10.0.0.2\"]\n"
          "ports = \"20000-20099\"\n");
    CHECK(complaints_of(options).empty());
    const auto of_options = parse_one_proxy(options);
    const auto of_file = parse_config(text.toml, "udpproxy.toml");
    REQUIRE(std::holds_alternative<Config>(of_options));
    REQUIRE(std::holds_alternative<Config>(of_file));
    CHECK(dump(std::get<Config>(of_options)) == dump(std::get<Config>(of_file)));
}

TEST_CASE("a proxy without a name is called udpproxy, and --set may name it") {
    CHECK(text_of(good()).toml ==
          "[[proxy]]\nname = \"udpproxy\"\nlisten = \":53\"\nupstream = \"10.0.0.254:53\"\n");
    OneProxy named = good();
    named.settings = {"name=dns"};
    CHECK(complaints_of(named).empty());
}

TEST_CASE("complaints name the option that is wrong") {
    OneProxy wrong = good();
    wrong.reply_aliases = {"10.0.0.253", "nowhere"};
    wrong.settings = {"idle_timeout=5x", "sessions_max=0", "idletimeout=5s"};
    const std::vector<std::string> lines = complaints_of(wrong);
    REQUIRE(lines.size() == 4);
    CHECK(lines[0].starts_with("--reply-alias: proxy \"udpproxy\": reply_aliases[1]: "));
    CHECK(lines[1].starts_with("--set idle_timeout: "));
    CHECK(lines[2].starts_with("--set sessions_max: "));
    CHECK(lines[3].starts_with("--set idletimeout: "));
    CHECK(lines[3].find("idle_timeout") != std::string::npos);

    OneProxy lacking;
    lacking.listen = {":53"};
    REQUIRE(complaints_of(lacking).size() == 1);
    CHECK(complaints_of(lacking)[0].starts_with("command line: proxy \"udpproxy\": upstream: "));
}

TEST_CASE("no option brings more than one key") {
    for (const char* setting :
         {"idle_timeout", "=5s", "a b=1", "a.b=1", "idle_timeout=5s\nports = \"1-2\"",
          "ports=[\"1-2\"]\n[admin]\nsocket=\"/tmp/x\""}) {
        CAPTURE(setting);
        OneProxy wrong = good();
        wrong.settings = {setting};
        REQUIRE(complaints_of(wrong).size() == 1);
        CHECK(complaints_of(wrong)[0].starts_with("--set "));
        CHECK(complaints_of(wrong)[0].find('\n') == std::string::npos);
    }
    // A value that is no whole TOML value does not go on in the next option's line.
    OneProxy unclosed = good();
    unclosed.settings = {R"(reply_aliases=["10.0.0.2")", "idle_timeout=10m"};
    REQUIRE(complaints_of(unclosed).size() == 1);
    CHECK(complaints_of(unclosed)[0].starts_with("--set reply_aliases: "));
    unclosed.settings = {"source='''", "ports='''"};
    REQUIRE(complaints_of(unclosed).size() == 2);
    CHECK(complaints_of(unclosed)[0].starts_with("--set source: "));
    CHECK(complaints_of(unclosed)[1].starts_with("--set ports: "));
    OneProxy empty = good();
    empty.upstream = "";
    REQUIRE(complaints_of(empty).size() == 1);
    CHECK(complaints_of(empty)[0].starts_with("--upstream: "));
    OneProxy quoting = good();
    quoting.name = "a\"\nports = \"1-2";
    CHECK(complaints_of(quoting).size() == 1);
    CHECK(complaints_of(quoting)[0].starts_with("--name: "));
}

}  // namespace
}  // namespace udpproxy
