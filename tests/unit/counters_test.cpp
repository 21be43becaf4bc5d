// Counters: which errno is counted where, which drops mean a limit, and that the lists are what
// their readers take them for.
#include "udpproxy/shard/counters.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <string>

namespace udpproxy {
namespace {

std::string_view name_of(Drop reason) {
    return drop_reasons[static_cast<std::size_t>(reason)].name;
}

TEST_CASE("each errno of a send is counted under its own reason, all others under one") {
    const std::map<int, Drop> known{
        {EAGAIN, Drop::send_would_block},
        {EWOULDBLOCK, Drop::send_would_block},
        {ENOBUFS, Drop::send_no_buffers},
        {EMSGSIZE, Drop::send_too_big},
        {ECONNREFUSED, Drop::send_refused},
        {ENETUNREACH, Drop::send_net_unreachable},
        {EHOSTUNREACH, Drop::send_host_unreachable},
        {EPERM, Drop::send_not_permitted},
        {EACCES, Drop::send_prohibited},
        {EINVAL, Drop::send_invalid},
    };
    for (int error = -1; error < 4096; ++error) {  // the kernel's errno values end at 4095
        CAPTURE(error);
        const auto found = known.find(error);
        REQUIRE(drop_of_send_error(error) ==
                (found == known.end() ? Drop::send_failed : found->second));
    }
}

TEST_CASE("each reason that says an errno in its help is the reason of that errno") {
    const std::map<std::string_view, int> errnos{{"EAGAIN", EAGAIN},
                                                 {"ENOBUFS", ENOBUFS},
                                                 {"EMSGSIZE", EMSGSIZE},
                                                 {"ECONNREFUSED", ECONNREFUSED},
                                                 {"ENETUNREACH", ENETUNREACH},
                                                 {"EHOSTUNREACH", EHOSTUNREACH},
                                                 {"EPERM", EPERM},
                                                 {"EACCES", EACCES},
                                                 {"EINVAL", EINVAL}};
    std::size_t said = 0;
    for (const ReasonText& reason : drop_reasons) {
        const std::string_view first = reason.help.substr(0, reason.help.find_first_of(": "));
        const auto found = errnos.find(first);
        if (found == errnos.end()) continue;
        ++said;
        CHECK(name_of(drop_of_send_error(found->second)) == reason.name);
    }
    CHECK(said == errnos.size());
}

TEST_CASE(
    "a limit is what an operator can raise or repair; what a peer or the network did is none") {
    const std::set<Drop> limits{
        Drop::forwarding_loop,     Drop::client_limit,         Drop::session_rate,
        Drop::source_rate,         Drop::amplification,        Drop::datagram_limit,
        Drop::reply_limit,         Drop::admission_queue_full, Drop::session_limit,
        Drop::descriptor_limit,    Drop::ports_exhausted,      Drop::source_unavailable,
        Drop::upstream_unroutable, Drop::upstream_unresolved,  Drop::group_failed,
        Drop::send_would_block,    Drop::send_no_buffers};
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
        CAPTURE(drop_reasons[reason].name);
        CHECK(is_limit(static_cast<Drop>(reason)) == limits.contains(static_cast<Drop>(reason)));
    }
}

TEST_CASE("every counter and every reason has a name of its own, a unit and a help text") {
    struct Text {
        std::string name;
        std::string_view unit;
        std::string_view help;
    };
    std::vector<Text> texts;
    for (const ReasonText& reason : drop_reasons)
        texts.push_back({"drop_" + std::string{reason.name}, "datagrams", reason.help});
#define UDPPROXY_TEST_TEXT(name, unit, help) texts.push_back({#name, unit, help});
    UDPPROXY_PROXY_COUNTERS(UDPPROXY_TEST_TEXT)
    UDPPROXY_SHARD_COUNTERS(UDPPROXY_TEST_TEXT)
#undef UDPPROXY_TEST_TEXT
    std::set<std::string> names;
    for (const Text& text : texts) {
        CAPTURE(text.name);
        CHECK(names.insert(text.name).second);
        CHECK(std::all_of(text.name.begin(), text.name.end(),
                          [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; }));
        CHECK_FALSE(text.unit.empty());
        CHECK_FALSE(text.help.empty());
        CHECK(text.help.back() != '.');
    }
    CHECK(name_of(Drop::truncated) == "truncated");
    CHECK(name_of(Drop::send_failed) == "send_failed");
    CHECK(static_cast<std::size_t>(Drop::send_failed) == drop_reasons.size() - 1);
}

TEST_CASE("a drop is counted under its reason and nowhere else") {
    ProxyCounters counters;
    counters.drop(Drop::late_reply);
    counters.drop(Drop::session_limit, 5);
    counters.drop(Drop::late_reply);
    for (std::size_t reason = 0; reason < drop_reasons.size(); ++reason) {
        const auto drop = static_cast<Drop>(reason);
        const std::uint64_t expected = drop == Drop::late_reply      ? 2
                                       : drop == Drop::session_limit ? 5
                                                                     : 0;
        CHECK(counters.dropped(drop) == expected);
    }
}

TEST_CASE("every counter is visited once, in the order of the list, with its value") {
    ProxyCounters proxy;
    ShardCounters shard(2);
    std::vector<std::pair<std::string, std::uint64_t>> wanted;
    std::vector<std::pair<std::string, std::uint64_t>> seen;
    const auto see = [&](std::string_view name, std::uint64_t value) {
        seen.emplace_back(name, value);
    };
    std::uint64_t next = 0;
#define UDPPROXY_TEST_COUNT(name, unit, help) \
    counters.name.add(1);                     \
    counters.name.add(next);                  \
    wanted.emplace_back(#name, 1 + next++);
    {
        ProxyCounters& counters = proxy;
        UDPPROXY_PROXY_COUNTERS(UDPPROXY_TEST_COUNT)
    }
    {
        ShardCounters& counters = shard;
        UDPPROXY_SHARD_COUNTERS(UDPPROXY_TEST_COUNT)
    }
#undef UDPPROXY_TEST_COUNT
    for_each_counter(proxy, see);
    for_each_counter(shard, see);
    CHECK(seen == wanted);
    CHECK(shard.proxies.size() == 2);
}

TEST_CASE("a counter adds up, or is set to a sum that was counted elsewhere") {
    Counter counter;
    CHECK(counter.read() == 0);
    counter.add(3);
    counter.add(4);
    CHECK(counter.read() == 7);
    counter.set(5);
    CHECK(counter.read() == 5);
}

TEST_CASE("counters of two proxies or shards share no cache line") {
    static_assert(alignof(ProxyCounters) == 64 && sizeof(ProxyCounters) % 64 == 0);
    static_assert(alignof(ShardCounters) == 64 && sizeof(ShardCounters) % 64 == 0);
}

}  // namespace
}  // namespace udpproxy
