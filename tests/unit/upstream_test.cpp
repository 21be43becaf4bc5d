// Upstream: every form an alias can take, in both families, and the sources that look like one and
// are none.
#include "udpproxy/session/upstream.hpp"

#include <doctest/doctest.h>

#include <initializer_list>
#include <string_view>

namespace udpproxy {
namespace {

Endpoint endpoint(std::string_view text) { return parse_endpoint(text).value(); }

Endpoint scoped(std::string_view address, std::uint32_t scope, std::uint16_t port) {
    return {parse_address(address).value(), scope, port};
}

AliasRule rule(std::string_view prefix, std::optional<std::uint16_t> port,
               std::uint32_t scope = 0) {
    return {parse_prefix(prefix).value(), scope, port};
}

TEST_CASE("an alias on an interface that is absent has no connected member, and is listed") {
    const std::uint32_t absent = scope_of_interface("no-such-one");
    const Address alias = *parse_address("fe80::3");
    const Upstream upstream(Endpoint{*parse_address("fe80::2"), 7, 53},
                            {AliasRule{Prefix{alias, 128}, absent, 53},
                             AliasRule{Prefix{*parse_address("fe80::4"), 128}, 7, 53}});
    CHECK(upstream.aliases().size() == 2);
    CHECK(upstream.connected_aliases() ==
          std::vector<Endpoint>{Endpoint{*parse_address("fe80::4"), 7, 53}});
    CHECK(upstream.members(false) == 2);
    CHECK_FALSE(upstream.lists(Endpoint{alias, 7, 53}));
}

TEST_CASE("without aliases only the upstream itself may answer") {
    for (const char* text : {"192.0.2.1:53", "[2001:db8::1]:53"}) {
        const Upstream sources(endpoint(text), {});
        CHECK(sources.endpoint() == endpoint(text));
        CHECK(sources.aliases().empty());
        CHECK(sources.lists(endpoint(text)));
        for (const char* other : {"192.0.2.1:54", "192.0.2.2:53", "[2001:db8::1]:54",
                                  "[2001:db8::2]:53", "0.0.0.0:53", "[::]:53"})
            CHECK_FALSE(sources.lists(endpoint(other)));
    }
}

TEST_CASE("an alias of one address and one port lists that endpoint only") {
    const Upstream sources(endpoint("192.0.2.1:53"),
                           {rule("192.0.2.7/32", 53), rule("2001:db8::7/128", 5353)});
    CHECK(sources.lists(endpoint("192.0.2.7:53")));
    CHECK(sources.lists(endpoint("[2001:db8::7]:5353")));
    CHECK(sources.lists(endpoint("192.0.2.1:53")));
    for (const char* other :
         {"192.0.2.7:5353", "192.0.2.6:53", "[2001:db8::7]:53", "[2001:db8::6]:5353"})
        CHECK_FALSE(sources.lists(endpoint(other)));
}

TEST_CASE("an alias of one address and any port lists every port of it, and no neighbour") {
    const Upstream sources(endpoint("192.0.2.1:53"),
                           {rule("192.0.2.7/32", {}), rule("2001:db8::7/128", {})});
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{1, 53, 5353, 65535}) {
        CHECK(sources.lists(scoped("192.0.2.7", 0, port)));
        CHECK(sources.lists(scoped("2001:db8::7", 0, port)));
        CHECK_FALSE(sources.lists(scoped("192.0.2.8", 0, port)));
        CHECK_FALSE(sources.lists(scoped("2001:db8::8", 0, port)));
    }
    // The upstream's own address is listed with its port only.
    CHECK_FALSE(sources.lists(endpoint("192.0.2.1:54")));
}

TEST_CASE("a prefix lists what lies in it, with one port or any") {
    const Upstream sources(endpoint("192.0.2.1:53"),
                           {rule("198.51.100.64/26", 53), rule("203.0.113.0/24", {}),
                            rule("2001:db8:1::/49", 53), rule("2001:db8:2::/64", {})});
    for (const char* listed :
         {"198.51.100.64:53", "198.51.100.127:53", "203.0.113.0:1", "203.0.113.255:65535",
          "[2001:db8:1::]:53", "[2001:db8:1:7fff:ffff:ffff:ffff:ffff]:53", "[2001:db8:2::1]:9"})
        CHECK_MESSAGE(sources.lists(endpoint(listed)), listed);
    for (const char* other : {"198.51.100.63:53", "198.51.100.128:53", "198.51.100.64:54",
                              "203.0.112.255:1", "203.0.114.0:1", "[2001:db8:1:8000::]:53",
                              "[2001:db8:1::]:54", "[2001:db8:0:ffff::]:53", "[2001:db8:2:1::1]:9"})
        CHECK_MESSAGE(!sources.lists(endpoint(other)), other);
}

TEST_CASE("a prefix of no bits lists its own family and not the other") {
    const Upstream ipv4(endpoint("192.0.2.1:53"), {rule("0.0.0.0/0", {})});
    CHECK(ipv4.lists(endpoint("203.0.113.9:1234")));
    CHECK_FALSE(ipv4.lists(endpoint("[2001:db8::1]:1234")));
    const Upstream ipv6(endpoint("[2001:db8::1]:53"), {rule("::/0", 53)});
    CHECK(ipv6.lists(endpoint("[2001:db8:ffff::1]:53")));
    CHECK_FALSE(ipv6.lists(endpoint("203.0.113.9:53")));
}

TEST_CASE("a link-local upstream or alias is meant on its interface only") {
    const Upstream sources(scoped("fe80::1", 2, 53),
                           {rule("fe80::7/128", 53, 3), rule("fe80::8/128", {}, 3)});
    CHECK(sources.lists(scoped("fe80::1", 2, 53)));
    CHECK_FALSE(sources.lists(scoped("fe80::1", 3, 53)));
    CHECK_FALSE(sources.lists(scoped("fe80::1", 0, 53)));
    CHECK(sources.lists(scoped("fe80::7", 3, 53)));
    CHECK_FALSE(sources.lists(scoped("fe80::7", 2, 53)));
    CHECK(sources.lists(scoped("fe80::8", 3, 9)));
    CHECK_FALSE(sources.lists(scoped("fe80::8", 4, 9)));
}

TEST_CASE("a link-local prefix without an interface is meant on every one") {
    const Upstream sources(scoped("fe80::1", 2, 53), {rule("fe80::/10", 53)});
    CHECK(sources.lists(scoped("fe80::1234", 2, 53)));
    CHECK(sources.lists(scoped("fe80::1234", 9, 53)));
    CHECK_FALSE(sources.lists(scoped("fe80::1234", 9, 54)));
}

TEST_CASE("only one address with one port is exact, and can be a connected member") {
    CHECK(rule("192.0.2.7/32", 53).is_exact());
    CHECK(rule("2001:db8::7/128", 53).is_exact());
    CHECK(rule("fe80::7/128", 53, 3).is_exact());
    CHECK_FALSE(rule("192.0.2.7/32", {}).is_exact());
    CHECK_FALSE(rule("2001:db8::7/128", {}).is_exact());
    CHECK_FALSE(rule("192.0.2.6/31", 53).is_exact());
    CHECK_FALSE(rule("2001:db8::/127", 53).is_exact());
    CHECK_FALSE(rule("2001:db8::/32", 53).is_exact());  // 32 is full length for IPv4 only
}

}  // namespace
}  // namespace udpproxy
