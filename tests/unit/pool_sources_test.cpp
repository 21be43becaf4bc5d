// Which port pools are bound at an address, against a plain table.
#include "udpproxy/session/pool_sources.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace udpproxy;

namespace {

std::vector<std::uint32_t> found(const PoolSources& sources, const Address& address) {
    const auto pools = sources.pools_at(address);
    std::vector<std::uint32_t> sorted(pools.begin(), pools.end());
    std::sort(sorted.begin(), sorted.end());
    return sorted;
}

}  // namespace

TEST_CASE("the pools of an address are found, also when several have it and when it changes") {
    constexpr std::uint32_t pools_max = 64;
    std::vector<Address> addresses{Address{}};
    for (int last = 1; last < 24; ++last)
        addresses.push_back(
            *parse_address((last % 2 == 0 ? "10.0.0." : "fd00::") + std::to_string(last)));
    std::mt19937 random(7);
    PoolSources sources(pools_max);
    std::vector<Address> plain;
    for (int i = 0; i < 2000; ++i) {
        const auto pool = static_cast<std::uint32_t>(
            random() % std::min<std::size_t>(plain.size() + 1, pools_max));
        const Address& address = addresses[random() % addresses.size()];
        sources.set(pool, address);
        if (pool == plain.size())
            plain.push_back(address);
        else
            plain[pool] = address;
        const Address& asked = addresses[random() % addresses.size()];
        std::vector<std::uint32_t> expected;
        for (std::uint32_t other = 0; other < plain.size(); ++other)
            if (plain[other] == asked) expected.push_back(other);
        REQUIRE(found(sources, asked) == expected);
    }
    CHECK(plain.size() == pools_max);
    CHECK(found(sources, *parse_address("192.0.2.1")).empty());
}
