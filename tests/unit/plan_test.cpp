// Plan: the difference of two configurations, given as the files that people would write.
#include "udpproxy/runtime/plan.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <variant>

#include "config_dump.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {
namespace {

Config read(const std::string& text) {
    auto outcome = parse_config(text, "test.toml");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome))
        FAIL(complaints->lines.front());
    return std::get<Config>(outcome);
}

std::string proxy(const std::string& name, const std::string& listen, const std::string& more = "",
                  const std::string& upstream = "10.0.0.1:53") {
    return "[[proxy]]\nname = \"" + name + "\"\nlisten = \"" + listen + "\"\nupstream = \"" +
           upstream + "\"\n" + more + "\n";
}

ProxyStep changed(const std::string& name, bool settings, bool aliases, bool upstream,
                  bool sources) {
    return ProxyStep{ProxyStep::Kind::changed, name, settings, aliases, upstream, sources};
}

const std::string two = proxy("a", "192.0.2.1:53") + proxy("b", "192.0.2.1:54");

bool is_empty(const Plan& plan) {
    return plan.proxies.empty() && plan.listeners.empty() && plan.needs_restart.empty() &&
           !plan.limits && !plan.log;
}

/// What `asked` answers while no descriptor can be had.
template <class Asked>
auto without_descriptors(Asked asked) {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const rlimit none{0, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    auto answer = asked();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    return answer;
}

TEST_CASE("the same configuration, written in another order or not, is no plan") {
    CHECK(is_empty(plan_reload(read(two), read(two))));
    CHECK(is_empty(
        plan_reload(read(two), read(proxy("b", "192.0.2.1:54") + proxy("a", "192.0.2.1:53")))));
    CHECK(is_empty(plan_reload(read(two), read("# a comment\n" + two))));
}

TEST_CASE("each key of a proxy changes what it concerns, and nothing else") {
    const Config before = read(two);
    struct Case {
        std::string line;
        ProxyStep step;
    };
    const std::vector<Case> cases{
        {"idle_timeout = \"7m\"", changed("a", true, false, false, false)},
        {"unassured_timeout = \"7s\"", changed("a", true, false, false, false)},
        {"port_cooldown = \"7s\"", changed("a", true, false, false, false)},
        {"sessions_max = 7", changed("a", true, false, false, false)},
        {"sessions_per_client_max = 7", changed("a", true, false, false, false)},
        {"new_sessions_per_second = 7", changed("a", true, false, false, false)},
        {"amplification_limit = 7", changed("a", true, false, false, false)},
        {"replies_max = 7", changed("a", true, false, false, false)},
        {"end_after_replies = 7", changed("a", true, false, false, false)},
        {"end_after_requests = 7", changed("a", true, false, false, false)},
        {"datagram_max = 7", changed("a", true, false, false, false)},
        {"dscp = \"clear\"", changed("a", true, false, false, false)},
        {"unlisted_replies = \"all\"", changed("a", true, false, false, false)},
        {"reply_aliases = [\"10.0.0.2\"]", changed("a", false, true, false, false)},
        {"alias_filter = \"open\"", changed("a", false, true, false, false)},
        {"source = \"192.0.2.9\"", changed("a", false, false, false, true)},
        {"ports = \"20000-29999\"", changed("a", false, false, false, true)},
    };
    for (const Case& each : cases) {
        CAPTURE(each.line);
        const Plan plan = plan_reload(
            before, read(proxy("a", "192.0.2.1:53", each.line) + proxy("b", "192.0.2.1:54")));
        CHECK(plan.proxies == std::vector{each.step});
        CHECK(plan.listeners.empty());
        CHECK(plan.needs_restart.empty());
    }
    CHECK(is_empty(plan_reload(before, read(proxy("a", "192.0.2.1:53", "on_change = \"close\"") +
                                            proxy("b", "192.0.2.1:54")))));
    const Plan moved = plan_reload(before, read(proxy("a", "192.0.2.1:53", "", "service.test:53") +
                                                proxy("b", "192.0.2.1:54")));
    CHECK(moved.proxies == std::vector{changed("a", false, false, true, false)});
}

TEST_CASE("proxies come and go by name, listeners by address, whichever proxy's they are") {
    const Plan plan =
        plan_reload(read(two), read(proxy("c", "192.0.2.1:53") + proxy("b", "192.0.2.1:55")));
    CHECK(plan.proxies == std::vector{ProxyStep{ProxyStep::Kind::removed, "a"},
                                      ProxyStep{ProxyStep::Kind::added, "c"}});
    const Endpoint first = parse_endpoint("192.0.2.1:53").value();
    CHECK(plan.listeners ==
          std::vector{ListenerStep{first, "a", "c"},
                      ListenerStep{parse_endpoint("192.0.2.1:54").value(), "b", std::nullopt},
                      ListenerStep{parse_endpoint("192.0.2.1:55").value(), std::nullopt, "b"}});
}

TEST_CASE("a listener at one address stays when one at every address takes its place") {
    const Config one = read(proxy("a", "192.0.2.1:53"));
    const Config every = read(proxy("a", "0.0.0.0:53"));
    const Endpoint at_one = parse_endpoint("192.0.2.1:53").value();
    const Endpoint at_every = parse_endpoint("0.0.0.0:53").value();
    CHECK(plan_reload(one, every).listeners ==
          std::vector<ListenerStep>{{at_every, std::nullopt, "a"}});
    CHECK(plan_reload(every, one).listeners ==
          std::vector<ListenerStep>{{at_every, "a", std::nullopt}, {at_one, std::nullopt, "a"}});
    // Another proxy's takes its clients.
    CHECK(plan_reload(one, read(proxy("b", "0.0.0.0:53"))).listeners ==
          std::vector<ListenerStep>{{at_one, "a", "b"}, {at_every, std::nullopt, "b"}});
    CHECK(plan_reload(one, read(proxy("a", "0.0.0.0:54"))).listeners.front() ==
          ListenerStep{at_one, "a", std::nullopt});
}

TEST_CASE("a listening address has steps only while its interface is there") {
    const Config absent = read(proxy("a", "[fe80::1%no-such-one]:53"));
    Config present = absent;
    present.proxies[0].listen[0].endpoint.scope = 7;
    const Endpoint at_interface = present.proxies[0].listen[0].endpoint;
    CHECK(is_empty(plan_reload(absent, absent)));
    CHECK(plan_reload(absent, present).listeners ==
          std::vector<ListenerStep>{{at_interface, std::nullopt, "a"}});
    CHECK(plan_reload(present, absent).listeners ==
          std::vector<ListenerStep>{{at_interface, "a", std::nullopt}});
    CHECK(find_interfaces(present).has_changed);
    CHECK(is_empty(plan_reload(absent, present)));
    CHECK_FALSE(find_interfaces(present).has_changed);
}

TEST_CASE("an interface that cannot be asked for keeps its index, and is to be asked for again") {
    Config config = read(proxy("a", "[fe80::1%no-such-one]:53"));
    const std::uint32_t before = config.proxies[0].listen[0].endpoint.scope;
    CHECK(find_interfaces(config).is_complete);
    const InterfaceNews news = without_descriptors([&] { return find_interfaces(config); });
    CHECK_FALSE(news.is_complete);
    CHECK_FALSE(news.has_changed);
    CHECK(config.proxies[0].listen[0].endpoint.scope == before);
}

// Each look at a proxy's settings asked the kernel anew, with a socket of its own.
TEST_CASE("a reload for which no descriptor is left does not switch offload off") {
    const Config config = read(proxy("a", "192.0.2.1:53"));
    const ProxySettings before = settings_of(config.proxies[0]);
    CHECK(without_descriptors([&] { return settings_of(config.proxies[0]); }) == before);
}

TEST_CASE("what cannot change while the program runs is named") {
    const Plan plan = plan_reload(
        read("[runtime]\nengine = \"epoll\"\nshards = 1\n" + two),
        read("[runtime]\nengine = \"auto\"\nshards = 2\ncpu_pinning = true\n" +
             proxy("a", "192.0.2.1:53", "receive_buffer = \"1MiB\"") + proxy("b", "192.0.2.1:54")));
    CHECK(plan.needs_restart == std::vector<std::string>{"proxy \"a\": receive_buffer",
                                                         "runtime.engine", "runtime.shards",
                                                         "runtime.cpu_pinning"});
    CHECK(plan.proxies.empty());
}

TEST_CASE("what needs a restart stays in force, and each reload until then names it again") {
    const Config present = read(two);
    const Config file = read(
        "[runtime]\nengine = \"epoll\"\nshards = 2\ncpu_pinning = true\nbusy_poll = \"9us\"\n"
        "batch_wait = \"9us\"\n[limits]\nsessions_max = 9\n"
        "[admin]\nsocket = \"/run/x\"\ngroup = \"g\"\nlisten = \"192.0.2.1:9\"\n"
        "allow_remote = true\n" +
        proxy("a", "192.0.2.1:53",
              "idle_timeout = \"7m\"\npath_mtu = \"omit\"\noffload = \"off\"\n"
              "receive_buffer = \"1MiB\"\nsend_buffer = \"1MiB\"") +
        proxy("b", "192.0.2.1:54"));
    const std::vector<std::string> of_listeners{"proxy \"a\": path_mtu (of its listeners)",
                                                "proxy \"a\": offload (of its listeners)"};
    std::vector<std::string> named = of_listeners;
    for (const char* key :
         {"proxy \"a\": receive_buffer", "proxy \"a\": send_buffer", "runtime.engine",
          "runtime.shards", "runtime.cpu_pinning", "runtime.busy_poll", "runtime.batch_wait",
          "admin.socket", "admin.group", "admin.listen", "admin.allow_remote"})
        named.emplace_back(key);
    CHECK(plan_reload(present, file).needs_restart == named);

    Config in_force = file;
    keep_what_needs_a_restart(in_force, present);
    const Plan taken = plan_reload(present, in_force);
    // The sessions have these at once.
    CHECK(taken.needs_restart == of_listeners);
    CHECK(taken.proxies == std::vector{changed("a", true, false, false, false)});
    CHECK(taken.limits);
    named.erase(named.begin(), named.begin() + 2);
    CHECK(plan_reload(in_force, file).needs_restart == named);
    CHECK_FALSE(in_force.admin.socket_given);

    // A start that keeps all else takes the file's values, except for the number of shards.
    Config started = present;
    take_what_needs_a_restart(started, file);
    CHECK(started.admin.socket_given);
    const Plan left = plan_reload(started, file);
    std::vector<std::string> restart_left = of_listeners;
    restart_left.emplace_back("runtime.shards");
    CHECK(left.needs_restart == restart_left);
    CHECK(left.proxies == taken.proxies);
    CHECK(left.limits);
}

TEST_CASE("a start takes what needs a restart only for proxies of the same name") {
    Config started = read(two);
    take_what_needs_a_restart(started,
                              read(proxy("c", "192.0.2.1:53", "send_buffer = \"1MiB\"") +
                                   proxy("b", "192.0.2.1:55", "receive_buffer = \"1MiB\"")));
    Config expected = read(two);
    expected.proxies[1].receive_buffer_bytes = 1 << 20;
    CHECK(dump(started) == dump(expected));
}

TEST_CASE("limits and the log are told apart") {
    CHECK(plan_reload(read(two), read("[limits]\nsessions_max = 9\n" + two)).limits);
    CHECK(plan_reload(read(two), read("[limits]\nnew_sessions_per_second = 9\n" + two)).limits);
    const Plan log = plan_reload(read(two), read("[log]\nlevel = \"warn\"\n" + two));
    CHECK(log.log);
    CHECK_FALSE(log.limits);
    CHECK(plan_reload(read(two), read("[log]\nsessions = true\n" + two)).limits);
}

/// The lines about keys of a reload from the first file to the second.
std::vector<std::string> told(const std::string& before, const std::string& after) {
    std::vector<std::string> lines;
    for (const KeyChange& change : key_changes(read(before), read(after)))
        lines.push_back(text_of(change));
    return lines;
}

TEST_CASE("a key that is different is told with the value that was and the one that comes") {
    const auto of_a = [](const std::string& line) {
        const std::vector<std::string> lines =
            told(two, proxy("a", "192.0.2.1:53", line) + proxy("b", "192.0.2.1:54"));
        REQUIRE(lines.size() == 1);
        return lines.front();
    };
    CHECK(of_a("idle_timeout = \"30s\"") == "proxy \"a\": idle_timeout 5m -> 30s");
    CHECK(of_a("sessions_max = 7") == "proxy \"a\": sessions_max auto -> 7");
    CHECK(of_a("dscp = \"clear\"") == "proxy \"a\": dscp copy -> clear");
    CHECK(of_a("on_change = \"close\"") == "proxy \"a\": on_change keep -> close");
    CHECK(of_a("source = [\"192.0.2.9\", \"192.0.2.8\"]") ==
          "proxy \"a\": source (none) -> 192.0.2.9, 192.0.2.8");
    CHECK(of_a("ports = \"20000-29999\"") == "proxy \"a\": ports (none) -> 20000-29999");
    CHECK(of_a("reply_aliases = [\"10.0.0.2\", \"10.0.0.3:*\", \"10.0.1.0/24:53\"]") ==
          "proxy \"a\": reply_aliases (none) -> 10.0.0.2:53, 10.0.0.3:*, 10.0.1.0/24:53");
    CHECK(of_a("receive_buffer = \"1MiB\"") ==
          "proxy \"a\": receive_buffer 4MiB -> 1MiB: needs a restart");
    CHECK(of_a("path_mtu = \"probe\"") ==
          "proxy \"a\": path_mtu want -> probe: its listeners need a restart");
    CHECK(told(two, proxy("a", "192.0.2.1:53", "", "[2001:db8::1]:53") +
                        proxy("b", "192.0.2.1:54", "", "service.test:53")) ==
          std::vector<std::string>{"proxy \"a\": upstream 10.0.0.1:53 -> [2001:db8::1]:53",
                                   "proxy \"b\": upstream 10.0.0.1:53 -> service.test:53"});
    CHECK(told("[runtime]\nshards = 2\n[log]\nlevel = \"warn\"\n[admin]\nsocket = \"\"\n" + two,
               "[limits]\nsessions_max = 9\n[admin]\nsocket = \"\"\nlisten = \"127.0.0.1:9090\"\n" +
                   two) ==
          std::vector<std::string>{"runtime.shards 2 -> auto: needs a restart",
                                   "log.level warn -> info", "limits.sessions_max auto -> 9",
                                   "admin.listen (none) -> 127.0.0.1:9090: needs a restart"});
}

TEST_CASE("what is only spelled otherwise is no change, and what comes or goes has no values") {
    CHECK(told(two, two).empty());
    const std::string one =
        proxy("a", "192.0.2.1:53", "reply_aliases = [\"2001:db8::2\"]", "[2001:db8::1]:53");
    CHECK(told(one, proxy("a", "192.0.2.1:53", "reply_aliases = [\"[2001:DB8:0::2]:53\"]",
                          "[2001:DB8::0:1]:53"))
              .empty());
    CHECK(told(two, proxy("a", "192.0.2.1:53") + proxy("c", "192.0.2.1:54", "sessions_max = 3"))
              .empty());
    CHECK_MESSAGE(told(two, proxy("a", "192.0.2.2:53") + proxy("b", "192.0.2.1:54")).empty(),
                  "listening addresses have steps of their own");
}

TEST_CASE("every key but name and listen tells its values when they differ") {
    // Another value for each kind that the reader knows; forms have their own.
    for (const ConfigKey& key : config_keys()) {
        if (key.section == "proxy" && (key.name == "name" || key.name == "listen")) continue;
        std::string value = "7";
        if (const auto* words = std::get_if<ConfigKey::Words>(&key.accepts)) {
            value = '"' + std::string{words->back()} + '"';
            if (value == key.default_value) value = '"' + std::string{words->front()} + '"';
        } else if (key.kind == "boolean") {
            value = key.default_value == "true" ? "false" : "true";
        } else if (key.kind == "duration") {
            value = key.section == "runtime" ? "\"7us\"" : "\"7s\"";
        } else if (key.kind == "size") {
            value = "\"7MiB\"";
        } else if (key.name == "ports") {
            value = "\"20000-29999\"";
        } else if (key.name == "upstream") {
            value = "\"10.0.0.7:53\"";
        } else if (key.kind == "string or list") {
            value = "\"10.0.0.7\"";
        } else if (key.kind == "string") {
            value = key.name == "listen" ? "\"127.0.0.1:7\"" : "\"/x\"";
        }
        std::string line = std::string{key.name} + " = " + value + '\n';
        if (key.name == "new_sessions_burst") line += "new_sessions_per_second = 9\n";
        const bool is_of_proxy = key.section == "proxy";
        const std::string before =
            "[[proxy]]\nname = \"a\"\nlisten = \"192.0.2.1:53\"\nunassured_timeout = \"1s\"\n";
        std::string after = before;
        if (key.name == "unassured_timeout")
            after = "[[proxy]]\nname = \"a\"\nlisten = \"192.0.2.1:53\"\n";
        after += is_of_proxy ? line : "";
        if (key.name != "upstream") after += "upstream = \"10.0.0.1:53\"\n";
        if (!is_of_proxy) after = '[' + std::string{key.section} + "]\n" + line + after;
        CAPTURE(line);
        const auto changes =
            key_changes(read(before + "upstream = \"10.0.0.1:53\"\n"), read(after));
        const std::string name =
            (is_of_proxy ? "" : std::string{key.section} + '.') + std::string{key.name};
        const auto found = std::find_if(changes.begin(), changes.end(),
                                        [&](const KeyChange& each) { return each.key == name; });
        REQUIRE(found != changes.end());
        CHECK(found->takes_effect == key.takes_effect);
        CHECK(found->present != found->wanted);
        CHECK(changes.size() == (key.name == "new_sessions_burst" ? 2 : 1));
    }
}

TEST_CASE("values of any length are cut, and what is different about them stays") {
    const auto aliases = [](int last) {
        std::string list = "reply_aliases = [";
        for (int i = 0; i < 63; ++i) list += "\"10.200.200." + std::to_string(i) + "\", ";
        return proxy("a", "192.0.2.1:53", list + "\"10.200.200." + std::to_string(last) + "\"]");
    };
    const std::vector<std::string> lines = told(aliases(100), aliases(200));
    REQUIRE(lines.size() == 1);
    CHECK(lines[0] ==
          "proxy \"a\": reply_aliases ..., 10.200.200.100:53 -> ..., 10.200.200.200:53");
    const std::string path(100'000, 'x');
    const std::vector<std::string> paths = told("[log]\nfile = \"/a" + path + "\"\n" + two,
                                                "[log]\nfile = \"/b" + path + "\"\n" + two);
    REQUIRE(paths.size() == 1);
    CHECK(paths[0].size() < 1200);
    CHECK(paths[0].find("-> /bxxx") != std::string::npos);
}

}  // namespace
}  // namespace udpproxy
