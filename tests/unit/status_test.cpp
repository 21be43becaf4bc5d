// Status: what a snapshot finds by the numbers that shards use, and versions swapped as a whole.
#include "udpproxy/runtime/status.hpp"

#include <doctest/doctest.h>

#include <array>
#include <thread>

namespace udpproxy {
namespace {

Status with_gaps() {
    Status status;
    for (const std::uint16_t number : std::to_array<std::uint16_t>({0, 3, 7})) {
        ProxyStatus& proxy = status.proxies.emplace_back();
        proxy.number = number;
        proxy.name = "proxy" + std::to_string(number);
        ListenerStatus& listener = status.listeners.emplace_back();
        listener.number = static_cast<std::uint16_t>(number + 1);
        listener.proxy = number;
    }
    return status;
}

TEST_CASE("a snapshot finds what it has by number and by name, and says no to what is newer") {
    const Status status = with_gaps();
    REQUIRE(status.find_proxy(3) != nullptr);
    CHECK(status.find_proxy(3)->name == "proxy3");
    CHECK(status.find_proxy("proxy7") == status.find_proxy(7));
    CHECK(status.find_listener(4)->proxy == 3);
    for (const std::uint16_t number : std::to_array<std::uint16_t>({1, 2, 4, 6, 8, 65535}))
        CHECK(status.find_proxy(number) == nullptr);
    CHECK(status.find_proxy("proxy8") == nullptr);
    CHECK(status.find_listener(0) == nullptr);
    CHECK(Status{}.find_proxy(0) == nullptr);
}

TEST_CASE("a version of an upstream is shown with its own aliases and their counters") {
    ProxyConfig config;
    config.upstream.text = "10.0.0.254:53";
    for (const char* text : {"10.0.0.253:53", "10.0.0.252:53"}) {
        const Result<Endpoint> endpoint = parse_endpoint(text);
        config.reply_aliases.push_back({{endpoint->address, 32}, 0, endpoint->port, text});
    }
    const Upstream upstream(*parse_endpoint("10.0.0.254:53"),
                            {{config.reply_aliases[0].prefix, 0, std::uint16_t{53}},
                             {config.reply_aliases[1].prefix, 0, std::uint16_t{53}}},
                            AliasMembers::connected, 2, {9, 4});
    const UpstreamStatus shown = status_of(upstream, config);
    CHECK(shown.text == "10.0.0.254:53");
    CHECK(shown.endpoint == upstream.endpoint());
    REQUIRE(shown.aliases.size() == 2);
    CHECK(shown.aliases[1].text == "10.0.0.252:53");
    CHECK(shown.aliases[0].counter_index == 9);
    CHECK(shown.aliases[1].counter_index == 4);
}

TEST_CASE("one line tells why a worker has followed another one, and nothing of a first one") {
    Succession succession;
    CHECK(text_of(succession).empty());
    succession.reason = StartReason::upgrade;
    succession.from_version = "0.1.0";
    succession.sessions_adopted = 200;
    succession.pause = std::chrono::microseconds{24314};
    CHECK(text_of(succession) ==
          "replaced by an upgrade from 0.1.0, 200 sessions adopted, pause 24 ms");
    succession.reason = StartReason::crash;
    succession.last_end = "signal 11 (Segmentation fault)";
    succession.sessions_adopted = 1;
    succession.sessions_closed = 2;
    CHECK(text_of(succession) ==
          "replaced after a crash (signal 11 (Segmentation fault)), 1 session adopted, 2 closed, "
          "pause 24 ms");
    for (std::size_t reason = 1; reason < start_reasons; ++reason) {
        succession.reason = static_cast<StartReason>(reason);
        CHECK(text_of(succession).ends_with("1 session adopted, 2 closed, pause 24 ms"));
    }
}

TEST_CASE("the line to paste lists the source after the aliases that are configured") {
    const auto service = *parse_endpoint("10.0.0.9:53");
    CHECK(aliases_with({}, service, false) == "reply_aliases = [\"10.0.0.9:53\"]");
    CHECK(aliases_with({}, service, true) == "reply_aliases = [\"10.0.0.9:*\"]");
    CHECK(aliases_with({}, *parse_endpoint("[::1]:53"), true) == "reply_aliases = [\"[::1]:*\"]");
    CHECK(differ_in_port(service, *parse_endpoint("10.0.0.9:54")));
    CHECK_FALSE(differ_in_port(service, service));
    CHECK_FALSE(differ_in_port(service, *parse_endpoint("10.0.0.8:54")));
    Alias alias;
    alias.text = "10.0.0.8:53";
    CHECK(aliases_with({alias}, service, false) ==
          "reply_aliases = [\"10.0.0.8:53\", \"10.0.0.9:53\"]");
}

TEST_CASE("queues whose sockets are withdrawn are not asked for any more") {
    // -1 stands for a descriptor: the kernel says nothing of it, as of one that is withdrawn.
    ListenerQueues queues({-1, -1});
    CHECK(queues.read().drops == 0);
    queues.withdraw(-1);
    queues.withdraw();
    CHECK(queues.read().bytes == 0);
}

TEST_CASE("a reader keeps the version it took, whole, while newer ones are published") {
    struct Pair {
        int left = 0;
        int right = 0;
    };
    Published<Pair> board;
    CHECK(board.get() == nullptr);
    board.set(std::make_shared<Pair>());
    constexpr int versions = 20000;
    std::thread writer([&] {
        for (int i = 1; i <= versions; ++i) board.set(std::make_shared<Pair>(Pair{i, i}));
    });
    int last = 0;
    bool whole = true;
    while (last < versions) {
        const std::shared_ptr<const Pair> version = board.get();
        whole = whole && version->left == version->right && version->left >= last;
        last = version->left;
    }
    writer.join();
    CHECK(whole);
}

}  // namespace
}  // namespace udpproxy
