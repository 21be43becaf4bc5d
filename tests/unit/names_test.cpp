// Names: which of the addresses that a resolver gives is taken, and what is said of the others.
#include "udpproxy/config/upstream_choice.hpp"

#include <doctest/doctest.h>

namespace udpproxy {
namespace {

Endpoint at(std::string_view text) { return parse_endpoint(text).value(); }

Config with_listeners(const std::vector<std::string>& listen) {
    Config config;
    ProxyConfig& proxy = config.proxies.emplace_back();
    proxy.name = "dns";
    for (const std::string& text : listen) proxy.listen.push_back({at(text), text});
    proxy.upstream.host = "service.test";
    proxy.upstream.port = 53;
    proxy.upstream.text = "service.test:53";
    return config;
}

TEST_CASE("the first usable address is taken, or the present one while it is still an answer") {
    const Config config = with_listeners({"10.1.0.1:53"});
    const ProxyConfig& proxy = config.proxies[0];
    const std::vector<Endpoint> found{at("10.0.0.1:53"), at("10.0.0.2:53"), at("[2001:db8::1]:53")};
    CHECK(choose_upstream(config, proxy, found).endpoint == at("10.0.0.1:53"));
    CHECK(choose_upstream(config, proxy, found).refused.empty());
    CHECK(choose_upstream(config, proxy, found, at("10.0.0.2:53")).endpoint == at("10.0.0.2:53"));
    CHECK(choose_upstream(config, proxy, found, at("10.0.0.3:53")).endpoint == at("10.0.0.1:53"));
    CHECK_FALSE(choose_upstream(config, proxy, {}).endpoint.has_value());
}

TEST_CASE("listeners, aliases and what is no host are passed over, with the reason of the first") {
    Config config = with_listeners({"10.1.0.1:53", "0.0.0.0:54"});
    ProxyConfig& proxy = config.proxies[0];
    proxy.reply_aliases.push_back({parse_prefix("10.0.0.2/32").value(), 0, 53, "10.0.0.2"});
    const UpstreamChoice choice =
        choose_upstream(config, proxy, {at("10.1.0.1:53"), at("10.0.0.2:53"), at("10.0.0.3:53")});
    CHECK(choice.endpoint == at("10.0.0.3:53"));
    CHECK(choice.refused ==
          "upstream \"service.test:53\" is 10.1.0.1:53: the listener of proxy \"dns\": a "
          "forwarding loop");
    CHECK_FALSE(choose_upstream(config, proxy, {at("10.0.0.2:53")}).endpoint.has_value());
    for (const char* text : {"0.0.0.0:53", "224.0.0.1:53", "255.255.255.255:53"})
        CHECK_FALSE(choose_upstream(config, proxy, {at(text)}).endpoint.has_value());
    // Whatever loopback address: a listener on every address receives it.
    for (const char* text : {"127.0.0.1:54", "127.3.2.1:54"})
        CHECK_FALSE(choose_upstream(config, proxy, {at(text)}).endpoint.has_value());
}

}  // namespace
}  // namespace udpproxy
