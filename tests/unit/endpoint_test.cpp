// Addresses, endpoints and prefixes: text in, bytes, text out, and the same through the kernel's
// socket names.
#include "udpproxy/net/endpoint.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>

#include <string>

namespace udpproxy {
namespace {

template <class T>
std::string message(const Result<T>& result) {
    return result ? "no error" : result.error().message;
}

TEST_CASE("an IPv4 address is kept in the IPv4-mapped form") {
    const Address address = parse_address("192.0.2.1").value();
    CHECK(address.is_ipv4());
    CHECK(address.family() == Family::ipv4);
    CHECK(address.ipv4_network_order() == htonl(0xc0000201));
    CHECK(address.bytes[10] == 0xff);
    CHECK(address == Address::ipv4(htonl(0xc0000201)));
    CHECK(format(address) == "192.0.2.1");
}

TEST_CASE("an IPv6 address is kept as it is") {
    const Address address = parse_address("2001:db8::1").value();
    CHECK_FALSE(address.is_ipv4());
    CHECK(address.bytes[0] == 0x20);
    CHECK(address.bytes[15] == 1);
    CHECK(format(address) == "2001:db8::1");
}

TEST_CASE("what is no address is refused with the text it was") {
    for (const char* text :
         {"", " ", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "host", "2001:db8",
          "::1::", "fe80::1%lo", "[::1]", "1.2.3.4:53", "*", "::ffff:1.2.3.4"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_address(text).has_value());
    }
    CHECK(message(parse_address("host")) == "\"host\" is not an IPv4 or IPv6 address");
    CHECK(message(parse_address(std::string_view{"1.2.3.4\0", 8})) ==
          "\"1.2.3.4\\x00\" is not an IPv4 or IPv6 address");
    CHECK(message(parse_address("::ffff:1.2.3.4")) ==
          "\"::ffff:1.2.3.4\" is an IPv4-mapped address; write \"1.2.3.4\"");
    CHECK(message(parse_address(std::string(5000, 'x'))).size() < 200);
}

TEST_CASE("addresses know what kind they are") {
    const auto address = [](const char* text) { return parse_address(text).value(); };
    CHECK(Address::any(Family::ipv4) == address("0.0.0.0"));
    CHECK(Address::any(Family::ipv6) == address("::"));
    CHECK(Address{} == address("::"));
    CHECK(address("0.0.0.0").is_unspecified());
    CHECK(address("::").is_unspecified());
    CHECK_FALSE(address("0.0.0.1").is_unspecified());
    CHECK_FALSE(address("::1").is_unspecified());
    CHECK(address("224.0.0.1").is_multicast());
    CHECK(address("239.255.255.255").is_multicast());
    CHECK_FALSE(address("240.0.0.1").is_multicast());
    CHECK_FALSE(address("223.255.255.255").is_multicast());
    CHECK(address("ff02::1").is_multicast());
    CHECK_FALSE(address("fe80::1").is_multicast());
    CHECK(address("fe80::1").is_link_local());
    CHECK(address("febf::1").is_link_local());
    CHECK_FALSE(address("fec0::1").is_link_local());
    CHECK_FALSE(address("169.254.0.1").is_link_local());
    CHECK(address("255.255.255.255").is_broadcast());
    CHECK_FALSE(address("192.0.2.255").is_broadcast());
    CHECK_FALSE(address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").is_broadcast());
}

TEST_CASE("endpoints are read and written in the same form") {
    for (const char* text : {"192.0.2.1:53", "0.0.0.0:1", "255.255.255.255:65535", "[::]:53",
                             "[2001:db8::1]:65535", "[fe80::1%lo]:53"}) {
        CAPTURE(text);
        const Result<Endpoint> endpoint = parse_endpoint(text);
        REQUIRE(endpoint.has_value());
        CHECK(format(*endpoint) == text);
    }
    CHECK(parse_endpoint("192.0.2.1:53").value().port == 53);
    CHECK(parse_endpoint("[fe80::1%lo]:53").value().scope ==
          1);  // the loopback interface is the first of every namespace
}

TEST_CASE("an interface may be given as its number, and is written so when it has no name") {
    const Endpoint endpoint = parse_endpoint("[fe80::1%123456789]:53").value();
    CHECK(endpoint.scope == 123456789);
    CHECK(format(endpoint) == "[fe80::1%123456789]:53");
}

TEST_CASE("an endpoint that is none is refused with the right form") {
    CHECK(message(parse_endpoint("192.0.2.1")) ==
          "\"192.0.2.1\": the port is missing, as in \"192.0.2.1:53\"");
    CHECK(message(parse_endpoint("192.0.2.1:")) == "\"\" is not a port (1 to 65535)");
    CHECK(message(parse_endpoint("192.0.2.1:0")) == "\"0\" is not a port (1 to 65535)");
    CHECK(message(parse_endpoint("host:53")) == "\"host\" is not an IPv4 or IPv6 address");
    CHECK(message(parse_endpoint(":53")) == "\"\" is not an IPv4 or IPv6 address");
    CHECK(message(parse_endpoint("::1:53")) ==
          "\"::1:53\": an IPv6 address with a port needs brackets, as in \"[2001:db8::1]:53\"");
    CHECK(message(parse_endpoint("[::1")) ==
          "\"[::1\": the closing bracket is missing, as in \"[2001:db8::1]:53\"");
    CHECK(message(parse_endpoint("[::1]")) ==
          "\"[::1]\": a colon and a port are missing, as in \"[2001:db8::1]:53\"");
    CHECK(message(parse_endpoint("[::1]53")) ==
          "\"[::1]53\": a colon and a port are missing, as in \"[2001:db8::1]:53\"");
    CHECK(
        message(parse_endpoint("[192.0.2.1]:53")) ==
        "\"[192.0.2.1]:53\": brackets are for IPv6 addresses; write an IPv4 address without them");
    CHECK(message(parse_endpoint("[]:53")) == "\"\" is not an IPv4 or IPv6 address");
}

TEST_CASE("a link-local address has an interface, and no other address has") {
    CHECK(
        message(parse_endpoint("[fe80::1]:53")) ==
        "\"[fe80::1]:53\": a link-local address needs its interface, as in \"[fe80::1%eth0]:53\"");
    CHECK(message(parse_endpoint("[2001:db8::1%lo]:53")) ==
          "\"[2001:db8::1%lo]:53\": only a link-local address (fe80::/10) takes an interface");
    CHECK(message(parse_endpoint("[fe80::1%no-such-one]:53")) ==
          "\"[fe80::1%no-such-one]:53\": there is no interface \"no-such-one\"");
    CHECK_FALSE(parse_endpoint("[fe80::1%]:53").has_value());
    CHECK_FALSE(parse_endpoint("[fe80::1%0]:53").has_value());
    CHECK_FALSE(parse_endpoint("[fe80::1%a-name-that-no-interface-may-have]:53").has_value());
}

TEST_CASE("an interface that is absent is kept by name, with a number that no interface has") {
    const NamedEndpoint absent = parse_named_endpoint("[fe80::1%no-such-one]:53").value();
    CHECK(absent.interface == "no-such-one");
    CHECK(is_absent_interface(absent.endpoint.scope));
    CHECK(is_lost_interface(absent.endpoint.scope));
    CHECK(absent.endpoint.scope == scope_of_interface("no-such-one"));
    CHECK(absent.endpoint.scope != scope_of_interface("no-such-two"));
    const NamedEndpoint present = parse_named_endpoint("[fe80::1%lo]:53").value();
    CHECK(present.interface == "lo");
    CHECK_FALSE(is_absent_interface(present.endpoint.scope));
    CHECK_FALSE(is_lost_interface(present.endpoint.scope));
    const NamedEndpoint numbered = parse_named_endpoint("[fe80::1%7]:53").value();
    CHECK(numbered.interface.empty());
    CHECK(numbered.endpoint.scope == 7);
    CHECK_FALSE(parse_named_endpoint("[fe80::1%a/b]:53").has_value());
    CHECK_FALSE(parse_named_endpoint("[fe80::1%0]:53").has_value());
    CHECK_FALSE(is_lost_interface(0));
}

TEST_CASE("a port at every address of a family overlaps with that port at each of them") {
    const auto overlaps = [](const char* one, const char* other) {
        const Endpoint a = parse_endpoint(one).value();
        const Endpoint b = parse_endpoint(other).value();
        CHECK(overlap(a, b) == overlap(b, a));
        return overlap(a, b);
    };
    CHECK(overlaps("0.0.0.0:53", "192.0.2.1:53"));
    CHECK(overlaps("[::]:53", "[fe80::1%7]:53"));
    CHECK(overlaps("192.0.2.1:53", "192.0.2.1:53"));
    CHECK_FALSE(overlaps("0.0.0.0:53", "192.0.2.1:54"));
    CHECK_FALSE(overlaps("0.0.0.0:53", "[::1]:53"));
    CHECK_FALSE(overlaps("192.0.2.1:53", "192.0.2.2:53"));
    CHECK_FALSE(overlaps("[fe80::1%7]:53", "[fe80::1%8]:53"));
}

TEST_CASE("ports are plain decimal numbers from 1 to 65535") {
    CHECK(parse_port("1").value() == 1);
    CHECK(parse_port("65535").value() == 65535);
    for (const char* text :
         {"", "0", "65536", "99999", "123456", "053", "+53", "-53", "5 3", "0x35", "53.", "*"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_port(text).has_value());
    }
}

TEST_CASE("a prefix contains the addresses that share its bits") {
    const auto contains = [](const char* prefix, const char* address) {
        return parse_prefix(prefix).value().contains(parse_address(address).value());
    };
    CHECK(contains("192.0.2.0/24", "192.0.2.255"));
    CHECK_FALSE(contains("192.0.2.0/24", "192.0.3.0"));
    CHECK(contains("192.0.2.8/29", "192.0.2.15"));
    CHECK_FALSE(contains("192.0.2.8/29", "192.0.2.16"));
    CHECK_FALSE(contains("192.0.2.8/29", "192.0.2.7"));
    CHECK(contains("192.0.2.1/32", "192.0.2.1"));
    CHECK_FALSE(contains("192.0.2.1/32", "192.0.2.0"));
    CHECK(contains("0.0.0.0/0", "255.255.255.255"));
    CHECK(contains("2001:db8::/32", "2001:db8:ffff::1"));
    CHECK_FALSE(contains("2001:db8::/32", "2001:db9::"));
    CHECK(contains("2001:db8::/33", "2001:db8:7fff::"));
    CHECK_FALSE(contains("2001:db8::/33", "2001:db8:8000::"));
    CHECK(contains("2001:db8::1/128", "2001:db8::1"));
    CHECK_FALSE(contains("2001:db8::1/128", "2001:db8::"));
}

TEST_CASE("no IPv6 prefix contains an IPv4 address, though IPv4 is kept inside IPv6") {
    const Address ipv4 = parse_address("192.0.2.1").value();
    CHECK_FALSE(parse_prefix("::/0").value().contains(ipv4));
    CHECK_FALSE(parse_prefix("::/80").value().contains(ipv4));
    CHECK_FALSE(parse_prefix("0.0.0.0/0").value().contains(parse_address("2001:db8::1").value()));
    CHECK_FALSE(parse_prefix("::ffff:0:0/96").has_value());
}

TEST_CASE("a prefix that is none is refused with the right form") {
    CHECK(message(parse_prefix("192.0.2.0")) ==
          "\"192.0.2.0\": the length is missing, as in \"192.0.2.0/24\"");
    CHECK(message(parse_prefix("192.0.2.0/33")) ==
          "\"192.0.2.0/33\": the length must be a number from 0 to 32");
    CHECK(message(parse_prefix("192.0.2.0/")) ==
          "\"192.0.2.0/\": the length must be a number from 0 to 32");
    CHECK(message(parse_prefix("2001:db8::/129")) ==
          "\"2001:db8::/129\": the length must be a number from 0 to 128");
    CHECK(message(parse_prefix("192.0.2.1/24")) ==
          "\"192.0.2.1/24\" has bits set beyond its length; write \"192.0.2.0/24\"");
    CHECK(message(parse_prefix("2001:db8:1::/32")) ==
          "\"2001:db8:1::/32\" has bits set beyond its length; write \"2001:db8::/32\"");
    CHECK(message(parse_prefix("host/24")) == "\"host\" is not an IPv4 or IPv6 address");
    CHECK(format(parse_prefix("192.0.2.0/24").value()) == "192.0.2.0/24");
    CHECK(format(parse_prefix("::/0").value()) == "::/0");
}

TEST_CASE("socket names carry endpoints there and back") {
    for (const char* text :
         {"192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%lo]:53", "0.0.0.0:65535", "[::]:1"}) {
        CAPTURE(text);
        const Endpoint endpoint = parse_endpoint(text).value();
        SocketName name{};
        const socklen_t length = write_socket_name(endpoint, name);
        CHECK(length == (endpoint.family() == Family::ipv4 ? 16U : 28U));
        CHECK(read_socket_name(name) == endpoint);
    }
}

TEST_CASE("a socket name of another family gives the endpoint that is none") {
    SocketName name{};
    name.any.sa_family = AF_UNIX;
    CHECK(read_socket_name(name) == Endpoint{});
}

TEST_CASE("a scope on an address that is not link-local is dropped, so that endpoints compare") {
    SocketName name{};
    write_socket_name(parse_endpoint("[2001:db8::1]:53").value(), name);
    name.ipv6.sin6_scope_id = 7;
    CHECK(read_socket_name(name) == parse_endpoint("[2001:db8::1]:53").value());
}

}  // namespace
}  // namespace udpproxy
