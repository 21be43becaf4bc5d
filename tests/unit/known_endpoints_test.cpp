// What a new client's source is compared with.
#include "udpproxy/session/known_endpoints.hpp"

#include <doctest/doctest.h>

using namespace udpproxy;

namespace {

Endpoint at(std::string_view text) { return *parse_endpoint(text); }

AliasRule alias(std::string_view address, std::uint8_t bits, std::optional<std::uint16_t> port) {
    return AliasRule{Prefix{*parse_address(address), bits}, 0, port};
}

}  // namespace

TEST_CASE("listeners, upstreams and aliases of one address and port are known endpoints") {
    const std::vector<Endpoint> listeners{at("192.0.2.1:53"), at("[2001:db8::1]:53"), at("[::]:7")};
    const std::vector<std::shared_ptr<const Upstream>> upstreams{
        std::make_shared<const Upstream>(
            at("10.0.0.1:53"),
            std::vector{alias("10.0.0.2", 32, 53), alias("10.0.0.3", 32, std::nullopt),
                        alias("10.9.0.0", 16, 53), alias("2001:db8::2", 128, 53)},
            AliasMembers::open),
        std::make_shared<const Upstream>(at("10.0.0.1:53")),
        std::make_shared<const Upstream>(Endpoint{})};  // a name without an address
    const KnownEndpoints known(listeners, upstreams);
    for (const char* text :
         {"192.0.2.1:53", "[2001:db8::1]:53", "10.0.0.1:53", "10.0.0.2:53", "[2001:db8::2]:53"}) {
        CAPTURE(text);
        CHECK(known.contains(at(text)));
    }
    for (const char* text :
         {"192.0.2.1:54", "192.0.2.2:53", "10.0.0.3:53", "10.9.0.1:53", "[2001:db8::9]:7"}) {
        CAPTURE(text);
        CHECK_FALSE(known.contains(at(text)));
    }
    CHECK_FALSE(known.contains(Endpoint{}));
    CHECK(known.has_wildcard(Family::ipv6, 7));
    CHECK_FALSE(known.has_wildcard(Family::ipv4, 7));
    CHECK_FALSE(known.has_wildcard(Family::ipv6, 53));
    CHECK(known == KnownEndpoints(listeners, upstreams));
    CHECK_FALSE(known == KnownEndpoints(listeners, {}));
}
