// ClientCounts: sessions per client, counted over all shards, forgotten with the last session.
#include "udpproxy/session/client_counts.hpp"

#include <doctest/doctest.h>

namespace udpproxy {
namespace {

const Address client = parse_address("192.0.2.7").value();

using Outcome = ClientCounts::Outcome;

TEST_CASE("a client gets as many sessions as the limit says, and again when some have ended") {
    ClientCounts client_counts(100, SipKey{1, 2});
    CHECK(client_counts.acquire(0, client, 2) == Outcome::counted);
    CHECK(client_counts.acquire(0, client, 2) == Outcome::counted);
    CHECK(client_counts.acquire(0, client, 2) == Outcome::limit_met);
    CHECK(client_counts.acquire(0, client, 0) == Outcome::counted);
    client_counts.release(0, client);
    CHECK(client_counts.acquire(0, client, 2) == Outcome::limit_met);
    client_counts.release(0, client);
    CHECK(client_counts.acquire(0, client, 2) == Outcome::counted);
}

TEST_CASE("proxies and clients count apart, hosts of one IPv6 /64 together") {
    ClientCounts client_counts(100, SipKey{1, 2});
    CHECK(client_counts.acquire(0, client, 1) == Outcome::counted);
    CHECK(client_counts.acquire(1, client, 1) == Outcome::counted);
    CHECK(client_counts.acquire(0, *parse_address("192.0.2.8"), 1) == Outcome::counted);
    CHECK(client_counts.acquire(0, *parse_address("2001:db8::1"), 1) == Outcome::counted);
    CHECK(client_counts.acquire(0, *parse_address("2001:db8::2"), 1) == Outcome::limit_met);
    CHECK(client_counts.acquire(0, *parse_address("2001:db8:0:1::1"), 1) == Outcome::counted);
    CHECK(client_counts.clients() == 5);
}

TEST_CASE("a client without a session leaves nothing behind, however often it comes") {
    ClientCounts client_counts(4, SipKey{1, 2});
    for (std::uint32_t round = 0; round < 10'000; ++round) {
        const Address other = Address::ipv4(round);
        REQUIRE(client_counts.acquire(0, other, 1) == Outcome::counted);
        client_counts.release(0, other);
    }
    CHECK(client_counts.clients() == 0);
}

TEST_CASE("a client for which no entry is left is refused, and nothing is counted for it") {
    ClientCounts client_counts(2, SipKey{1, 2});
    CHECK(client_counts.acquire(0, Address::ipv4(1), 2) == Outcome::counted);
    CHECK(client_counts.acquire(0, Address::ipv4(2), 0) == Outcome::counted);
    CHECK(client_counts.acquire(0, Address::ipv4(3), 2) == Outcome::full);
    CHECK(client_counts.acquire(0, Address::ipv4(2), 2) == Outcome::counted);
    CHECK(client_counts.meets_limit(0, Address::ipv4(2), 2));
    CHECK_FALSE(client_counts.meets_limit(0, Address::ipv4(1), 2));
    CHECK_FALSE(client_counts.meets_limit(0, Address::ipv4(3), 1));
    CHECK_FALSE(client_counts.meets_limit(0, Address::ipv4(2), 0));
    client_counts.release(0, Address::ipv4(1));
    CHECK(client_counts.acquire(0, Address::ipv4(3), 2) == Outcome::counted);
    CHECK(client_counts.clients() == 2);
}

}  // namespace
}  // namespace udpproxy
