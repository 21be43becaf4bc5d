// Which traffic is called a problem, and how it is told.
#include "udpproxy/runtime/problems.hpp"

#include <doctest/doctest.h>

#include "source_tree.hpp"

namespace udpproxy {

namespace {

ProxyStatus a_proxy() {
    ProxyStatus proxy;
    proxy.name = "dns";
    proxy.upstream.text = "10.0.0.254:53";
    proxy.upstream.endpoint = parse_endpoint("10.0.0.254:53").value();
    return proxy;
}

Traffic traffic(std::uint64_t requests, std::uint64_t replies, std::uint64_t unlisted = 0,
                std::uint64_t icmp_errors = 0) {
    Traffic made;
    made.requests = requests;
    made.replies = replies;
    made.unlisted = unlisted;
    made.icmp_errors = icmp_errors;
    return made;
}

std::string kinds(const Problems& problems) {
    std::string text;
    for (const Problem& problem : problems) {
        CHECK(problem.proxy == "dns");
        CHECK(!problem.text.empty());
        text += (text.empty() ? "" : " ") + std::string{name_of(problem.kind)};
    }
    return text;
}

}  // namespace

TEST_CASE("traffic that is answered is no problem, however little or much of it") {
    CHECK(kinds(problems_of(a_proxy(), Traffic{}, 0)).empty());
    CHECK(kinds(problems_of(a_proxy(), traffic(1, 1), 1)).empty());
    CHECK(kinds(problems_of(a_proxy(), traffic(1000, 1), 1000)).empty());
    // An alias answers while the upstream's own port is closed, as after a failover.
    CHECK(kinds(problems_of(a_proxy(), traffic(1000, 1000, 0, 500), 1000)).empty());
    // A stranger among many replies.
    CHECK(kinds(problems_of(a_proxy(), traffic(1000, 1000, 300), 1000)).empty());
}

TEST_CASE("of missing replies the one kind is named that says most about the cause") {
    CHECK(kinds(problems_of(a_proxy(), traffic(10, 0), 10)) == "replies_missing");
    CHECK(kinds(problems_of(a_proxy(), traffic(10, 0), 9)).empty());  // the tenth has just left
    CHECK(kinds(problems_of(a_proxy(), traffic(10, 0, 0, 3), 10)) == "upstream_refuses");
    CHECK(kinds(problems_of(a_proxy(), traffic(3, 0, 0, 3), 3)) == "upstream_refuses");
    CHECK(kinds(problems_of(a_proxy(), traffic(10, 0, 0, 2), 10)) == "replies_missing");
    CHECK(kinds(problems_of(a_proxy(), traffic(10, 0, 10), 10)) == "replies_unlisted");
    CHECK(kinds(problems_of(a_proxy(), traffic(1000, 750, 250), 1000)) == "replies_unlisted");
    CHECK(kinds(problems_of(a_proxy(), traffic(1000, 751, 249), 1000)).empty());
    ProxyStatus unresolved = a_proxy();
    unresolved.upstream.endpoint.port = 0;
    CHECK(kinds(problems_of(unresolved, traffic(0, 0), 0)) == "upstream_unresolved");
}

TEST_CASE("limits that were met and full receive queues are problems beside the others") {
    Traffic lately = traffic(10, 0);
    lately.limits[static_cast<std::size_t>(Drop::session_limit)] = 312;
    lately.limits[static_cast<std::size_t>(Drop::client_limit)] = 5;
    lately.queue_drops = 7;
    const Problems found = problems_of(a_proxy(), lately, 10);
    REQUIRE(kinds(found) == "replies_missing clients_refused queue_drops");
    CHECK(found[1].text ==
          "datagrams of new clients refused in the last minute: client_limit 5, session_limit 312");
}

TEST_CASE("docs/operating.md lists every kind of problem, in the words of the code") {
    const std::string document = read_file(source_path("docs/operating.md"));
    std::size_t at = document.find("## What is wrong now");
    for (const ProblemText& each : problem_texts) {
        CAPTURE(each.name);
        at = document.find("| `" + std::string{each.name} + "` | " + std::string{each.help} + " |",
                           at);
        REQUIRE(at != std::string::npos);
    }
}

}  // namespace udpproxy
