// Lookups: what is asked of which server, what becomes of answers right, wrong and missing, and
// that nothing waits for anything. The servers are ours, on loopback.
#include "udpproxy/host/lookups.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <random>
#include <set>

#include "contract/dns_peer.hpp"
#include "contract/peer.hpp"
#include "contract/runtime_rig.hpp"

namespace udpproxy::contract {
namespace {

using Asked = std::shared_ptr<const Lookup>;

// A name is given up after 7 s for each server; a loaded machine is slower.
constexpr Duration given_up = std::chrono::seconds{30};

std::string text_of(const Result<Addresses>& found) {
    if (!found) return found.error().message;
    std::string text;
    for (const Endpoint& endpoint : found->endpoints) text += format(endpoint) + " ";
    return text +
           (found->ttl ? std::to_string(*found->ttl / std::chrono::seconds{1}) + " s" : "no TTL");
}

/// A server and a client that knows it.
struct Rig {
    explicit Rig(const std::string& more = {})
        : server(loopback(Family::ipv4)),
          conf("nameserver 127.0.0.1\n" + more),
          lookups(conf.settings(server.port())) {}

    /// Serves and advances until all are done. Every wait is for the sockets.
    bool run(const std::vector<Asked>& asked, Duration limit = given_up) {
        const auto is_done = [](const Asked& lookup) { return lookup->is_done(); };
        const Instant end = monotonic_now() + limit;
        while (!std::all_of(asked.begin(), asked.end(), is_done)) {
            if (monotonic_now() >= end) return false;
            turn();
        }
        return true;
    }
    void turn() {
        lookups.advance();
        server.serve();
        pollfd entry{lookups.descriptor(), POLLIN, 0};
        ::poll(&entry, 1, lookups.has_more() ? 0 : 2);
    }
    std::string ask(const HostName& name) {
        const Asked lookup = lookups.ask(name);
        REQUIRE(run({lookup}));
        return text_of(lookup->addresses());
    }

    DnsPeer server;
    ResolvConf conf;
    Lookups lookups;
};

TEST_CASE("both families are asked for, or the one that is wanted, and the shortest TTL counts") {
    Rig rig;
    rig.server.answer = dns_table({{"both.test",
                                    {{"both.test", "127.1.0.1", 300},
                                     {"both.test", "127.1.0.1", 40},
                                     {"both.test", "::1", 90}}}});
    const Asked lookup = rig.lookups.ask({"both.test", 53, std::nullopt});
    REQUIRE(rig.run({lookup}));
    std::vector<Endpoint> found = lookup->addresses().value().endpoints;
    std::sort(found.begin(), found.end());
    CHECK(found == std::vector<Endpoint>{parse_endpoint("[::1]:53").value(),
                                         parse_endpoint("127.1.0.1:53").value()});
    CHECK(lookup->addresses()->ttl == std::chrono::seconds{40});
    CHECK(rig.ask({"both.test", 5, Family::ipv4}) == "127.1.0.1:5 40 s");
    CHECK(rig.ask({"both.test", 6, Family::ipv6}) == "[::1]:6 90 s");
    CHECK(rig.server.questions.size() == 4);
}

TEST_CASE("an alias is followed, and its own TTL counts") {
    Rig rig;
    rig.server.answer =
        dns_table({{"www.test", {{"www.test", "host.test", 7}, {"host.test", "127.1.0.2", 600}}},
                   {"lost.test", {{"lost.test", "nowhere.test", 7}}}});
    CHECK(rig.ask({"www.test", 53, Family::ipv4}) == "127.1.0.2:53 7 s");
    CHECK(rig.ask({"lost.test", 53, std::nullopt}) == "DNS server returned answer with no data");
}

TEST_CASE("a name without an address has a reason") {
    Rig rig;
    rig.server.answer = dns_table({{"other.test", {{"other.test", "::1"}}}});
    CHECK(rig.ask({"none.test", 53, std::nullopt}) == "Domain name not found");
    CHECK(rig.ask({"other.test", 53, Family::ipv4}) == "DNS server returned answer with no data");
}

TEST_CASE("the search list of resolv.conf is gone through") {
    Rig rig("search far.test near.test\n");
    rig.server.answer = dns_table({{"host.near.test", {{"host.near.test", "127.1.0.3"}}},
                                   {"a.host.far.test", {{"a.host.far.test", "127.1.0.4"}}}});
    CHECK(rig.ask({"host", 53, Family::ipv4}) == "127.1.0.3:53 60 s");
    CHECK(rig.ask({"a.host", 53, Family::ipv4}) == "127.1.0.4:53 60 s");
    CHECK(rig.ask({"host.", 53, Family::ipv4}) == "Domain name not found");
}

TEST_CASE("names whose server is silent hold up no other, nor what /etc/hosts has") {
    Rig rig;
    const auto known = dns_table({{"quick.test", {{"quick.test", "127.1.0.5"}}}});
    rig.server.answer = [&](const DnsQuestion& question) -> std::optional<std::string> {
        if (question.name.starts_with("silent")) return std::nullopt;
        return known(question);
    };
    std::vector<Asked> silent;
    for (int i = 0; i < 50; ++i)
        silent.push_back(
            rig.lookups.ask({"silent" + std::to_string(i) + ".test", 53, std::nullopt}));
    if (hosts_file_has_localhost())
        CHECK(rig.ask({"localhost", 53, Family::ipv4}) == "127.0.0.1:53 no TTL");
    CHECK(rig.ask({"quick.test", 53, std::nullopt}) == "127.1.0.5:53 60 s");
    CHECK(std::none_of(silent.begin(), silent.end(),
                       [](const Asked& lookup) { return lookup->is_done(); }));
    const Instant begin = monotonic_now();
    REQUIRE(rig.run(silent));
    CHECK(monotonic_now() - begin > std::chrono::seconds{5});
    for (const Asked& lookup : silent)
        CHECK(text_of(lookup->addresses()) == "Timeout while contacting DNS servers");
    std::size_t repeats = 0;
    for (const DnsQuestion& question : rig.server.questions)
        repeats += question.name == "silent0.test" && question.type == RecordType::a ? 1U : 0U;
    CHECK(repeats == 3);
}

TEST_CASE("the second server is asked while the first is silent or refuses") {
    DnsPeer silent(address("127.0.0.2"));
    DnsPeer server(address("127.0.0.3"), silent.port());
    server.answer = dns_table({{"host.test", {{"host.test", "127.1.0.6"}}}});
    for (const char* first : {"127.0.0.2", "127.0.0.4"}) {  // nobody is on the last one
        const ResolvConf conf(std::string{"nameserver "} + first + "\nnameserver 127.0.0.3\n");
        Lookups lookups(conf.settings(silent.port()));
        const Asked lookup = lookups.ask({"host.test", 53, std::nullopt});
        const Instant end = monotonic_now() + given_up;
        while (!lookup->is_done() && monotonic_now() < end) {
            lookups.advance();
            server.serve();
            sleep_for(std::chrono::milliseconds{1});
        }
        REQUIRE(lookup->is_done());
        CHECK(text_of(lookup->addresses()) == "127.1.0.6:53 60 s");
    }
}

TEST_CASE("an answer that UDP cuts off is fetched over TCP") {
    Rig rig;
    std::vector<DnsRecord> records;
    for (int i = 1; i <= 200; ++i)
        records.push_back({"many.test", "127.2.0." + std::to_string(i), 30});
    rig.server.answer = [&](const DnsQuestion& question) {
        return question.is_tcp ? dns_answer(question, records) : dns_truncated(question);
    };
    const Asked lookup = rig.lookups.ask({"many.test", 53, Family::ipv4});
    REQUIRE(rig.run({lookup}));
    CHECK(lookup->addresses().value().endpoints.size() == 200);
    CHECK(rig.server.questions.size() == 2);
}

TEST_CASE("garbage is no answer: the name fails, or is answered by what comes after it") {
    Rig rig;
    std::mt19937 random(4711);
    const auto known = dns_table({{"host.test", {{"host.test", "www.test"}, {"www.test", "::1"}}}});
    int number = 0;
    rig.server.answer = [&](const DnsQuestion& question) -> std::optional<std::string> {
        std::string packet = *known(question);
        const std::size_t spared = number++ % 2 == 0 ? 2 : 12 + 11 + 4;  // the id; the question too
        if (number % 3 == 0) packet.resize(random() % packet.size());
        for (std::size_t i = spared; i < packet.size(); ++i)
            if (random() % 4 == 0) packet[i] = static_cast<char>(random());
        return packet;
    };
    std::vector<Asked> asked;
    for (int i = 0; i < 200; ++i) asked.push_back(rig.lookups.ask({"host.test", 53, {}}));
    REQUIRE(rig.run(asked, 2 * given_up));
    rig.server.answer = known;
    CHECK(rig.ask({"host.test", 53, std::nullopt}) == "[::1]:53 60 s");
}

TEST_CASE("a thousand names at once have their answers, and 256 of them are under way at most") {
    Rig rig;
    std::set<std::string> unanswered;
    rig.server.answer = [&](const DnsQuestion& question) -> std::optional<std::string> {
        unanswered.insert(question.name);
        return std::nullopt;
    };
    std::vector<Asked> asked;
    for (int i = 0; i < 1000; ++i)
        asked.push_back(rig.lookups.ask({"n" + std::to_string(i) + ".test", 53, Family::ipv4}));
    rig.turn();
    CHECK(rig.server.questions.size() == 32);  // each of them has read /etc/hosts
    while (rig.lookups.has_more()) rig.turn();
    for (int i = 0; i < 100; ++i) rig.turn();
    CHECK(unanswered.size() == 256);
    rig.server.answer = [](const DnsQuestion& question) {
        return dns_answer(question, {{question.name, "127.1.0.7"}});
    };
    REQUIRE(rig.run(asked));
    CHECK(std::all_of(asked.begin(), asked.end(),
                      [](const Asked& lookup) { return lookup->addresses().has_value(); }));
}

TEST_CASE("a resolv.conf that changes is read again, for what is under way and for what comes") {
    DnsPeer other(address("127.0.0.5"));
    other.answer = dns_table({{"host.test", {{"host.test", "127.1.0.8"}}}});
    DnsPeer silent(loopback(Family::ipv4), other.port());
    const ResolvConf conf("nameserver 127.0.0.1\n");
    Lookups lookups(conf.settings(other.port()));
    const Asked lookup = lookups.ask({"host.test", 53, std::nullopt});
    for (int i = 0; i < 10; ++i) lookups.advance();
    silent.serve();
    REQUIRE(silent.questions.size() == 2);
    conf.replace("nameserver 127.0.0.5\n");
    const Asked later = lookups.ask({"host.test", 54, std::nullopt});
    const Instant end = monotonic_now() + given_up;
    while (!(lookup->is_done() && later->is_done()) && monotonic_now() < end) {
        lookups.advance();
        other.serve();
        sleep_for(std::chrono::milliseconds{1});
    }
    REQUIRE((lookup->is_done() && later->is_done()));
    CHECK(text_of(lookup->addresses()) == "127.1.0.8:53 60 s");
    CHECK(text_of(later->addresses()) == "127.1.0.8:54 60 s");
    silent.serve();
    CHECK(silent.questions.size() == 2);
}

TEST_CASE("a question that nobody wants any more is not asked") {
    Rig rig;
    rig.server.answer = dns_table({});
    (void)rig.lookups.ask({"dropped.test", 53, std::nullopt});
    CHECK(rig.ask({"wanted.test", 53, std::nullopt}) == "Domain name not found");
    for (const DnsQuestion& question : rig.server.questions) CHECK(question.name == "wanted.test");
}

TEST_CASE("one lookup without memory for one thing fails or not, and the next one has its answer") {
    Rig rig("search far.test\n");
    rig.server.answer = [&](const DnsQuestion& question) -> std::optional<std::string> {
        if (question.name == "host") return dns_nxdomain(question);
        if (!question.is_tcp && question.type == RecordType::a) return dns_truncated(question);
        return dns_answer(question, {{question.name, "www.test"}, {"www.test", "127.1.0.9"}});
    };
    std::size_t failed = 0;
    let_each_allocation_fail([&](std::size_t failing) {
        const Asked lookup = rig.lookups.ask({"host", 53, std::nullopt});
        const Instant end = monotonic_now() + given_up;
        std::size_t left = failing;
        bool has_failed = false;
        while (!lookup->is_done() && monotonic_now() < end) {
            if (!has_failed) {  // only what Lookups allocates is counted down
                const FailingAllocation failure(left);
                rig.lookups.advance();
                has_failed = failure.has_failed();
                left = failure.left();
            } else {
                rig.lookups.advance();
            }
            rig.server.serve();
            pollfd entry{rig.lookups.descriptor(), POLLIN, 0};
            ::poll(&entry, 1, 2);
        }
        REQUIRE(lookup->is_done());
        if (!lookup->addresses()) ++failed;
        REQUIRE(rig.ask({"host", 53, Family::ipv4}) == "127.1.0.9:53 60 s");
        return has_failed;
    });
    CHECK((failed > 10 || !counts_allocations()));
}

}  // namespace
}  // namespace udpproxy::contract
