// Opening a reply group: one address and port for all members, each reply on its member's slot, all
// or none, and nobody else on the port.
#include <sys/resource.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "contract/rig.hpp"

namespace udpproxy::contract {
namespace {

/// `address:port` as /proc/net/udp and udp6 write it: 32-bit words of the address in host order,
/// the port as it is.
std::string in_proc(const Endpoint& endpoint) {
    std::array<char, 48> text{};
    std::array<std::uint32_t, 4> words{};
    std::memcpy(words.data(), endpoint.address.bytes.data(), 16);
    if (endpoint.family() == Family::ipv4)
        std::snprintf(text.data(), text.size(), "%08X:%04X", words[3], endpoint.port);
    else
        std::snprintf(text.data(), text.size(), "%08X%08X%08X%08X:%04X", words[0], words[1],
                      words[2], words[3], endpoint.port);
    return text.data();
}

/// The remote ends of all sockets bound to `local`.
std::multiset<std::string> remotes_of(const Endpoint& local) {
    std::ifstream table(local.family() == Family::ipv4 ? "/proc/self/net/udp"
                                                       : "/proc/self/net/udp6");
    std::multiset<std::string> remotes;
    std::string line;
    while (std::getline(table, line)) {
        std::istringstream words(line);
        std::string number, from, to;
        words >> number >> from >> to;
        if (from == in_proc(local)) remotes.insert(to);
    }
    return remotes;
}

struct Service {
    explicit Service(Family family)
        : upstream(loopback(family)),
          first_alias(loopback(family)),
          second_alias(loopback(family)),
          new_client(loopback(family)) {}
    [[nodiscard]] std::vector<Endpoint> aliases() const {
        return {first_alias.endpoint(), second_alias.endpoint()};
    }

    Peer upstream;
    Peer first_alias;
    Peer second_alias;
    Peer new_client;  // listed nowhere
};

TEST_CASE_TEMPLATE(
    "all members of a group are bound to one address and port and connected to whom they serve",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Service service(family);
        const OpenedGroup group =
            rig.open_group(service.upstream.endpoint(), service.aliases(), true);
        CHECK(remotes_of(group.local) ==
              std::multiset<std::string>{in_proc(service.upstream.endpoint()),
                                         in_proc(service.first_alias.endpoint()),
                                         in_proc(service.second_alias.endpoint()),
                                         in_proc(Endpoint{Address::any(family), 0, 0})});
    }
}

TEST_CASE_TEMPLATE(
    "replies of upstream and aliases arrive on their slots, others on the open member", Engine,
    UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        for (const bool with_open_member : {true, false}) {
            CAPTURE(with_open_member);
            Rig<Engine> rig(family);
            const Service service(family);
            const OpenedGroup group =
                rig.open_group(service.upstream.endpoint(), service.aliases(), with_open_member);
            std::map<Endpoint, Slot> slot_of{{service.upstream.endpoint(), group.slots[0]},
                                             {service.first_alias.endpoint(), group.slots[1]},
                                             {service.second_alias.endpoint(), group.slots[2]}};
            if (with_open_member) slot_of[service.new_client.endpoint()] = group.slots[3];
            for (int i = 0; i < 10; ++i) {
                for (const Peer* peer : {&service.upstream, &service.first_alias,
                                         &service.second_alias, &service.new_client})
                    peer->send(group.local, format(peer->endpoint()), 0x2e << 2);
            }
            REQUIRE(rig.collect(slot_of.size() * 10));
            CHECK(rig.comes_to_rest());
            CHECK(rig.seen.size() == slot_of.size() * 10);
            for (const Seen& seen : rig.seen) {
                REQUIRE(slot_of.count(seen.from) == 1);
                CHECK(seen.leg == Leg::reply);
                CHECK(seen.slot == slot_of[seen.from]);
                CHECK(seen.payload == format(seen.from));
                CHECK(seen.tos == 0x2e << 2);
                CHECK(seen.local.is_unspecified());
            }
        }
    }
}

TEST_CASE_TEMPLATE("a group of 16 aliases and an open member opens and answers", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Peer upstream{address("127.0.0.2")};
    std::vector<Peer> peers;
    std::vector<Endpoint> aliases;
    for (int i = 0; i < 16; ++i)
        aliases.push_back(peers.emplace_back(address("127.0.0.3")).endpoint());
    const OpenedGroup group = rig.open_group(upstream.endpoint(), aliases, true);
    REQUIRE(group.slots.size() == 18);
    for (const Peer& peer : peers) peer.send(group.local, "x");
    REQUIRE(rig.collect(16));
    std::set<Slot> slots;
    for (const Seen& seen : rig.seen) slots.insert(seen.slot);
    CHECK(slots == std::set<Slot>(group.slots.begin() + 1, group.slots.begin() + 17));
}

/// Tries to open a group of four members, and checks that a failure leaves nothing behind.
template <class Engine>
OpeningOutcome try_open(Rig<Engine>& rig, const Endpoint& local, const Endpoint& upstream,
                        const Endpoint& alias) {
    const std::array<Endpoint, 2> aliases{unused_endpoint(address("127.0.0.3")), alias};
    std::array<Slot, 4> slots{};
    const std::size_t before = descriptor_count();
    const OpeningOutcome outcome =
        rig.engine().open_group(GroupOpening{local, upstream, aliases, true}, slots);
    CHECK_FALSE(outcome.opened());
    CHECK(descriptor_count() == before);
    rig.wait(monotonic_now());
    CHECK(rig.closed.empty());
    return outcome;
}

TEST_CASE_TEMPLATE("a port in use is EADDRINUSE at the bind, whatever flags its holder has set",
                   Engine, UDPPROXY_ENGINES) {
    // With SO_REUSEPORT on the holder, a group that set the flag before its first bind would get
    // in.
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint upstream = unused_endpoint(address("127.0.0.2"));
    for (const Reuse reuse : {Reuse::none, Reuse::address, Reuse::port}) {
        CAPTURE(static_cast<int>(reuse));
        Socket holder;
        const Endpoint local{group_address(Family::ipv4), 0, next_port()};
        REQUIRE(try_bind(local, reuse, holder) == 0);
        const OpeningOutcome outcome = try_open(rig, local, upstream, upstream);
        CHECK(outcome.step == OpeningStep::bind);
        CHECK(outcome.error == EADDRINUSE);
        CHECK(remotes_of(local).size() == 1);
    }
    const OpenedGroup group = rig.open_group(upstream);
    const OpeningOutcome outcome = try_open(rig, group.local, upstream, upstream);
    CHECK(outcome.step == OpeningStep::bind);
    CHECK(outcome.error == EADDRINUSE);
}

TEST_CASE_TEMPLATE("a source address that is not of this host is EADDRNOTAVAIL at the bind", Engine,
                   UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint upstream = unused_endpoint(address("127.0.0.2"));
    const OpeningOutcome outcome =
        try_open(rig, Endpoint{address("192.0.2.1"), 0, next_port()}, upstream, upstream);
    CHECK(outcome.step == OpeningStep::bind);
    CHECK(outcome.error == EADDRNOTAVAIL);
}

TEST_CASE_TEMPLATE(
    "an upstream or an alias that cannot be connected to leaves nothing open, and the port free",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    Rig<Engine> rig;
    const Endpoint good = unused_endpoint(address("127.0.0.2"));
    const Endpoint everybody{address("255.255.255.255"), 0, 9};  // may be an upstream, no alias
    const Endpoint other_family{address("::1"), 0, 9};
    const Endpoint local{group_address(Family::ipv4), 0, next_port()};
    for (const bool upstream_is_bad : {true, false}) {
        const OpeningOutcome outcome = try_open(rig, local, upstream_is_bad ? other_family : good,
                                                upstream_is_bad ? good : everybody);
        CHECK(outcome.step == OpeningStep::connect);
        CHECK(outcome.error == (upstream_is_bad ? EAFNOSUPPORT : EACCES));
        CHECK(remotes_of(local).empty());
        CHECK(try_bind(local) == 0);
    }
}

TEST_CASE_TEMPLATE(
    "a group for which descriptors or slots do not suffice is EMFILE, and nothing stays open",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 8;  // a listener, one group of four, and three to spare
    Rig<Engine> rig(setup);
    const Endpoint upstream = unused_endpoint(address("127.0.0.2"));
    const Endpoint local{group_address(Family::ipv4), 0, next_port()};

    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    const Socket highest{::dup(rig.client().descriptor())};
    const rlimit short_capacity{static_cast<rlim_t>(highest.descriptor()) + 3, limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &short_capacity) == 0);
    std::array<Slot, 4> slots{};
    const std::array<Endpoint, 2> aliases{upstream, upstream};
    const OpeningOutcome short_of_descriptors =
        rig.engine().open_group(GroupOpening{local, upstream, aliases, true}, slots);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(short_of_descriptors.step == OpeningStep::socket);
    CHECK(short_of_descriptors.error == EMFILE);
    CHECK(remotes_of(local).empty());

    (void)rig.open_group(upstream, {upstream, upstream}, true);
    const OpeningOutcome short_of_slots = try_open(rig, local, upstream, upstream);
    CHECK(short_of_slots.step == OpeningStep::socket);
    CHECK(short_of_slots.error == EMFILE);
    (void)rig.open_group(upstream, {upstream});
}

TEST_CASE_TEMPLATE("no other socket can bind the port of a finished group, whatever flags it sets",
                   Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    for (const Family family : families()) {
        Rig<Engine> rig(family);
        const Service service(family);
        for (const bool with_open_member : {true, false}) {
            const OpenedGroup group =
                rig.open_group(service.upstream.endpoint(), service.aliases(), with_open_member);
            for (const Reuse reuse : {Reuse::none, Reuse::address, Reuse::port}) {
                CAPTURE(static_cast<int>(reuse));
                CHECK(try_bind(group.local, reuse) == EADDRINUSE);
                CHECK(try_bind(Endpoint{Address::any(family), 0, group.local.port}, reuse) ==
                      EADDRINUSE);
            }
        }
    }
}

TEST_CASE_TEMPLATE(
    "500 groups have 500 ports, and each reply reaches the group it was sent to and no other",
    Engine, UDPPROXY_ENGINES) {
    if (!runs_here<Engine>()) return;
    RigSetup setup;
    setup.slots_max = 1100;
    setup.buffers_per_leg = 1024;
    Rig<Engine> rig(setup);
    const Peer upstream{address("127.0.0.2")};
    const Peer alias{address("127.0.0.3")};
    std::map<Slot, std::string> expected;
    std::set<std::uint16_t> ports;
    std::vector<OpenedGroup> groups;
    for (int i = 0; i < 500; ++i) {
        groups.push_back(rig.open_group(upstream.endpoint(), {alias.endpoint()}));
        ports.insert(groups.back().local.port);
        expected[groups.back().slots[0]] = "upstream " + std::to_string(groups.back().local.port);
        expected[groups.back().slots[1]] = "alias " + std::to_string(groups.back().local.port);
    }
    CHECK(ports.size() == 500);
    CHECK(expected.size() == 1000);
    for (const OpenedGroup& group : groups) {
        upstream.send(group.local, expected[group.slots[0]]);
        alias.send(group.local, expected[group.slots[1]]);
    }
    REQUIRE(rig.collect(1000));
    for (const Seen& seen : rig.seen) {
        CHECK(seen.payload == expected[seen.slot]);
        expected.erase(seen.slot);
    }
    CHECK(expected.empty());
}

}  // namespace
}  // namespace udpproxy::contract
