// Token buckets: one, and one for every source in fixed memory.
#include "udpproxy/session/token_bucket.hpp"

#include <doctest/doctest.h>

#include <string>

#include "udpproxy/session/source_buckets.hpp"
#include "udpproxy/session/source_prefix.hpp"

namespace udpproxy {
namespace {

using namespace std::chrono_literals;

const Instant start{1000s};

int taken(TokenBucket& bucket, Instant now, const Rate& rate, int tries) {
    int count = 0;
    for (int i = 0; i < tries; ++i) count += bucket.take(now, rate) ? 1 : 0;
    return count;
}

TEST_CASE("a bucket gives its burst at once and its rate after that") {
    TokenBucket bucket;
    const Rate rate{10, 25};
    CHECK(taken(bucket, start, rate, 100) == 25);
    CHECK(taken(bucket, start + 99ms, rate, 100) == 0);
    CHECK(taken(bucket, start + 100ms, rate, 100) == 1);
    CHECK(taken(bucket, start + 1100ms, rate, 100) == 10);
    CHECK(taken(bucket, start + 1h, rate, 100) == 25);
}

TEST_CASE("no limit gives always, and a token put back can be taken again") {
    TokenBucket bucket;
    CHECK(taken(bucket, start, Rate{}, 1000) == 1000);
    const Rate one{1, 1};
    CHECK(bucket.has_token(start, one));
    CHECK(bucket.take(start, one));
    CHECK_FALSE(bucket.has_token(start, one));
    CHECK_FALSE(bucket.take(start, one));
    bucket.give_back(one);
    CHECK(bucket.take(start, one));
}

TEST_CASE("a lower rate holds at once for a bucket that was filled at a higher one") {
    TokenBucket bucket;
    CHECK(taken(bucket, start, Rate{1000, 1000}, 2000) == 1000);
    CHECK(taken(bucket, start + 1s, Rate{1, 1}, 10) == 1);
}

TEST_CASE("a raised rate holds at once for a bucket that was emptied at a lower one") {
    TokenBucket bucket;
    CHECK(taken(bucket, start, Rate{5, 300}, 400) == 300);
    const Rate raised{1000, 1000};
    bucket.fit(start, raised);
    CHECK(taken(bucket, start, raised, 10) == 0);
    CHECK(taken(bucket, start + 10ms, raised, 100) == 10);
    CHECK(taken(bucket, start + 2s, raised, 2000) == 1000);

    // A smaller burst likewise; and what the bucket still holds stays.
    CHECK(taken(bucket, start + 3s, raised, 400) == 400);
    bucket.fit(start + 3s, Rate{1000, 700});
    CHECK(taken(bucket, start + 3s, Rate{1000, 700}, 1000) == 300);
    bucket.fit(start + 3s, Rate{});
    CHECK(taken(bucket, start + 3s, Rate{1000, 700}, 1000) == 0);
    bucket.fill();
    CHECK(taken(bucket, start + 3s, Rate{1000, 700}, 1000) == 700);
}

TEST_CASE("a host is an IPv4 address or an IPv6 /64, a site a /24 or a /48") {
    const auto same = [](const char* one, const char* other, auto bits) {
        const Address a = *parse_address(one);
        const Address b = *parse_address(other);
        return leading_bits(a, bits(a)) == leading_bits(b, bits(b));
    };
    CHECK(same("192.0.2.1", "192.0.2.1", host_bits));
    CHECK_FALSE(same("192.0.2.1", "192.0.2.2", host_bits));
    CHECK(same("192.0.2.1", "192.0.2.254", site_bits));
    CHECK_FALSE(same("192.0.2.1", "192.0.3.1", site_bits));
    CHECK(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::", host_bits));
    CHECK_FALSE(same("2001:db8:1:2::1", "2001:db8:1:3::1", host_bits));
    CHECK(same("2001:db8:1:2::1", "2001:db8:1:ffff::1", site_bits));
    CHECK_FALSE(same("2001:db8:1:2::1", "2001:db8:2:2::1", site_bits));
    CHECK(leading_bits(*parse_address("ffff:ffff::"), 20) ==
          leading_bits(*parse_address("ffff:f000::"), 128));
}

TEST_CASE("each host has its tokens, a site bounds its hosts together, and proxies do not share") {
    SourceBuckets buckets(SipKey{1, 2});
    const Rate host{10, 10};
    const Rate site{25, 25};
    const auto count = [&](std::uint16_t proxy, const std::string& source) {
        int taken = 0;
        for (int i = 0; i < 100; ++i)
            taken += buckets.take(proxy, *parse_address(source), start, host, site) ? 1 : 0;
        return taken;
    };
    CHECK(count(0, "192.0.2.1") == 10);
    CHECK(count(0, "192.0.2.2") == 10);
    CHECK(count(0, "192.0.2.3") == 5);
    CHECK(count(0, "198.51.100.1") == 10);
    CHECK(count(1, "192.0.2.1") == 10);
    CHECK(count(0, "2001:db8::1") == 10);
    CHECK(count(0, "2001:db8::2") == 0);
}

TEST_CASE(
    "beside two thousand sources at their limit, one in a hundred others is held back at most") {
    SourceBuckets buckets(SipKey{3, 4});
    const Rate rate{1, 1};
    const auto numbered = [](std::uint32_t number) { return Address::ipv4(number * 2654435761U); };
    for (std::uint32_t source = 1; source <= 2000; ++source)
        (void)buckets.take(0, numbered(source), start, rate, rate);
    int held_back = 0;
    for (std::uint32_t source = 100'001; source <= 101'000; ++source)
        held_back += buckets.take(0, numbered(source), start, rate, rate) ? 0 : 1;
    CHECK(held_back <= 10);
}

}  // namespace
}  // namespace udpproxy
