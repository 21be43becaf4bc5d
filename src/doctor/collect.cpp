// Collects HostFacts, in the order of its members. A fact that cannot be read is recorded as unseen
// and never ends the examination.
#include "udpproxy/doctor/doctor.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "findings.hpp"
#include "udpproxy/config/capacity.hpp"
#include "udpproxy/config/upstream_choice.hpp"
#include "udpproxy/host/access.hpp"
#include "udpproxy/host/cpu_quota.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/host/lookups.hpp"
#include "udpproxy/host/procfs.hpp"
#include "udpproxy/host/receive_offload.hpp"
#include "udpproxy/host/routes.hpp"

namespace udpproxy {

namespace {

constexpr int cap_net_bind_service = 10;  // linux/capability.h
constexpr int cap_net_admin = 12;

std::optional<std::string> read_or_note(HostFacts& facts, const std::string& path) {
    auto text = read_host_file(path);
    if (!text) facts.unseen.push_back({path, error_text(errno), "run it as root"});
    return text;
}

/// The kernel tells the table of another namespace, where a namespace has none of its own, as a
/// negative number.
std::optional<std::uint64_t> read_udp_buckets() {
    const std::string text = read_host_file("/proc/sys/net/ipv4/udp_hash_entries").value_or("");
    std::int64_t buckets = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), buckets);
    if (read.ec != std::errc{}) return std::nullopt;
    return static_cast<std::uint64_t>(std::abs(buckets));
}

void collect_limits(HostFacts& facts) {
    const Socket trial{::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    facts.has_ipv6 = trial || errno != EAFNOSUPPORT;
    utsname system{};
    ::uname(&system);
    facts.kernel = system.release;
    facts.user = effective_user();
    const std::string status = read_host_file("/proc/self/status").value_or("");
    const std::uint64_t capabilities = find_mask(status, "CapEff:");
    facts.may_administer_network = (capabilities >> cap_net_admin & 1U) != 0;
    facts.may_bind_low_ports = (capabilities >> cap_net_bind_service & 1U) != 0;
    facts.has_seccomp_filter = find_mask(status, "Seccomp:") == 2;
    facts.rmem_max = read_host_number("/proc/sys/net/core/rmem_max");
    facts.wmem_max = read_host_number("/proc/sys/net/core/wmem_max");
    facts.udp_buckets = read_udp_buckets();
    facts.ephemeral = ephemeral_ports();
    facts.reserved_ports = reserved_ports();
    facts.unprivileged_port_start = static_cast<std::uint32_t>(
        read_host_number("/proc/sys/net/ipv4/ip_unprivileged_port_start").value_or(1024));
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        facts.descriptors_soft = limit.rlim_cur;
        facts.descriptors_hard = limit.rlim_max;
    }
    facts.nr_open = read_host_number("/proc/sys/fs/nr_open");
    facts.file_max = read_host_number("/proc/sys/fs/file-max");
    facts.files_open = read_host_number("/proc/sys/fs/file-nr");
    if (const auto disabled = read_host_number("/proc/sys/kernel/io_uring_disabled"))
        facts.io_uring_disabled = static_cast<int>(*disabled);
}

std::uint32_t shards_of(const Config& config) {
    return config.shards ? *config.shards : automatic_shards().shards;
}

/// What this machine lets the program have, as a start finds it. The trial ring is as large as the
/// start's, whose table of files needs the raised limit of descriptors; a running program has its
/// rings, and only learns whether another is allowed.
void collect_engine(const Config& config, const DoctorRequest& request, HostFacts& facts) {
    facts.shards = shards_of(config);
    if (request.descriptors_fitting) {
        facts.descriptors_fitting = *request.descriptors_fitting;
        facts.io_uring = probe_io_uring();
        return;
    }
    const MachineLimits machine =
        fit_address_space({raise_descriptor_limit(), facts.shards, facts.ephemeral});
    const TableSizes tables = table_sizes(machine);
    facts.descriptors_fitting = can_reserve(tables.bytes) ? machine.descriptors : 0;
    facts.io_uring = facts.descriptors_fitting > 0
                         ? probe_io_uring(tables.slots, tables.buffers_per_leg)
                         : probe_io_uring();
}

void collect_drops(HostFacts& facts) {
    const auto snmp = read_or_note(facts, "/proc/net/snmp");
    const auto netstat = read_or_note(facts, "/proc/net/netstat");
    const std::string snmp6 = read_host_file("/proc/net/snmp6").value_or("");
    const auto both = [&](std::string_view name,
                          std::string_view name6) -> std::optional<std::uint64_t> {
        const auto ipv4 = snmp ? find_counter(*snmp, "Udp", name) : std::nullopt;
        return ipv4 ? std::optional{*ipv4 + find_counter6(snmp6, name6).value_or(0)} : std::nullopt;
    };
    facts.drops.receive_buffer = both("RcvbufErrors", "Udp6RcvbufErrors");
    facts.drops.send_buffer = both("SndbufErrors", "Udp6SndbufErrors");
    facts.drops.checksum = both("InCsumErrors", "Udp6InCsumErrors");
    if (netstat) facts.drops.reverse_path = find_counter(*netstat, "TcpExt", "IPReversePathFilter");
}

/// How the packet filter's rules would be seen.
const char* way_to_rules(int error) {
    if (error == EPERM) return "run it as root, or with CAP_NET_ADMIN";
    if (error == ENOENT) return "install nft (package nftables)";
    return "nft list ruleset shows them";
}

void collect_filters(HostFacts& facts) {
    const std::string base = "/proc/sys/net/netfilter/nf_conntrack_";
    facts.conntrack.entries = read_host_number(base + "count");
    facts.conntrack.entries_max = read_host_number(base + "max");
    facts.conntrack.udp_stream_timeout_s = read_host_number(base + "udp_timeout_stream");
    facts.conntrack.is_loaded = facts.conntrack.entries_max.has_value();
    Result<PacketFilter> filter = read_packet_filter();
    if (filter)
        facts.filter = std::move(*filter);
    else
        facts.unseen.push_back({"the packet filter's rules", filter.error().message,
                                way_to_rules(filter.error().code)});
    for (const char* path : {"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"}) {
        const auto text = read_host_file(path);
        if (!text && errno != ENOENT)
            facts.unseen.push_back({path, error_text(errno), "run it as root"});
        std::string table;
        for (const char letter : text.value_or("")) {
            if (letter != '\n') {
                table += letter;
                continue;
            }
            facts.legacy_tables.push_back(
                (path[11] == '6' ? "ip6tables-legacy " : "iptables-legacy ") + table);
            table.clear();
        }
    }
}

/// The source of requests: the first configured one, else unspecified: routing chooses.
Address source_of(const ProxyConfig& config, Family family) {
    return config.source.empty() ? Address::any(family) : config.source.front();
}

bool is_range(const Prefix& prefix) { return prefix.bits < (prefix.address.is_ipv4() ? 32 : 128); }

/// An address that stands for the prefix: the upstream's if it is inside, else the first one of the
/// prefix that is not an address of this host.
Address representative(const Prefix& prefix, const Address& upstream,
                       const std::vector<InterfaceFacts>& interfaces) {
    constexpr int attempts = 16;
    if (!is_range(prefix)) return prefix.address;
    if (prefix.contains(upstream)) return upstream;
    const auto is_own = [&](const Address& address) {
        return std::any_of(
            interfaces.begin(), interfaces.end(), [&](const InterfaceFacts& interface) {
                return std::find(interface.addresses.begin(), interface.addresses.end(), address) !=
                       interface.addresses.end();
            });
    };
    Address candidate = prefix.address;
    // No host has the network's own address, except in a prefix of two addresses.
    if (prefix.bits < (prefix.address.is_ipv4() ? 31 : 127)) candidate.bytes[15] |= 1U;
    for (int attempt = 0; attempt < attempts && is_own(candidate) && candidate.bytes[15] < 255;
         ++attempt) {
        Address next = candidate;
        ++next.bytes[15];
        if (!prefix.contains(next)) break;
        candidate = next;
    }
    return candidate;
}

class Paths {
public:
    Paths(HostFacts& facts, RouteTable& routes) : facts_(facts), routes_(routes) {}

    void collect(const ProxyConfig& config, ProxyFacts& proxy) {
        for (const Address& source : config.source)
            if (!routes_.route({source, 0, 0}, Address::any(source.family())).is_local)
                proxy.sources_absent.push_back(source);
        if (!proxy.upstream) return;
        const Address source = proxy.sources_absent.empty()
                                   ? source_of(config, proxy.upstream->family())
                                   : Address::any(proxy.upstream->family());
        proxy.targets.push_back(target(*proxy.upstream, config.upstream.text, source));
        for (const Alias& alias : config.reply_aliases) {
            proxy.targets.push_back(
                target({representative(alias.prefix, proxy.upstream->address, facts_.interfaces),
                        alias.scope, alias.port.value_or(0)},
                       alias.text, source));
            if (is_range(alias.prefix)) proxy.targets.back().network = format(alias.prefix);
        }
        // A reply may arrive on the interface of the route to its source, or on the upstream's.
        for (TargetFacts& each : proxy.targets) add_ways(each, proxy.targets.front().route);
    }

private:
    TargetFacts target(const Endpoint& endpoint, const std::string& text, const Address& source) {
        TargetFacts facts;
        facts.endpoint = endpoint;
        facts.text = text;
        facts.network = format(endpoint.address);
        facts.route = routes_.route(endpoint, source);
        if (facts.route.error != 0 || facts.route.is_local) return facts;
        const Address& next =
            facts.route.next_hop.is_unspecified() ? endpoint.address : facts.route.next_hop;
        facts.neighbour = routes_.neighbour(next, facts.route.interface_index);
        return facts;
    }

    void add_ways(TargetFacts& target, const RouteFacts& upstream) {
        if (upstream.error != 0 || upstream.source.is_unspecified() || upstream.is_local) return;
        for (const std::uint32_t index : {upstream.interface_index, target.route.interface_index}) {
            const bool is_known =
                std::any_of(target.ways.begin(), target.ways.end(),
                            [&](const ReplyWay& way) { return way.interface_index == index; });
            const InterfaceFacts* interface = facts_.interface_of(index);
            if (is_known || interface == nullptr || interface->is_loopback) continue;
            target.ways.push_back({index, routes_.way_in(target.endpoint, upstream.source, index)});
        }
    }

    HostFacts& facts_;
    RouteTable& routes_;
};

void resolve_upstreams(const Config& config, HostFacts& facts) {
    std::vector<HostName> names;
    for (const ProxyConfig& proxy : config.proxies)
        if (!proxy.upstream.endpoint)
            names.push_back({proxy.upstream.host, proxy.upstream.port, upstream_family(proxy)});
    const std::vector<Result<Addresses>> answers = look_up(names);
    auto answer = answers.begin();
    for (std::size_t i = 0; i < config.proxies.size(); ++i) {
        if (config.proxies[i].upstream.endpoint) continue;
        const Result<Addresses>& found = *answer++;
        if (!found) {
            facts.proxies[i].resolve_error = found.error().message;
            continue;
        }
        const UpstreamChoice choice = choose_upstream(config, config.proxies[i], found->endpoints);
        facts.proxies[i].upstream = choice.endpoint;
        facts.proxies[i].resolve_error = choice.endpoint ? "" : choice.refused;
    }
}

/// The UDP sockets of this network namespace on our listen ports, each with the name of the program
/// that holds it.
std::vector<BoundSocket> collect_sockets(const Config& config) {
    std::vector<BoundSocket> found;
    std::vector<std::uint64_t> inodes;
    std::vector<std::uint32_t> users;
    for (const char* path : {"/proc/net/udp", "/proc/net/udp6"}) {
        for (const SocketLine& line : parse_sockets(read_host_file(path).value_or(""))) {
            const bool is_wanted = std::any_of(
                config.proxies.begin(), config.proxies.end(), [&](const ProxyConfig& proxy) {
                    return std::any_of(proxy.listen.begin(), proxy.listen.end(),
                                       [&](const ListenAddress& listen) {
                                           return listen.endpoint.port == line.local.port;
                                       });
                });
            if (!is_wanted) continue;
            found.push_back({line.local, line.drops, {}, {}, false});
            inodes.push_back(line.inode);
            users.push_back(line.user);
        }
    }
    const std::vector<SocketHolder> holders = holders_of(inodes);
    for (std::size_t i = 0; i < found.size(); ++i) {
        found[i].holder = holders[i].name;
        found[i].shown = text_of(holders[i], users[i]);
        found[i].is_own = holders[i].process == ::getpid();
    }
    return found;
}

void collect_listener(const Endpoint& endpoint, const std::vector<BoundSocket>& sockets,
                      HostFacts& facts, RouteTable* routes, ListenFacts& found) {
    const Address& address = endpoint.address;
    if (!address.is_unspecified() && routes != nullptr) {
        found.is_here =
            routes->route({address, endpoint.scope, 0}, Address::any(address.family())).is_local;
        for (const InterfaceFacts& interface : facts.interfaces)
            if ((endpoint.scope == 0 || endpoint.scope == interface.index) &&
                std::find(interface.addresses.begin(), interface.addresses.end(), address) !=
                    interface.addresses.end())
                found.interface_index = interface.index;
        found.is_here =
            found.is_here || found.interface_index != 0;  // a link-local one is no route of its own
    }
    for (const BoundSocket& socket : sockets) {
        if (overlap(socket.local, endpoint))
            found.sockets.push_back(socket);
        else if (may_hold(socket.local, endpoint))
            found.of_both_families.push_back(socket);
    }
}

void collect_listeners(const Config& config, const DoctorRequest& request, HostFacts& facts,
                       RouteTable* routes) {
    const std::vector<BoundSocket> sockets =
        request.goes_on ? std::vector<BoundSocket>{} : collect_sockets(config);
    for (std::size_t i = 0; i < config.proxies.size(); ++i) {
        for (const ListenAddress& listen : config.proxies[i].listen)
            collect_listener(listen.endpoint, sockets, facts, routes,
                             facts.proxies[i].listen.emplace_back());
    }
}

bool collect_interfaces(RouteTable& routes, HostFacts& facts) {
    auto interfaces = routes.interfaces();
    if (!interfaces) {
        facts.unseen.push_back({"routes, interfaces and neighbours", interfaces.error().message,
                                "allow AF_NETLINK (RestrictAddressFamilies= of the unit)"});
        return false;
    }
    facts.interfaces = std::move(*interfaces);
    for (InterfaceFacts& interface : facts.interfaces)
        interface.has_receive_offload = read_receive_offload(interface.name);
    return true;
}

/// The facts that a start depends on.
HostFacts collect_start(const Config& config, const DoctorRequest& request, RouteTable& routes) {
    HostFacts facts;
    collect_limits(facts);
    collect_engine(config, request, facts);
    facts.proxies.resize(config.proxies.size());
    const bool has_interfaces = collect_interfaces(routes, facts);
    collect_listeners(config, request, facts, has_interfaces ? &routes : nullptr);
    if (!request.descriptors_fitting)
        facts.start =
            collect_start_facts(config, request.goes_on, has_interfaces ? &routes : nullptr);
    return facts;
}

}  // namespace

HostFacts collect_host_facts(const Config& config, const DoctorRequest& request) {
    RouteTable routes;
    HostFacts facts = collect_start(config, request, routes);
    collect_drops(facts);
    collect_filters(facts);
    for (std::size_t i = 0; i < config.proxies.size(); ++i) {
        facts.proxies[i].upstream = config.proxies[i].upstream.endpoint;
        if (!facts.proxies[i].upstream)
            facts.proxies[i].resolve_error =
                "it has no address yet (the log has the resolver's answer)";
    }
    if (request.resolves_names) resolve_upstreams(config, facts);
    if (facts.interfaces.empty()) return facts;
    Paths paths{facts, routes};
    for (std::size_t i = 0; i < config.proxies.size(); ++i)
        paths.collect(config.proxies[i], facts.proxies[i]);
    return facts;
}

std::vector<Finding> examine_machine(const Config& config, std::uint64_t descriptors_fitting) {
    RouteTable routes;
    HostFacts facts;
    collect_limits(facts);
    facts.shards = shards_of(config);
    facts.descriptors_fitting = descriptors_fitting;
    (void)collect_interfaces(routes, facts);
    return diagnose_machine(config, facts);
}

std::vector<Finding> examine_start(const Config& config, bool goes_on) {
    RouteTable routes;
    DoctorRequest request;
    request.goes_on = goes_on;
    return diagnose_start(config, collect_start(config, request, routes));
}

}  // namespace udpproxy
