// Capacity: the arithmetic of descriptors, ports and sessions, what is refused and in which words;
// and proxies made into setups, whose groups must be of the size that the arithmetic says.
#include "udpproxy/config/capacity.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "ledger/layout.hpp"
#include "udpproxy/runtime/shard_setup.hpp"
#include "udpproxy/session/group_pool.hpp"
#include "udpproxy/session/session.hpp"

namespace udpproxy {
namespace {

const PortRange ephemeral{32768, 60999, true};

Alias alias(std::string_view prefix, std::optional<std::uint16_t> port, std::uint32_t scope = 0) {
    return {parse_prefix(prefix).value(), scope, port, std::string{prefix}};
}

ProxyConfig proxy(std::string name, std::vector<Alias> aliases = {},
                  UnlistedReplies unlisted = UnlistedReplies::off) {
    ProxyConfig config;
    config.name = std::move(name);
    config.listen = {{parse_endpoint("192.0.2.1:53").value(), "192.0.2.1:53"}};
    config.reply_aliases = std::move(aliases);
    config.unlisted_replies = unlisted;
    config.position = "x.toml:7:1";
    return config;
}

ProxySetup setup_of(const ProxyConfig& config) {
    return setup_of(config, parse_endpoint("198.51.100.1:53").value(), ephemeral);
}

AliasMembers filter_of(const ProxyConfig& config) {
    return setup_of(config).upstream->alias_members();
}

Capacity compute(const std::vector<ProxyConfig>& proxies, std::uint64_t descriptors,
                 std::uint32_t shards = 1, std::optional<std::uint32_t> sessions_max = {}) {
    Config config;
    config.proxies = proxies;
    config.sessions_max = sessions_max;
    config.sessions_max_position = "x.toml:2:3";
    return compute_capacity(config, {descriptors, shards, ephemeral});
}

TEST_CASE(
    "a group has a primary, a member per connected alias, and an open one where it filters or "
    "watches") {
    ProxySetup plain = setup_of(proxy("a"));
    CHECK(plain.upstream->members(false) == 1);
    CHECK(plain.upstream->members(true) == 2);
    CHECK_FALSE(plain.upstream->needs_open_member());
    const ProxySetup connected =
        setup_of(proxy("a", {alias("192.0.2.7/32", 53), alias("192.0.2.8/32", 53)}));
    CHECK(connected.upstream->alias_members() == AliasMembers::connected);
    CHECK(connected.upstream->members(false) == 3);
    CHECK(connected.upstream->members(true) == 4);
    const ProxySetup open = setup_of(proxy("a", {alias("192.0.2.0/24", {})}));
    CHECK(open.upstream->alias_members() == AliasMembers::open);
    CHECK(open.upstream->needs_open_member());
    CHECK(open.upstream->members(false) == 2);
    CHECK(open.upstream->members(true) == 2);
}

TEST_CASE("aliases get connected members when all are exact and few, or when asked for") {
    const auto exact = [](unsigned count) {
        std::vector<Alias> aliases;
        for (unsigned i = 1; i <= count; ++i)
            aliases.push_back(alias("192.0.2." + std::to_string(i) + "/32", 53));
        return aliases;
    };
    CHECK(filter_of(proxy("a", exact(4))) == AliasMembers::connected);
    CHECK(filter_of(proxy("a", exact(5))) == AliasMembers::open);
    ProxyConfig config = proxy("a", exact(5));
    config.alias_filter = AliasFilter::connected;
    CHECK(filter_of(config) == AliasMembers::connected);
    CHECK(setup_of(config).upstream->members(false) == 6);
    config = proxy("a", exact(1));
    config.alias_filter = AliasFilter::open;
    CHECK(filter_of(config) == AliasMembers::open);
    CHECK(setup_of(config).upstream->members(false) == 2);
    for (const Alias& inexact :
         {alias("192.0.2.7/32", {}), alias("192.0.2.0/31", 53), alias("2001:db8::/32", 53)}) {
        std::vector<Alias> aliases = exact(1);
        aliases.push_back(inexact);
        CHECK(filter_of(proxy("a", aliases)) == AliasMembers::open);
    }
}

TEST_CASE(
    "a proxy's setup carries what was configured, and routing's choice and the ephemeral ports "
    "where nothing was") {
    ProxyConfig config = proxy("dns", {alias("fe80::7/128", 53, 3)});
    const Endpoint ipv6_upstream = parse_endpoint("[2001:db8::1]:53").value();
    ProxySetup setup = setup_of(config, ipv6_upstream, ephemeral);
    CHECK(setup.name == "dns");
    CHECK(setup.upstream->endpoint() == ipv6_upstream);
    REQUIRE(setup.upstream->aliases().size() == 1);
    CHECK(setup.upstream->aliases()[0].prefix == parse_prefix("fe80::7/128").value());
    CHECK(setup.upstream->aliases()[0].scope == 3);
    CHECK(setup.upstream->aliases()[0].port == 53);
    CHECK(setup.sources == std::vector<Address>{Address::any(Family::ipv6)});
    CHECK(setup_of(config).sources == std::vector<Address>{Address::any(Family::ipv4)});
    CHECK(setup.ports == ephemeral);
    CHECK(setup.copy_dscp);
    CHECK(setup.offload);
    CHECK(setup.sessions_max == 0);

    config.source = {parse_address("192.0.2.9").value(), parse_address("192.0.2.10").value()};
    config.ports = PortRange{1000, 1999};
    config.port_cooldown = std::chrono::seconds{1};
    config.idle_timeout = std::chrono::seconds{2};
    config.unassured_timeout = std::chrono::seconds{3};
    config.dscp = DscpPolicy::clear;
    config.offload = Offload::off;
    setup = setup_of(config);
    CHECK(setup.sources == config.source);
    CHECK(setup.ports == PortRange{1000, 1999});
    CHECK(setup.port_cooldown == std::chrono::seconds{1});
    CHECK(setup.idle_timeout == std::chrono::seconds{2});
    CHECK(setup.unassured_timeout == std::chrono::seconds{3});
    CHECK_FALSE(setup.copy_dscp);
    CHECK_FALSE(setup.offload);
}

TEST_CASE("unlisted replies decide which groups watch") {
    CHECK(setup_of(proxy("a", {}, UnlistedReplies::off)).watch == Watch::none);
    CHECK(setup_of(proxy("a", {}, UnlistedReplies::all)).watch == Watch::all);
    CHECK(setup_of(proxy("a", {}, UnlistedReplies::automatic)).watch == Watch::spare_capacity);
}

TEST_CASE(
    "descriptors are reserved for the program, for each shard, and for each listener in each "
    "shard") {
    CHECK(compute({proxy("a")}, 20000).descriptors_reserved == 80 + 1 * (4 + 1));
    CHECK(compute({proxy("a")}, 20000, 8).descriptors_reserved == 80 + 8 * (4 + 1));
    ProxyConfig wide = proxy("b");
    wide.listen.resize(3);
    const Capacity capacity = compute({proxy("a"), wide}, 20000, 8);
    CHECK(capacity.descriptors_reserved == 80 + 8 * (4 + 4));
    CHECK(capacity.descriptors_max == 20000 - capacity.descriptors_reserved);
}

TEST_CASE("sessions are descriptors over members, with the arithmetic in words") {
    const std::vector<Alias> two{alias("192.0.2.7/32", 53), alias("192.0.2.8/32", 53)};
    const Capacity capacity = compute({proxy("a", two)}, 20000, 8);
    REQUIRE(capacity.proxies.size() == 1);
    CHECK(capacity.proxies[0].sessions_max == (20000 - 120) / 3);
    CHECK(capacity.proxies[0].arithmetic ==
          "(20000 descriptors - 120 reserved) / 3 per session = 6626; 28232 ports; at most 65536");
    CHECK(capacity.sessions_max == 6626);
    CHECK(capacity.complaints.empty());
    CHECK(compute({proxy("a", two, UnlistedReplies::all)}, 20000, 8).proxies[0].arithmetic ==
          "(20000 descriptors - 120 reserved) / 4 per session = 4970; 28232 ports; at most 65536");
}

TEST_CASE("sessions are no more than ports times sources, and no more than a proxy may have") {
    CHECK(compute({proxy("a")}, 1'000'000).proxies[0].sessions_max == 28232);
    ProxyConfig config = proxy("a");
    config.source = {parse_address("192.0.2.9").value(), parse_address("192.0.2.10").value()};
    CHECK(compute({config}, 1'000'000).proxies[0].sessions_max == 56464);
    config.source.push_back(parse_address("192.0.2.11").value());
    CHECK(compute({config}, 1'000'000).proxies[0].sessions_max == 65536);
    config.ports = PortRange{5000, 5000};
    CHECK(compute({config}, 1'000'000).proxies[0].sessions_max == 3);
    config.ports = PortRange{1, 65535};
    config.source.resize(1);
    CHECK(compute({config}, 1'000'000).proxies[0].sessions_max == 65535);
}

/// As admission watches: every group while half of the descriptors are free, then one in 16.
std::uint64_t groups_that_fit(const ProxySetup& setup, std::uint64_t descriptors) {
    std::uint64_t used = 0;
    for (std::uint64_t opened = 0;; ++opened) {
        const std::uint64_t members =
            setup.upstream->members(used < descriptors / 2 || opened % 16 == 0);
        if (used + members > descriptors) return opened;
        used += members;
    }
}

TEST_CASE(
    "where groups watch while there is spare capacity, the arithmetic agrees with what admission "
    "will do") {
    for (unsigned aliases = 0; aliases <= 4; ++aliases) {
        std::vector<Alias> exact;
        for (unsigned i = 1; i <= aliases; ++i)
            exact.push_back(alias("192.0.2." + std::to_string(i) + "/32", 53));
        const ProxyConfig config = proxy("a", exact, UnlistedReplies::automatic);
        for (const std::uint64_t free : {2U, 10U, 100U, 971U, 1024U, 5000U, 20001U}) {
            CAPTURE(aliases);
            CAPTURE(free);
            const auto computed = compute({config}, 85 + free).proxies[0].sessions_max;
            const std::uint64_t real = groups_that_fit(setup_of(config), free);
            CHECK(computed <= real + 1);
            CHECK(computed + 2 >= real);
        }
    }
    const ProxyCapacity told =
        compute({proxy("a", {}, UnlistedReplies::automatic)}, 1085).proxies[0];
    CHECK(told.arithmetic ==
          "(1085 descriptors - 85 reserved) = 1000; 1000 / 2 / 2 = 250 sessions that watch for "
          "unlisted sources; (1000 - 250 * 2) * 16 / (15 * 1 + 2) = 470 of which one in 16 does; "
          "250 + 470 = 720; 28232 ports; at most 65536");
    CHECK(told.sessions_max == 250 + (1000 - 250 * 2) * 16 / (15 * 1 + 2));
    // An open filter watches in any case.
    CHECK(compute({proxy("a", {alias("192.0.2.0/24", {})}, UnlistedReplies::automatic)}, 1085)
              .proxies[0]
              .sessions_max == 500);
}

TEST_CASE("a number that fits is taken as it is") {
    ProxyConfig config = proxy("a");
    config.sessions_max = 100;
    CHECK(compute({config}, 1085).proxies[0].sessions_max == 100);
    CHECK(compute({config}, 1085).sessions_max == 100);
    config.sessions_max = 1000;
    CHECK(compute({config}, 1085).complaints.empty());
    CHECK(compute({config}, 1085, 1, 1000).complaints.empty());
    CHECK(compute({config}, 1085, 1, 10).sessions_max == 10);
}

TEST_CASE(
    "a proxy's number that does not fit is refused with the arithmetic and the number that would") {
    ProxyConfig config = proxy("dns");
    config.sessions_max = 1001;
    const Capacity capacity = compute({config}, 1085);
    REQUIRE(capacity.complaints.size() == 1);
    CHECK(capacity.complaints[0] ==
          "x.toml:7:1: proxy \"dns\": sessions_max: 1001 do not fit: (1085 descriptors - 85 "
          "reserved) / 1 per session = 1000; 28232 ports; "
          "at most 65536; use \"auto\" or at most 1000");
    config.sessions_max = 28233;
    CHECK(compute({config}, 1'000'000).complaints.size() == 1);
    config.sessions_max = 28232;
    CHECK(compute({config}, 1'000'000).complaints.empty());
}

TEST_CASE("the limit of all proxies together that does not fit is refused likewise") {
    const Capacity capacity =
        compute({proxy("a"), proxy("b", {alias("192.0.2.7/32", 53)})}, 1086, 1, 1001);
    REQUIRE(capacity.complaints.size() == 1);
    CHECK(capacity.complaints[0] ==
          "x.toml:2:3: limits.sessions_max: 1001 do not fit: (1086 descriptors - 86 reserved) / 1 "
          "per session = 1000; use \"auto\" or at "
          "most "
          "that");
}

TEST_CASE("a machine without capacity for one session is told so") {
    for (const std::uint64_t descriptors : {0U, 10U, 85U}) {
        const Capacity capacity = compute({proxy("dns")}, descriptors);
        REQUIRE(capacity.complaints.size() == 1);
        CHECK(capacity.complaints[0] ==
              "x.toml:7:1: proxy \"dns\": no capacity for a single session: (" +
                  std::to_string(descriptors) +
                  " descriptors - 85 reserved) / 1 per session = 0; 28232 ports; at most 65536");
        CHECK(capacity.descriptors_max == 0);
        CHECK(capacity.sessions_max == 0);
    }
    CHECK(compute({proxy("dns")}, 86).complaints.empty());
    CHECK(compute({proxy("dns")}, 86).sessions_max == 1);
}

TEST_CASE("numbers that fit alone but not together are refused") {
    ProxyConfig config = proxy("a");
    config.sessions_max = 600;
    const Capacity capacity = compute({config, config}, 1100);
    REQUIRE(capacity.complaints.size() == 1);
    CHECK(capacity.complaints[0].find("together need 1200 descriptors") != std::string::npos);
}

TEST_CASE("tables have the size that the machine allows, and a share of it where shards are many") {
    const TableSizes few = table_sizes({20000, 2, ephemeral});
    CHECK(few.slots == 20000);
    CHECK(few.sessions == 20000);
    CHECK(few.clients == 20000);
    const TableSizes many = table_sizes({1U << 20, 64, ephemeral});
    CHECK(many.slots == 65536);
    CHECK(many.sessions == 65536);
    CHECK(many.clients == 1U << 20);
    CHECK(table_sizes({~std::uint64_t{0}, 1, ephemeral}).slots == 1U << 20);
    // A configuration's listeners and sources, and as many again that drain.
    CHECK(few.listeners >= 2 * config_proxies_max * 16);
    CHECK(few.source_bindings >= 2 * config_proxies_max * 16);
    CHECK(few.port_pools >= 2 * config_proxies_max * 16);
}

TEST_CASE("the address space of tables is no less than what they take") {
    const std::uint64_t few = table_sizes({1U << 16, 1, ephemeral}).bytes;
    const std::uint64_t twice = table_sizes({1U << 17, 1, ephemeral}).bytes;
    const std::size_t map_cell = 8;
    const std::size_t session = sizeof(Session) + sizeof(std::uint32_t) + 1 + 4 * map_cell;
    const std::size_t slot = sizeof(ReplyGroup) + sizeof(std::uint32_t) + 1 + 128;
    const std::size_t client = 3 * sizeof(std::uint64_t) + 8 + 5 + 4 * map_cell;
    CHECK(twice - few >= (session + slot + client) << 16);
}

TEST_CASE("the address space of the ledger is what it takes, but for the ends of pages") {
    for (const std::uint32_t shards : {1U, 2U, 64U}) {
        const TableSizes sizes = table_sizes({100'001, shards, ephemeral});
        const std::uint64_t taken = ledger_bytes({shards, sizes.slots, sizes.port_pools});
        CHECK(sizes.ledger_bytes <= taken);
        CHECK(taken - sizes.ledger_bytes < shards * ledger_page_bytes);
    }
}

// With RLIMIT_NOFILE beyond 2^20 more sessions were promised than the tables hold.
TEST_CASE("a limit without end is bounded by what a table of registered files holds") {
    ProxyConfig config = proxy("a", {alias("192.0.2.7/32", 53)}, UnlistedReplies::all);
    config.ports = PortRange{1, 65535};
    config.sessions_max = 65535;
    const std::vector<ProxyConfig> five(5, config);
    for (const std::uint64_t limit :
         {std::uint64_t{1} << 20, std::uint64_t{1} << 21, ~std::uint64_t{0}}) {
        CAPTURE(limit);
        const Capacity capacity = compute(five, limit, 2);
        const std::uint32_t fit = ((1U << 20) - capacity.descriptors_reserved) / 3;
        CHECK(capacity.descriptors_max + capacity.descriptors_reserved <= 1U << 20);
        CHECK(capacity.sessions_max == std::min(fit, 5U * 65535));
        CHECK(capacity.complaints.empty());
        CHECK(compute({five[0]}, limit).proxies[0].arithmetic.find("(1048576 descriptors - ") == 0);
        // Six need more than there are.
        const std::vector<ProxyConfig> six(6, config);
        CHECK(compute(six, limit, 2).complaints.size() == 1);
        CHECK(compute(five, limit, 2, fit).complaints.empty());
        CHECK(compute(five, limit, 2, fit + 1).complaints.size() == 1);
    }
}

TEST_CASE("where address space is short, tables are made for half as many descriptors, and so on") {
    const MachineLimits machine{1U << 20, 2, ephemeral};
    CHECK(fit_address_space(machine, [](std::size_t) { return true; }).descriptors == 1U << 20);
    const auto fits = [](std::size_t bytes) { return bytes <= std::size_t{2} << 30; };
    const std::uint64_t fitting = fit_address_space(machine, fits).descriptors;
    CHECK(fits(table_sizes({fitting, 2, ephemeral}).bytes));
    CHECK_FALSE(fits(table_sizes({4 * fitting, 2, ephemeral}).bytes));
    const auto nothing_fits = [](std::size_t) { return false; };
    CHECK(fit_address_space(machine, nothing_fits).descriptors == 1024);
    CHECK(fit_address_space({1000, 2, ephemeral}, nothing_fits).descriptors == 1000);
}

TEST_CASE(
    "several proxies may have together what the descriptors allow, and each what it could have "
    "alone") {
    const Capacity capacity = compute({proxy("a"), proxy("b")}, 1086);
    CHECK(capacity.proxies[0].sessions_max == 1000);
    CHECK(capacity.proxies[1].sessions_max == 1000);
    CHECK(capacity.sessions_max == 1000);
    ProxyConfig small = proxy("a");
    small.sessions_max = 10;
    CHECK(compute({small, small}, 1086).sessions_max == 20);
}

}  // namespace
}  // namespace udpproxy
