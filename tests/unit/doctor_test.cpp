// The doctor's findings on hosts that are made up: each fault is named, with what it means and the
// command that fixes it, and a healthy host has none.
#include "udpproxy/doctor/doctor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "doctor/findings.hpp"
#include "source_tree.hpp"

namespace udpproxy {
namespace {

constexpr std::uint32_t clients_side = 2;
constexpr std::uint32_t service_side = 3;

Config parsed(const std::string& text) {
    const auto outcome = parse_config(text, "x.toml");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome))
        FAIL(complaints->lines.front());
    return std::get<Config>(outcome);
}

Config config_of(const std::string& keys, const std::string& head = {}) {
    return parsed(head + "[[proxy]]\nname = \"dns\"\n" + keys);
}

const std::string usual =
    "listen = \"192.0.2.1:5353\"\nupstream = \"10.0.0.254:53\"\nreply_aliases = "
    "[\"10.0.0.253:53\"]\n";

Address address(const char* text) { return parse_address(text).value(); }

RouteFacts by(std::uint32_t index, const char* source) {
    RouteFacts route;
    route.interface_index = index;
    route.source = address(source);
    route.next_hop = Address::any(route.source.family());
    return route;
}

TargetFacts target(const char* endpoint, RouteFacts route) {
    TargetFacts facts;
    facts.endpoint = parse_endpoint(endpoint).value();
    facts.text = endpoint;
    facts.network = format(facts.endpoint.address);
    facts.route = route;
    facts.ways.push_back({service_side, 0});
    return facts;
}

/// A host on which nothing is wrong for the usual configuration.
HostFacts healthy() {
    HostFacts facts;
    facts.kernel = "6.1.0";
    facts.user = "nobody";
    facts.rmem_max = facts.wmem_max = 8 << 20;
    facts.descriptors_soft = facts.descriptors_hard = facts.descriptors_fitting = 20000;
    facts.nr_open = 1048576;
    facts.file_max = 1000000;
    facts.files_open = 1000;
    facts.io_uring_disabled = 0;
    facts.io_uring = {true, "Linux 6.1"};
    facts.interfaces = {
        {1, "lo", 65536, true, true, true, 0, {address("127.0.0.1")}},
        {clients_side, "wan", 1500, true, true, false, 0, {address("192.0.2.1")}, true},
        {service_side, "lan", 1500, true, true, false, 0, {address("10.0.0.1")}, true}};
    facts.udp_buckets = 65536;
    facts.drops = {0, 0, 0, 0};
    ProxyFacts& proxy = facts.proxies.emplace_back();
    proxy.upstream = parse_endpoint("10.0.0.254:53").value();
    proxy.targets = {target("10.0.0.254:53", by(service_side, "10.0.0.1")),
                     target("10.0.0.253:53", by(service_side, "10.0.0.1"))};
    proxy.listen.push_back({true, clients_side, {}});
    return facts;
}

std::string_view name_of(const Finding& finding) {
    return finding_names()[static_cast<std::size_t>(finding.kind)].name;
}

/// The findings that are not ok, as `severity name: where: looked at | fix`.
std::vector<std::string> bad(const std::vector<Finding>& findings) {
    std::vector<std::string> lines;
    for (const Finding& finding : findings)
        if (finding.severity != Severity::ok)
            lines.push_back(std::string{finding.severity == Severity::note ? "note " : "problem "} +
                            std::string{name_of(finding)} + ": " + finding.where + ": " +
                            finding.looked_at + " | " + finding.fix);
    return lines;
}

std::vector<std::string> bad(const HostFacts& facts, const Config& config = config_of(usual)) {
    return bad(diagnose(config, facts));
}

void check_only(const std::vector<std::string>& lines, const std::string& start,
                const std::string& fix) {
    CAPTURE(lines.size());
    REQUIRE_MESSAGE(lines.size() == 1, (lines.empty() ? std::string{"nothing"} : lines.back()));
    CHECK_MESSAGE(lines[0].substr(0, start.size()) == start, lines[0]);
    CHECK_MESSAGE(lines[0].find(fix) != std::string::npos, lines[0]);
}

TEST_CASE("a healthy host has no problem and no note, and says so for each thing it looked at") {
    const std::vector<Finding> findings = diagnose(config_of(usual), healthy());
    CHECK(bad(findings).empty());
    CHECK_FALSE(has_problem(findings));
    std::set<std::string_view> kinds;
    for (const Finding& finding : findings) kinds.insert(name_of(finding));
    for (const char* kind : {"route", "own_address", "reverse_path", "mtu", "listen_address",
                             "listen_port", "conntrack", "drops", "buffers", "receive_offload",
                             "ports", "descriptors", "udp_table", "engine"})
        CHECK_MESSAGE(kinds.count(kind) == 1, kind);
}

TEST_CASE("a name that is not resolved, and a source that is not here, are problems") {
    HostFacts facts = healthy();
    facts.proxies[0].upstream.reset();
    facts.proxies[0].targets.clear();
    facts.proxies[0].resolve_error = "Name or service not known";
    check_only(
        bad(facts, config_of("listen = \"192.0.2.1:5353\"\nupstream = \"dns.example:53\"\n")),
        "problem name: proxy \"dns\": upstream dns.example:53: resolve: Name or",
        "getent ahosts dns.example");
    facts = healthy();
    facts.proxies[0].sources_absent = {address("10.0.0.7")};
    check_only(bad(facts, config_of(usual + "source = \"10.0.0.7\"\n")),
               "problem source: proxy \"dns\": source 10.0.0.7: is not on this host",
               "ip addr add 10.0.0.7 dev");
}

TEST_CASE(
    "an alias without a route is a problem, and the route to add goes where the upstream's goes") {
    HostFacts facts = healthy();
    facts.proxies[0].targets[1].route.error = ENETUNREACH;
    check_only(bad(facts),
               "problem route: proxy \"dns\": alias 10.0.0.253:53: route to 10.0.0.253: Network is "
               "unreachable",
               "ip route add 10.0.0.253 dev lan");
    facts.proxies[0].targets[0].route.next_hop = address("10.0.0.9");
    check_only(bad(facts), "problem route: ", "ip route add 10.0.0.253 via 10.0.0.9 dev lan");
    facts.proxies[0].targets[0].route.error = EHOSTUNREACH;
    CHECK(bad(facts).at(0).find("No route to host | ip route add 10.0.0.254 dev INTERFACE") !=
          std::string::npos);
}

TEST_CASE("an interface that is down or has no carrier, and a silent neighbour, are problems") {
    HostFacts facts = healthy();
    facts.interfaces[2].has_carrier = false;
    CHECK(bad(facts).at(0).find("problem route: proxy \"dns\": upstream 10.0.0.254:53: the route "
                                "goes out on lan, which has no carrier") == 0);
    facts.interfaces[2].is_up = false;
    CHECK(bad(facts).at(0).find("which is down | ip link set lan up") != std::string::npos);
    facts = healthy();
    facts.proxies[0].targets[1].neighbour = NeighbourState::silent;
    check_only(
        bad(facts),
        "problem neighbour: proxy \"dns\": alias 10.0.0.253:53: 10.0.0.253 does not answer on lan",
        "ip neigh show dev lan");
}

TEST_CASE(
    "an own address is a problem beside addresses elsewhere, and a note when the whole service is "
    "here") {
    HostFacts facts = healthy();
    facts.proxies[0].targets[1].route.is_local = true;
    facts.proxies[0].targets[1].ways = {{service_side, EINVAL}};
    check_only(bad(facts),
               "problem own_address: proxy \"dns\": alias 10.0.0.253:53: 10.0.0.253 is an address "
               "of this host",
               "out of reply_aliases");
    facts = healthy();
    facts.proxies[0].targets[0].route.is_local = true;
    CHECK(bad(facts).at(0).find("problem own_address: proxy \"dns\": upstream 10.0.0.254:53") == 0);
    facts.proxies[0].targets[1].route.is_local = true;
    CHECK(bad(facts).size() == 2);
    CHECK(bad(facts).at(0).find("note own_address: ") == 0);
}

TEST_CASE(
    "a reply that strict or loose reverse path filtering would refuse is a problem, whichever "
    "errno the kernel has for it") {
    for (const int refused : {EXDEV, EINVAL}) {
        HostFacts facts = healthy();
        facts.interfaces[2].reverse_path = 1;
        TargetFacts& alias = facts.proxies[0].targets[1];
        alias.route = by(clients_side, "192.0.2.1");
        alias.ways = {{service_side, refused}, {clients_side, 0}};
        check_only(bad(facts),
                   "problem reverse_path: proxy \"dns\": alias 10.0.0.253:53: a reply that comes "
                   "in on lan is refused: rp_filter is 1 "
                   "(strict) there, and the route back goes out on wan",
                   "sysctl -w net.ipv4.conf.lan.rp_filter=2, or ip route add 10.0.0.253 dev lan");
        alias.route.error = ENETUNREACH;
        facts.interfaces[2].reverse_path = 2;
        alias.ways = {{service_side, refused}};
        const std::vector<std::string> lines = bad(facts);
        REQUIRE(lines.size() == 2);
        CHECK(
            lines[1].find("rp_filter is 2 (loose) there, and there is no route back | ip route add "
                          "10.0.0.253 dev lan") != std::string::npos);
        facts.interfaces[2].reverse_path = 0;
        alias.route.error = 0;
        alias.route.interface_index = service_side;
        check_only(bad(facts),
                   "problem reverse_path: proxy \"dns\": alias 10.0.0.253:53: a reply that comes "
                   "in on lan is refused as coming from "
                   "10.0.0.253, an impossible source",
                   "log_martians");
    }
}

TEST_CASE("different MTUs are a note that names the sizes, in either direction") {
    HostFacts facts = healthy();
    facts.interfaces[2].mtu = 1400;
    check_only(bad(facts),
               "note mtu: proxy \"dns\": MTU 1400 towards the upstream (lan), 1500 on wan",
               "ip link set lan mtu 1500");
    facts.interfaces[2].mtu = 9000;
    check_only(bad(facts),
               "note mtu: proxy \"dns\": MTU 9000 towards the upstream (lan), 1500 on wan",
               "ip link set wan mtu 9000");
    facts.proxies[0].targets[0].route.mtu = 1280;
    const std::vector<Finding> findings = diagnose(config_of(usual), facts);
    const auto mtu = std::find_if(findings.begin(), findings.end(), [](const Finding& each) {
        return each.kind == FindingKind::mtu;
    });
    CHECK(mtu->looked_at == "MTU 1280 towards the upstream (lan), 1500 on wan");
    CHECK(mtu->meaning.find("requests of more than 1252 bytes") == 0);
}

TEST_CASE(
    "listen addresses that are absent, ports that are held or privileged, and full queues are "
    "told") {
    HostFacts facts = healthy();
    ListenFacts& listen = facts.proxies[0].listen[0];
    listen.is_here = false;
    check_only(bad(facts),
               "problem listen_address: proxy \"dns\": listen 192.0.2.1:5353: is not an address of "
               "this host",
               "ip addr add 192.0.2.1 dev");
    listen.is_here = true;
    listen.sockets = {
        {parse_endpoint("192.0.2.1:5353").value(), 7, "udpproxy", "udpproxy (process 12)"}};
    check_only(bad(facts),
               "note drops: proxy \"dns\": listen 192.0.2.1:5353: 7 datagrams found the receive "
               "queue full",
               "receive_buffer");
    listen.sockets = {
        {parse_endpoint("192.0.2.1:5353").value(), 0, "dnsmasq", "dnsmasq (process 13)"}};
    check_only(bad(facts),
               "problem listen_port: proxy \"dns\": listen 192.0.2.1:5353: is held by dnsmasq "
               "(process 13) at 192.0.2.1:5353",
               "stop dnsmasq");
    listen.sockets[0].holder.clear();
    CHECK(bad(facts).empty());
    const Config low = config_of("listen = \"192.0.2.1:53\"\nupstream = \"10.0.0.254:53\"\n");
    facts.proxies[0].targets.pop_back();
    check_only(bad(facts, low),
               "problem listen_port: proxy \"dns\": listen 192.0.2.1:53: ports below 1024 need "
               "CAP_NET_BIND_SERVICE",
               "AmbientCapabilities");
    facts.may_bind_low_ports = true;
    CHECK(bad(facts, low).empty());
}

TEST_CASE("an interface that is absent is told, for a listener, an upstream and an alias") {
    HostFacts facts = healthy();
    facts.proxies[0].targets.pop_back();
    const Config late =
        config_of("listen = \"[fe80::1%tun9]:5353\"\nupstream = \"10.0.0.254:53\"\n");
    check_only(bad(facts, late),
               "problem listen_address: proxy \"dns\": listen [fe80::1%tun9]:5353: there is no "
               "interface tun9",
               "make the interface tun9");
    Endpoint& upstream = facts.proxies[0].targets[0].endpoint;
    upstream = Endpoint{address("fe80::2"), scope_of_interface("tun8"), 53};
    facts.proxies[0].targets[0].text = "[fe80::2%tun8]:53";
    check_only(
        bad(facts, config_of("listen = \"192.0.2.1:5353\"\nupstream = \"[fe80::2%tun8]:53\"\n")),
        "problem route: proxy \"dns\": upstream [fe80::2%tun8]:53: there is no interface as in "
        "[fe80::2%tun8]:53",
        "make the interface");
}

TEST_CASE("a kernel without IPv6 serves IPv4 on every address, and no IPv6 address by itself") {
    HostFacts facts = healthy();
    facts.has_ipv6 = false;
    facts.proxies[0].targets.pop_back();
    facts.proxies[0].listen.push_back({true, 0, {}});
    check_only(bad(facts, config_of("listen = \":5353\"\nupstream = \"10.0.0.254:53\"\n")),
               "note listen_address: proxy \"dns\": listen [::]:5353: this kernel has no IPv6",
               "AF_INET6");
    facts.proxies[0].listen.pop_back();
    check_only(bad(facts, config_of("listen = \"[2001:db8::1]:5353\"\n"
                                    "upstream = \"10.0.0.254:53\"\n")),
               "problem listen_address: proxy \"dns\": listen [2001:db8::1]:5353: this kernel has "
               "no IPv6",
               "AF_INET6");
}

TEST_CASE("buffers that the system does not grant are a problem, or a note with CAP_NET_ADMIN") {
    HostFacts facts = healthy();
    facts.rmem_max = 212992;
    check_only(
        bad(facts),
        "problem buffers: proxy \"dns\": receive_buffer: 4MiB asked, net.core.rmem_max is 212992",
        "sysctl -w net.core.rmem_max=4194304");
    facts.may_administer_network = true;
    CHECK(bad(facts).at(0).find("note buffers: ") == 0);
    facts = healthy();
    facts.wmem_max = 212992;
    check_only(bad(facts), "problem buffers: proxy \"dns\": send_buffer: ",
               "sysctl -w net.core.wmem_max=4194304");
}

TEST_CASE("too few ports for sessions_max or for the shards are a problem, few ports a note") {
    HostFacts facts = healthy();
    facts.ephemeral = {40000, 40015, true};
    check_only(bad(facts), "note ports: proxy \"dns\": 16 ports (40000-40015) of 1 address",
               "net.ipv4.ip_local_port_range");
    check_only(
        bad(facts, config_of(usual + "sessions_max = 100\n")),
        "problem ports: proxy \"dns\": 16 ports (40000-40015) of 1 address for sessions_max = 100",
        "ip_local_port_range");
    facts.shards = 32;
    check_only(bad(facts),
               "problem ports: proxy \"dns\": 16 ports (40000-40015) of 1 address for 32 shards",
               "ip_local_port_range");
}

TEST_CASE("ports that others may take are a note, and reserved ones are left out") {
    HostFacts facts = healthy();
    const Config own = config_of(usual + "ports = \"30000-33000\"\n");
    check_only(bad(facts, own), "note ports: proxy \"dns\": ports 32768-33000 are also handed out",
               "ip_local_reserved_ports=32768-33000");
    facts.reserved_ports = {{32000, 32900}, {32901, 33000}};
    CHECK(bad(facts, own).empty());
    CHECK(bad(facts).empty());
    facts.ephemeral = {32768, 32783, true};
    facts.reserved_ports = {{32000, 32775}};
    check_only(bad(facts), "note ports: proxy \"dns\": 8 ports (32768-32783) of 1 address",
               "net.ipv4.ip_local_port_range");
}

/// What a start would say: `fails where: looked at; meaning` or `warns …`.
std::vector<std::string> at_start(const HostFacts& facts, const Config& config) {
    std::vector<std::string> lines;
    for (const Finding& finding : diagnose_start(config, facts))
        lines.push_back((finding.at_start == StartEffect::fails ? "fails " : "warns ") +
                        text_of(finding));
    return lines;
}

std::vector<std::string> subjects(const std::vector<Finding>& findings) {
    std::vector<std::string> names;
    for (const Finding& finding : findings) names.emplace_back(name_of(finding.kind));
    return names;
}

TEST_CASE("a machine that is set up well gets no advice, nor does one that does not tell") {
    HostFacts facts = healthy();
    CHECK(diagnose_machine(config_of(usual), facts).empty());
    facts.rmem_max = facts.wmem_max = std::nullopt;
    facts.interfaces.clear();
    facts.udp_buckets = std::nullopt;
    CHECK(diagnose_machine(config_of(usual), facts).empty());
}

TEST_CASE("advice has one line by setting, of the proxy that asks for most") {
    const Config config = parsed(
        "[[proxy]]\nname = \"small\"\nlisten = \":53\"\nupstream = \"10.0.0.254:53\"\n"
        "[[proxy]]\nname = \"large\"\nlisten = \":54\"\nupstream = \"10.0.0.254:54\"\n"
        "receive_buffer = \"64MiB\"\n");
    HostFacts facts = healthy();
    facts.proxies.resize(2);
    facts.rmem_max = 212992;
    const std::vector<Finding> advice = diagnose_machine(config, facts);
    REQUIRE(advice.size() == 1);
    CHECK(advice[0].severity == Severity::problem);
    CHECK(text_of(advice[0]) ==
          "proxy \"large\": receive_buffer: 64MiB asked, net.core.rmem_max is 212992; the "
          "listeners get less than was asked for and lose bursts; fix: sysctl -w "
          "net.core.rmem_max=67108864");
    facts.wmem_max = 212992;
    CHECK(diagnose_machine(config, facts).size() == 2);
    facts.may_administer_network = true;  // it gets them all the same
    CHECK(diagnose_machine(config, facts).empty());
}

TEST_CASE("ports that others may take are advised about once, however many proxies have them") {
    std::string text;
    for (const char* name : {"one", "two", "three"})
        text += "[[proxy]]\nname = \"" + std::string{name} +
                "\"\nlisten = \":" + std::to_string(100 + text.size()) +
                "\"\nupstream = \"10.0.0.254:53\"\nports = \"40000-50000\"\n";
    const Config config = parsed(text);
    HostFacts facts = healthy();
    facts.proxies.resize(3);
    const std::vector<Finding> advice = diagnose_machine(config, facts);
    REQUIRE(subjects(advice) == std::vector<std::string>{"ports"});
    CHECK(advice[0].where == "proxy \"one\" and 2 more");
    CHECK(advice[0].fix == "sysctl -w net.ipv4.ip_local_reserved_ports=40000-50000");
}

TEST_CASE("receive offload that is off on a device with addresses is a note with the command") {
    HostFacts facts = healthy();
    InterfaceFacts& device = facts.interfaces.back();
    CHECK(diagnose_machine(config_of(usual), facts).empty());
    device.has_receive_offload = false;
    const std::vector<Finding> advice = diagnose_machine(config_of(usual), facts);
    REQUIRE(subjects(advice) == std::vector<std::string>{"receive_offload"});
    CHECK(advice[0].severity == Severity::note);
    CHECK(advice[0].looked_at ==
          "generic-receive-offload is off on " + device.name + ", should be on");
    CHECK(advice[0].fix == "ethtool -K " + device.name + " gro on");
    CHECK(diagnose_machine(config_of(usual + "offload = \"off\"\n"), facts).empty());
    device.addresses.clear();
    CHECK(diagnose_machine(config_of(usual), facts).empty());
}

TEST_CASE("buckets of the UDP hash table are too few from eleven sockets in each") {
    const auto found = [](std::uint64_t buckets, std::uint64_t sockets) {
        HostFacts facts = healthy();
        facts.udp_buckets = buckets;
        Findings findings;
        check_udp_table(facts, sockets, findings);
        REQUIRE(findings.list.size() == 1);
        return findings.list.front();
    };
    CHECK(found(2048, 20480).severity == Severity::ok);
    const Finding finding = found(2048, 90000);
    CHECK(finding.severity == Severity::note);
    CHECK(finding.meaning == "the kernel searches 44 of them for each datagram");
    CHECK(finding.fix ==
          "uhash_entries=65536 on the kernel's command line, or for a network namespace, before it "
          "is made, sysctl -w net.ipv4.udp_child_hash_entries=65536");
    CHECK(found(65536, 2000000).severity == Severity::ok);  // there are no more to be had
    HostFacts facts = healthy();
    facts.udp_buckets = 128;
    CHECK(subjects(diagnose_machine(config_of(usual), facts)) ==
          std::vector<std::string>{"udp_table"});
}

TEST_CASE("a start is told of nothing on a healthy host, and of no buffer or path elsewhere") {
    HostFacts facts = healthy();
    facts.start.emplace();
    CHECK(at_start(facts, config_of(usual)).empty());
    facts.rmem_max = 4096;
    facts.proxies[0].listen[0].is_here = false;
    facts.io_uring = {false, "io_uring_setup: Operation not permitted"};
    CHECK(at_start(facts, config_of(usual)).empty());
}

TEST_CASE("a start fails for what is so whoever asks, and only warns of what may change before") {
    HostFacts facts = healthy();
    facts.start.emplace();
    const std::string head =
        "[runtime]\nengine = \"io_uring\"\n[log]\nfile = \"/srv/log/x\"\n[admin]\nsocket = "
        "\"/srv/x/admin.sock\"\ngroup = \"nobodies\"\nlisten = \"127.0.0.1:9090\"\n";
    const Config config = config_of(usual, head);
    CHECK(at_start(facts, config).empty());

    facts.start->has_admin_group = false;
    check_only(at_start(facts, config), "fails admin.group \"nobodies\": there is no such group",
               "groupadd");
    facts.start.emplace();
    facts.start->admin_socket_error = ENOENT;
    check_only(at_start(facts, config),
               "fails admin.socket \"/srv/x/admin.sock\": there is no directory /srv/x", "mkdir");
    facts.start->admin_socket_error = EACCES;
    check_only(at_start(facts, config),
               "warns admin.socket \"/srv/x/admin.sock\": Permission denied to user nobody",
               "rights");
    facts.start->admin_socket_is_file = true;
    check_only(at_start(facts, config),
               "fails admin.socket \"/srv/x/admin.sock\": is there, and no socket", "away");
    facts.start.emplace();
    facts.start->admin_socket_holder = "udpproxy (process 12)";
    check_only(at_start(facts, config),
               "warns admin.socket \"/srv/x/admin.sock\": udpproxy (process 12) listens on it",
               "another start beside it fails");
    facts.start.emplace();
    facts.start->admin_address_is_here = false;
    check_only(at_start(facts, config), "warns admin.listen 127.0.0.1:9090: is not an address of",
               "the start fails");
    facts.start.emplace();
    facts.start->admin_port = {parse_endpoint("[::]:9090").value(), 0, "nginx",
                               "nginx (process 13)"};
    check_only(at_start(facts, config),
               "warns admin.listen 127.0.0.1:9090: is held by nginx (process 13) at [::]:9090",
               "another port");
    facts.start.emplace();
    facts.start->log_file_error = ENOENT;
    check_only(at_start(facts, config),
               "fails log.file \"/srv/log/x\": there is no directory /srv/log", "mkdir");
    facts.start.emplace();
    facts.io_uring = {false, "io_uring_setup: Operation not permitted"};
    check_only(at_start(facts, config), "fails host: io_uring is refused to user nobody", "auto");
}

TEST_CASE("a directory that service managers make at a start may still come") {
    HostFacts facts = healthy();
    facts.start.emplace();
    facts.start->admin_socket_error = ENOENT;
    check_only(at_start(facts, config_of(usual, "[admin]\nsocket = \"/run/x/admin.sock\"\n")),
               "warns admin.socket \"/run/x/admin.sock\": there is no directory /run/x; the start "
               "fails unless the service manager makes it",
               "RuntimeDirectory=");
    CHECK_MESSAGE(at_start(facts, config_of(usual)).empty(),
                  "the default socket is no condition of a start");
}

TEST_CASE("a start is warned of ports in use, and the holder is named once for all listeners") {
    HostFacts facts = healthy();
    facts.start.emplace();
    facts.proxies[0].listen.assign(3, {});
    const Config config = config_of(
        "listen = [\"192.0.2.1:5353\", \"192.0.2.1:5354\", \"192.0.2.1:5355\"]\n"
        "upstream = \"10.0.0.254:53\"\n");
    const auto hold = [&](const BoundSocket& socket) {
        for (ListenFacts& listen : facts.proxies[0].listen) listen.sockets = {socket};
    };
    const Endpoint held = parse_endpoint("192.0.2.1:5353").value();
    hold({held, 0, "udpproxy", "udpproxy (process 12)"});
    check_only(at_start(facts, config),
               "warns proxy \"dns\": listen 192.0.2.1:5353 and 2 more: is held by udpproxy "
               "(process 12)",
               "a reload or restart of it takes the file");
    hold({held, 0, "", "a socket of user 101"});
    check_only(at_start(facts, config),
               "warns proxy \"dns\": listen 192.0.2.1:5353 and 2 more: is held by a socket of user "
               "101",
               "unless that is udpproxy");
    hold({held, 0, "nginx", "nginx (process 13)"});
    check_only(at_start(facts, config),
               "warns proxy \"dns\": listen 192.0.2.1:5353 and 2 more: is held by nginx (process "
               "13) at 192.0.2.1:5353",
               "stop nginx");
    hold({held, 0, "systemd", "systemd (process 1)"});
    check_only(at_start(facts, config),
               "warns proxy \"dns\": listen 192.0.2.1:5353 and 2 more: is held by systemd (process "
               "1) at 192.0.2.1:5353; unless a socket unit of udpproxy hands it over",
               "systemctl list-sockets");
    hold({held, 0, "udpproxy", "udpproxy (process 12)", true});
    CHECK_MESSAGE(at_start(facts, config).empty(), "it was handed over to this start");
    hold({held, 0, "nginx", "nginx (process 13)"});
    for (ListenFacts& listen : facts.proxies[0].listen) {
        listen.of_both_families = std::move(listen.sockets);
        listen.sockets.clear();
    }
    check_only(at_start(facts, config),
               "warns proxy \"dns\": listen 192.0.2.1:5353 and 2 more: nginx (process 13) holds",
               "unless that socket is for IPv6 alone");
    // A running program asks no such thing about its own ports.
    facts.start.reset();
    hold({held, 0, "udpproxy", "udpproxy (process 12)"});
    CHECK(at_start(facts, config).empty());
}

TEST_CASE(
    "descriptors that do not hold sessions_max are a problem, few descriptors and a full system a "
    "note") {
    HostFacts facts = healthy();
    facts.descriptors_soft = 64;
    facts.descriptors_hard = facts.descriptors_fitting = 1024;
    check_only(
        bad(facts, config_of(usual + "sessions_max = 5000\n")),
        "problem descriptors: host: 1024 open files (soft 64, raised at start; fs.nr_open 1048576)",
        "LimitNOFILE=");
    check_only(bad(facts), "note descriptors: host: 1024 open files", "LimitNOFILE=");
    CHECK_MESSAGE(bad(facts, config_of(usual + "sessions_max = 100\n")).empty(),
                  "few are wanted, and few there are");
    facts = healthy();
    facts.descriptors_fitting = 10000;
    check_only(bad(facts),
               "note descriptors: host: address space is short: RLIMIT_AS, or "
               "vm.overcommit_memory = 2; the tables for 10000 of 20000 descriptors fit",
               "LimitAS=");
    facts.descriptors_fitting = 0;
    check_only(bad(facts),
               "problem descriptors: host: address space is short: RLIMIT_AS, or "
               "vm.overcommit_memory = 2; not even the smallest tables fit",
               "LimitAS=");
    facts.descriptors_fitting = 1250;
    check_only(bad(facts), "note descriptors: host: address space is short", "LimitAS=");
    CHECK(bad(facts, config_of(usual + "sessions_max = 5000\n")).size() == 2);
    facts = healthy();
    facts.files_open = 999000;
    check_only(bad(facts), "note descriptors: host: fs.file-max 1000000 of which 999000 are open",
               "sysctl -w fs.file-max=");
}

TEST_CASE(
    "a table of flows that is full is a problem, nearly full a note, and flows forgotten before "
    "sessions are a note") {
    HostFacts facts = healthy();
    facts.conntrack = {true, 1000, 1000, 600};
    check_only(bad(facts), "problem conntrack: host: 1000 of 1000 flows",
               "nf_conntrack_max=262144");
    facts.conntrack.entries = 850;
    check_only(bad(facts), "note conntrack: host: 850 of 1000 flows", "nf_conntrack_max");
    facts.conntrack = {true, 10, 1000, 120};
    check_only(bad(facts),
               "note conntrack: host: UDP flows are forgotten after 120 s, sessions last 5m idle",
               "nf_conntrack_udp_timeout_stream=300");
    facts.conntrack.entries = 0;
    CHECK(bad(facts).empty());
}

TEST_CASE(
    "what the kernel dropped so far, rules that cannot be followed and what could not be seen are "
    "notes") {
    HostFacts facts = healthy();
    facts.drops = {1, 2, 3, 4};
    CHECK(bad(facts).size() == 4);
    CHECK(bad(facts)[0].find(
              "note drops: host: 1 UDP datagrams of all programs refused for rp_filter") == 0);
    facts = healthy();
    facts.legacy_tables = {"iptables-legacy filter"};
    check_only(bad(facts), "note packet_filter: host: iptables-legacy filter has rules",
               "iptables-legacy -t filter -vnL");
    facts = healthy();
    facts.unseen = {{"the packet filter's rules", "Operation not permitted", "run it as root"}};
    check_only(bad(facts),
               "note unseen: host: the packet filter's rules could not be examined: Operation not "
               "permitted",
               "run it as root");
}

TEST_CASE("what forbids io_uring is named, and it is a problem only where io_uring is demanded") {
    HostFacts facts = healthy();
    facts.io_uring = {false, "io_uring_setup: Operation not permitted"};
    facts.io_uring_disabled = 2;
    check_only(bad(facts),
               "note engine: host: io_uring is refused to user nobody (io_uring_setup: Operation "
               "not permitted) "
               "by the sysctl kernel.io_uring_disabled is 2",
               "sysctl -w kernel.io_uring_disabled=0");
    facts.io_uring_disabled = 0;
    facts.has_seccomp_filter = true;
    check_only(bad(facts),
               "note engine: host: io_uring is refused to user nobody (io_uring_setup: Operation "
               "not permitted) "
               "by a seccomp filter",
               "seccomp profile");
    facts.io_uring.reason = "io_uring_setup: Function not implemented";
    facts.io_uring.error = ENOSYS;
    check_only(bad(facts),
               "note engine: host: io_uring is refused to user nobody (io_uring_setup: Function "
               "not implemented) "
               "by Linux 6.1.0",
               "");
    CHECK(bad(facts, config_of(usual, "[runtime]\nengine = \"io_uring\"\n"))
              .at(0)
              .find("problem engine: ") == 0);
    CHECK(bad(facts, config_of(usual, "[runtime]\nengine = \"epoll\"\n")).empty());
}

TEST_CASE(
    "a stateful filter that drops what an alias answers is a problem that names its rule and the "
    "rule to insert") {
    HostFacts facts = healthy();
    const std::string chain =
        R"({"nftables": [{"chain": {"family": "inet", "table": "filter", "name": "input",)"
        R"( "hook": "input", "prio": 0, "policy": "drop"}},)"
        R"({"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [)"
        R"({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}},)"
        R"( {"accept": null}]}})";
    const std::string listens =
        R"(,{"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 5, "expr": [)"
        R"({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}},)"
        R"( "right": 5353}}, {"accept": null}]}})";
    facts.filter = PacketFilter::parse(chain + listens + "]}").value();
    check_only(bad(facts),
               "problem packet_filter: proxy \"dns\": alias 10.0.0.253:53: its replies are dropped "
               "by nftables, inet filter input: policy drop",
               "nft insert rule inet filter input ip saddr 10.0.0.253 udp sport 53 accept");
    facts.filter = PacketFilter::parse(chain + "]}").value();
    CHECK(bad(facts).size() == 2);
    CHECK(bad(facts)[0].find("problem packet_filter: proxy \"dns\": listen 192.0.2.1:5353: "
                             "clients' datagrams are dropped") == 0);
}

ProbeOutcome heard(const std::vector<const char*>& sources) {
    ProbeOutcome outcome;
    outcome.local = parse_endpoint("10.0.0.1:40000").value();
    for (const char* source : sources)
        outcome.answers.push_back({parse_endpoint(source).value(), 12});
    return outcome;
}

TEST_CASE(
    "a probe's answers are the upstream's, listed, or unlisted with the whole line to write") {
    const Config config = config_of(usual);
    const Endpoint upstream = parse_endpoint("10.0.0.254:53").value();
    std::vector<Finding> findings = findings_of(
        config.proxies[0], upstream, heard({"10.0.0.254:53", "10.0.0.253:53", "10.0.0.254:53"}));
    REQUIRE(findings.size() == 2);
    CHECK_FALSE(has_problem(findings));
    CHECK(findings[0].meaning == "the upstream itself");
    CHECK(findings[1].meaning == "listed as \"10.0.0.253:53\"");
    findings = findings_of(config.proxies[0], upstream, heard({"10.0.0.252:53", "10.0.0.254:99"}));
    REQUIRE(findings.size() == 2);
    CHECK(findings[0].severity == Severity::problem);
    CHECK(findings[0].fix == "reply_aliases = [\"10.0.0.253:53\", \"10.0.0.252:53\"]");
    CHECK(findings[1].fix ==
          "reply_aliases = [\"10.0.0.253:53\", \"10.0.0.252:53\", \"10.0.0.254:99\"]");
    CHECK(has_problem(findings_of(config.proxies[0], upstream,
                                  heard({"10.0.0.253:99"}))));  // a listed address, another port
}

TEST_CASE(
    "a probe without an answer, refused by ICMP or impossible to send is a problem with its "
    "reason") {
    const Config config = config_of(usual);
    const Endpoint upstream = parse_endpoint("10.0.0.254:53").value();
    ProbeOutcome outcome = heard({});
    check_only(bad(findings_of(config.proxies[0], upstream, outcome)),
               "problem probe: proxy \"dns\": no answer from 10.0.0.254:53 to 10.0.0.1:40000",
               "tcpdump -ni any udp port 53");
    outcome.icmp_error = ECONNREFUSED;
    outcome.icmp_from = upstream;
    check_only(
        bad(findings_of(config.proxies[0], upstream, outcome)),
        "problem probe: proxy \"dns\": 10.0.0.254 answered the probe with ICMP: Connection refused",
        "");
    outcome.send_error = EPERM;
    check_only(bad(findings_of(config.proxies[0], upstream, outcome)),
               "problem probe: proxy \"dns\": sending to 10.0.0.254:53: Operation not permitted",
               "nft list ruleset");
}

TEST_CASE("problems come first, what is fine shares a line, and JSON has all") {
    const std::vector<Finding> findings{
        {FindingKind::route, Severity::problem, "proxy \"a\"", "seen", "meant", "do"},
        {FindingKind::name, Severity::ok, "proxy \"a\"", "fine", "", ""},
        {FindingKind::name, Severity::ok, "proxy \"b\"", "fine", "", ""},
        {FindingKind::engine, Severity::note, "host", "l\x1b[2Jan\n\xff", "", ""},
        {FindingKind::mtu, Severity::ok, "proxy \"a\"", "fine", "", ""},
        {FindingKind::mtu, Severity::problem, "proxy \"b\"", "small", "", ""}};
    // An interface may be called by any bytes; they do not get to a terminal.
    CHECK(findings_text(findings) ==
          "problem route: proxy \"a\": seen; meant; fix: do\n"
          "problem mtu: proxy \"b\": small\n"
          "note    engine: host: l\\x1b[2Jan\\x0a\\xff\n"
          "ok      3 checks (--json lists them): name, mtu\n2 problems, 1 note\n");
    const std::string json = findings_json(findings);
    CHECK(json.find("\"finding\":\"route\"") != std::string::npos);
    CHECK(json.find("\"where\":\"proxy \\\"a\\\"\"") != std::string::npos);
    CHECK(json.find("\"problems\":2") != std::string::npos);
}

TEST_CASE("docs/troubleshooting.md lists every finding, in the order and the words of the code") {
    std::vector<std::string> expected;
    for (const FindingName& each : finding_names())
        expected.push_back("| `" + std::string{each.name} + "` | " + std::string{each.looks_at} +
                           " | " + std::string{each.matters} + " |");
    std::vector<std::string> found;
    bool is_table = false;
    for (const std::string& line : lines_of(read_file(source_path("docs/troubleshooting.md")))) {
        is_table = line.rfind("| Finding |", 0) == 0 || (is_table && line.rfind("|", 0) == 0);
        if (is_table && line.rfind("| `", 0) == 0) found.push_back(line);
    }
    for (std::size_t i = 0; i < std::max(expected.size(), found.size()); ++i)
        CHECK((i < found.size() ? found[i] : "(missing)") ==
              (i < expected.size() ? expected[i] : "(nothing)"));
    CHECK(finding_names().size() == static_cast<std::size_t>(FindingKind::unseen) + 1);
}

}  // namespace
}  // namespace udpproxy
