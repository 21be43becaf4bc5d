// Names: when a name is asked for again, what is in force afterwards, and that a lack of memory at
// any moment delays an answer and loses none. The DNS server is ours; where shards serve, they are
// real.
#include "udpproxy/runtime/resolver.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <map>

#include "contract/dns_peer.hpp"
#include "contract/runtime_rig.hpp"

namespace udpproxy::contract {
namespace {

using Table = std::map<std::string, std::vector<DnsRecord>>;

struct Dns {
    Dns() : server(loopback(Family::ipv4)), conf("nameserver 127.0.0.1\n") {}

    void has(Table table) { server.answer = dns_table(std::move(table)); }
    void turn(const Names& names) {
        server.serve();
        pollfd entry{names.descriptor(), POLLIN, 0};
        ::poll(&entry, 1, names.has_more() ? 0 : 2);
    }

    DnsPeer server;
    ResolvConf conf;
};

ProxyConfig named_proxy() {
    ProxyConfig proxy;
    proxy.name = "named";
    proxy.upstream.host = "host.test";
    proxy.upstream.port = 53;
    proxy.upstream.text = "host.test:53";
    return proxy;
}

/// Names with one question, whose time the test makes.
struct Alone {
    Alone() : names(log, dns.conf.settings(dns.server.port())) { names.ask(7, named_proxy()); }

    /// What look() brings once the question that is due has its answer: the endpoint, `failed`, or
    /// `as before`.
    std::string look() {
        const Instant end = monotonic_now() + patience;
        const auto asks = [&] { return names.questions().at(7).lookup != nullptr; };
        const std::uint32_t failures = names.questions().at(7).failures;
        bool was_asked = false;
        while (monotonic_now() < end) {
            std::vector<Names::Found> found = names.look(config, now);
            if (!found.empty()) {
                REQUIRE(found.size() == 1);
                const std::string text = format(found[0].endpoint);
                names.settle(std::move(found[0]), now);
                return text;
            }
            was_asked = was_asked || asks();
            if (names.questions().at(7).failures > failures) return "failed";
            if (was_asked && !asks()) return "as before";
            dns.turn(names);
        }
        return "nothing";
    }
    /// Whether a question is asked after this time, and not before it.
    bool asks_after(Duration time) {
        const Names::Question& question = names.questions().at(7);
        const auto asks_at = [&](Duration at) {
            const Instant before = question.again_at;
            (void)names.look(config, now + at);
            return question.lookup != nullptr || question.again_at != before;
        };
        if (asks_at(time - std::chrono::milliseconds{1}) || !asks_at(time)) return false;
        now += time;
        return true;
    }

    Dns dns;
    Log log = *Log::open({LogLevel::info, LogFormat::text, "/dev/null"});
    Names names;
    Config config;
    Instant now = monotonic_now();
};

TEST_CASE("a name is asked for again when its TTL has ended, a second later at least") {
    Alone alone;
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.1", 30}}}});
    CHECK(alone.look() == "127.1.0.1:53");
    CHECK(alone.names.all_answered());
    REQUIRE(alone.asks_after(std::chrono::seconds{30}));
    CHECK(alone.look() == "as before");
    REQUIRE(alone.asks_after(std::chrono::seconds{30}));
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.2", 0}, {"host.test", "127.1.0.3", 9}}}});
    const std::string chosen = alone.look();
    CHECK((chosen == "127.1.0.2:53" || chosen == "127.1.0.3:53"));
    REQUIRE(alone.asks_after(std::chrono::seconds{1}));
    // The address in force stays while it is among the answers.
    alone.dns.has(
        {{"host.test",
          {{"host.test", "127.1.0.4", 1U << 31}, {"host.test", chosen.substr(0, 9), 1U << 31}}}});
    CHECK(alone.look() == "as before");
    REQUIRE(alone.asks_after(std::chrono::seconds{1}));  // such a TTL counts as zero
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.1", 100000}}}});
    CHECK(alone.look() == "127.1.0.1:53");
    CHECK(alone.asks_after(std::chrono::hours{1}));
}

TEST_CASE("a name that stands in /etc/hosts is asked for every minute" *
          doctest::skip(!hosts_file_has_localhost())) {
    Alone alone;
    ProxyConfig proxy = named_proxy();
    proxy.upstream.host = "localhost";
    proxy.source.push_back(loopback(Family::ipv4));
    alone.names.ask(7, proxy);
    CHECK(alone.look() == "127.0.0.1:53");
    CHECK(alone.dns.server.questions.empty());
    CHECK(alone.asks_after(std::chrono::minutes{1}));
}

TEST_CASE("a name without an answer is asked for at growing intervals, and keeps what it had") {
    Alone alone;
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.1", 5}}}});
    CHECK(alone.look() == "127.1.0.1:53");
    alone.dns.has({});
    Duration pause = std::chrono::seconds{5};
    for (const int next_s : {1, 2, 4, 8, 16, 32, 60, 60}) {
        REQUIRE(alone.asks_after(pause));
        CHECK(alone.look() == "failed");
        pause = std::chrono::seconds{next_s};
    }
    CHECK(alone.names.questions().at(7).present == parse_endpoint("127.1.0.1:53").value());
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.1", 5}}}});
    REQUIRE(alone.asks_after(pause));
    CHECK(alone.look() == "as before");
    CHECK(alone.asks_after(std::chrono::seconds{5}));
}

TEST_CASE("an answer is found again by each look until it is settled") {
    Alone alone;
    alone.dns.has({{"host.test", {{"host.test", "127.1.0.1"}}}});
    std::vector<Names::Found> found;
    while ((found = alone.names.look(alone.config, alone.now)).empty()) alone.dns.turn(alone.names);
    CHECK_FALSE(alone.names.all_answered());
    CHECK(alone.names.look(alone.config, alone.now).size() == 1);
    alone.names.put_off(found.at(0), "no room", alone.now);
    CHECK(alone.names.all_answered());
    CHECK(alone.names.look(alone.config, alone.now).empty());
    REQUIRE(alone.asks_after(std::chrono::seconds{1}));
    CHECK(alone.look() == "127.1.0.1:53");
    CHECK(alone.names.look(alone.config, alone.now).empty());
}

/// A name's answer was lost for good when memory was short at the wrong moment: as the question was
/// posted, as the answer was taken, or before the new address was in force.
TEST_CASE("whichever allocation fails while a name is resolved, its address comes into force") {
    const Endpoint listen = unused_endpoint(loopback(Family::ipv4));
    const std::string text =
        head_text() + proxy_text("named", listen, "upstream = \"host.test:53\"\n");
    Dns dns;
    dns.has({{"host.test", {{"host.test", "127.1.0.1", 1000}}}});
    RuntimeRig rig(text, std::chrono::seconds{1}, dns.conf.settings(dns.server.port()),
                   [&](const Names& names) { dns.turn(names); });
    const auto endpoint = [&] { return rig.reconfigurer.proxies()[0].upstream->endpoint(); };
    REQUIRE(endpoint() == parse_endpoint("127.1.0.1:53").value());
    std::size_t thrown = 0;
    let_each_allocation_fail([&](std::size_t failing) {
        const std::string address = "127.1." + std::to_string(1 + failing % 200) + ".2";
        dns.has({{"host.test", {{"host.test", address, 1000}}}});
        REQUIRE(rig.reload(text));
        const Endpoint wanted = parse_endpoint(address + ":53").value();
        const Instant end = monotonic_now() + 4 * patience;
        Instant now = monotonic_now();  // moves faster, so that a second attempt is due at once
        std::size_t left = failing;
        while (endpoint() != wanted && monotonic_now() < end) {
            {
                const FailingAllocation failure(left);
                try {
                    rig.reconfigurer.look(now);
                } catch (const std::bad_alloc&) {
                    ++thrown;
                }
                left = failure.left();
            }
            dns.turn(rig.names);
            now += std::chrono::milliseconds{100};
        }
        REQUIRE(endpoint() == wanted);
        REQUIRE(rig.board.get()->proxies.at(0).upstream.endpoint == wanted);
        return left == 0;
    });
    CHECK((thrown > 10 || !counts_allocations()));
}

TEST_CASE("names that change address leave half of the versions to reloads") {
    const Endpoint listen = unused_endpoint(loopback(Family::ipv4));
    const auto text = [&](int port) {
        return head_text() + proxy_text("named", listen,
                                        "upstream = \"host.test:" + std::to_string(port) + "\"\n");
    };
    Dns dns;
    dns.has({{"host.test", {{"host.test", "127.1.0.1", 1}}}});
    RuntimeRig rig(text(53), std::chrono::seconds{1}, dns.conf.settings(dns.server.port()),
                   [&](const Names& names) { dns.turn(names); });
    const ProxySlot& slot = rig.reconfigurer.proxies()[0];
    std::vector<std::shared_ptr<const Upstream>> held;  // as sessions hold them
    Instant now = monotonic_now();
    const auto look_until = [&](auto&& has_come) {
        const Instant end = monotonic_now() + patience;
        while (!has_come() && monotonic_now() < end) {
            rig.reconfigurer.look(now);
            dns.turn(rig.names);
            now += std::chrono::seconds{1};
        }
        return has_come();
    };
    for (int i = 0; i < 511; ++i) {
        held.push_back(slot.upstream);
        const std::string address = "127.1." + std::to_string(i % 2) + ".9";
        dns.has({{"host.test", {{"host.test", address, 1}}}});
        REQUIRE(look_until([&] { return format(slot.upstream->endpoint()) == address + ":53"; }));
    }
    dns.has({{"host.test", {{"host.test", "127.2.0.1", 1}}}});
    const auto& question = rig.names.questions().at(0);
    CHECK(look_until([&] { return question.failures > 1; }));
    CHECK(question.logged.find("127.2.0.1:53 now: sessions hold 512 versions") !=
          std::string::npos);
    CHECK(format(slot.upstream->endpoint()) != "127.2.0.1:53");
    // A reload has made sure of its own.
    REQUIRE(rig.reload(text(54)));
    CHECK(look_until([&] { return format(slot.upstream->endpoint()) == "127.2.0.1:54"; }));
    // And a name changes again once sessions have ended.
    held.clear();
    dns.has({{"host.test", {{"host.test", "127.2.0.2", 1}}}});
    CHECK(look_until([&] { return format(slot.upstream->endpoint()) == "127.2.0.2:54"; }));
}

}  // namespace
}  // namespace udpproxy::contract
