// Checks of the paths: to the upstream, and back from it and from its aliases. Kernel decisions
// (routes, reverse paths) are facts that collect.cpp asked for; here they get their meaning.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "findings.hpp"

namespace udpproxy {

namespace {

std::string ip_command(const Address& address) { return address.is_ipv4() ? "ip" : "ip -6"; }

bool is_upstream(std::size_t target) { return target == 0; }

void check_name(const ExaminedProxy& examined, Findings& findings) {
    if (examined.config.upstream.endpoint) return;
    const std::string where = examined.label() + ": upstream " + examined.config.upstream.text;
    if (examined.facts.upstream)
        findings.ok(FindingKind::name, where, "is " + format(*examined.facts.upstream));
    else
        findings.add(FindingKind::name, Severity::problem, where,
                     "resolve: " + examined.facts.resolve_error,
                     "nothing is forwarded until it has an address",
                     fmt::format("check /etc/resolv.conf (getent ahosts {}), or write an address",
                                 examined.config.upstream.host));
}

void check_sources(const ExaminedProxy& examined, Findings& findings) {
    for (const Address& source : examined.config.source) {
        const auto& absent = examined.facts.sources_absent;
        const std::string where = fmt::format("{}: source {}", examined.label(), format(source));
        if (std::find(absent.begin(), absent.end(), source) == absent.end())
            findings.ok(FindingKind::source, where, "is on this host");
        else
            findings.add(FindingKind::source, Severity::problem, where, "is not on this host",
                         "no session can be opened from it",
                         fmt::format("{} addr add {} dev INTERFACE, or take it out of source",
                                     ip_command(source), format(source)));
    }
}

/// The command that adds the missing route, through the interface of the upstream's route if known.
std::string route_to_add(const ExaminedProxy& examined, const TargetFacts& target) {
    const RouteFacts& upstream = examined.facts.targets.front().route;
    const bool is_known = upstream.error == 0 && !upstream.is_local;
    return fmt::format(
        "{} route add {} {}dev {}", ip_command(target.endpoint.address), target.network,
        is_known && !upstream.next_hop.is_unspecified() ? "via " + format(upstream.next_hop) + ' '
                                                        : "",
        is_known ? examined.host.interface_name(upstream.interface_index) : "INTERFACE");
}

void check_route(const ExaminedProxy& examined, std::size_t index, Findings& findings) {
    const TargetFacts& target = examined.facts.targets[index];
    const RouteFacts& route = target.route;
    const Address& address = target.endpoint.address;
    if (is_absent_interface(target.endpoint.scope)) {
        findings.add(FindingKind::route, Severity::problem, examined.label(index),
                     fmt::format("there is no interface as in {}", target.text),
                     is_upstream(index) ? "no request can be sent to it until there is one"
                                        : "no reply comes from it until there is one",
                     "make the interface; udpproxy uses it as soon as it is there");
        return;
    }
    if (route.error != 0) {
        findings.add(
            FindingKind::route, Severity::problem, examined.label(index),
            fmt::format("route to {}: {}", format(address), error_text(route.error)),
            is_upstream(index)
                ? "no request can be sent to it"
                : "there is no route to it, so replies from it are accepted on no interface",
            route_to_add(examined, target));
        return;
    }
    const InterfaceFacts* interface = examined.host.interface_of(route.interface_index);
    const std::string name = examined.host.interface_name(route.interface_index);
    if (interface != nullptr && (!interface->is_up || !interface->has_carrier)) {
        findings.add(FindingKind::route, Severity::problem, examined.label(index),
                     fmt::format("the route goes out on {}, which {}", name,
                                 interface->is_up ? "has no carrier" : "is down"),
                     "what is sent there is lost",
                     interface->is_up ? "look at the cable, or at the other end of the link"
                                      : fmt::format("ip link set {} up", name));
        return;
    }
    findings.ok(
        FindingKind::route, examined.label(index),
        fmt::format("{} by {}{}{}", route.is_local ? "stays on this host," : "goes out", name,
                    route.next_hop.is_unspecified() ? "" : " through " + format(route.next_hop),
                    route.source.is_unspecified() ? "" : ", from " + format(route.source)));
    if (target.neighbour == NeighbourState::silent)
        findings.add(
            FindingKind::neighbour, Severity::problem, examined.label(index),
            fmt::format("{} does not answer on {}",
                        format(route.next_hop.is_unspecified() ? address : route.next_hop), name),
            "what is sent there is lost without an error",
            fmt::format("{} neigh show dev {}; the machine is down, or not on this link",
                        ip_command(address), name));
}

void check_own_addresses(const ExaminedProxy& examined, Findings& findings) {
    const auto& targets = examined.facts.targets;
    const auto own = [](const TargetFacts& target) {
        return target.route.error == 0 && target.route.is_local;
    };
    if (std::none_of(targets.begin(), targets.end(), own)) {
        findings.ok(FindingKind::own_address, examined.label(),
                    "neither the upstream nor an alias is an address of this host");
        return;
    }
    const bool is_all = std::all_of(targets.begin(), targets.end(), own);
    for (std::size_t i = 0; i < targets.size(); ++i) {
        if (!own(targets[i])) continue;
        const std::string address = format(targets[i].endpoint.address);
        if (is_all)
            findings.add(FindingKind::own_address, Severity::note, examined.label(i),
                         address + " is an address of this host", "the service has to run here",
                         {});
        else if (is_upstream(i))
            findings.add(FindingKind::own_address, Severity::problem, examined.label(i),
                         address + " is an address of this host, the aliases are not",
                         "requests never leave this host",
                         "take the address off (ip addr del), or correct the upstream");
        else
            findings.add(FindingKind::own_address, Severity::problem, examined.label(i),
                         address + " is an address of this host, the upstream's is not",
                         "a reply that comes from the network with it is refused as impossible",
                         fmt::format("take {} out of reply_aliases, or off this host (ip addr del)",
                                     targets[i].text));
    }
}

/// True if the kernel accepts the reply. Kernels differ in the error for a refused source (EXDEV,
/// since 6.13 EINVAL), so the reason is taken from the facts.
bool check_way(const ExaminedProxy& examined, std::size_t index, const ReplyWay& way,
               Findings& findings) {
    const TargetFacts& target = examined.facts.targets[index];
    if ((way.error != EXDEV && way.error != EINVAL) || target.route.is_local) return true;
    const std::string name = examined.host.interface_name(way.interface_index);
    const InterfaceFacts* interface = examined.host.interface_of(way.interface_index);
    const int mode = interface != nullptr ? interface->reverse_path : 0;
    const bool is_elsewhere =
        target.route.error == 0 && target.route.interface_index != way.interface_index;
    std::string looked_at = fmt::format("a reply that comes in on {} is refused", name);
    std::string fix = fmt::format(
        "sysctl -w net.ipv4.conf.{}.log_martians=1 makes the kernel log it; correct the "
        "address or the route",
        name);
    if (is_elsewhere && mode == 1) {
        looked_at += ": rp_filter is 1 (strict) there, and the route back goes out on " +
                     examined.host.interface_name(target.route.interface_index);
        fix = fmt::format("sysctl -w net.ipv4.conf.{}.rp_filter=2, or {}", name,
                          route_to_add(examined, target));
    } else if (target.route.error != 0 && mode != 0) {
        looked_at += fmt::format(": rp_filter is {} ({}) there, and there is no route back", mode,
                                 mode == 1 ? "strict" : "loose");
        fix = route_to_add(examined, target);
    } else {
        looked_at += fmt::format(" as coming from {}, an impossible source there",
                                 format(target.endpoint.address));
    }
    findings.add(FindingKind::reverse_path, Severity::problem, examined.label(index), looked_at,
                 "it is dropped before any socket sees it", fix);
    return false;
}

void check_reverse_paths(const ExaminedProxy& examined, Findings& findings) {
    bool is_well = true;
    std::size_t ways = 0;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < examined.facts.targets.size(); ++i) {
        for (const ReplyWay& way : examined.facts.targets[i].ways) {
            is_well = check_way(examined, i, way, findings) && is_well;
            ++ways;
            const std::string name = examined.host.interface_name(way.interface_index);
            if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
        }
    }
    if (ways > 0 && is_well)
        findings.ok(FindingKind::reverse_path, examined.label(),
                    fmt::format("replies are let in on {}", fmt::join(names, ", ")));
}

/// The interfaces of the listen addresses. For the unspecified address: all interfaces that have an
/// address of its family.
std::vector<const InterfaceFacts*> client_side(const ExaminedProxy& examined,
                                               std::uint32_t local_endpoint) {
    std::vector<const InterfaceFacts*> found;
    for (std::size_t i = 0; i < examined.facts.listen.size(); ++i) {
        const Address& address = examined.config.listen[i].endpoint.address;
        for (const InterfaceFacts& interface : examined.host.interfaces) {
            const bool has_family =
                std::any_of(interface.addresses.begin(), interface.addresses.end(),
                            [&](const Address& each) { return each.family() == address.family(); });
            const bool is_meant =
                address.is_unspecified()
                    ? has_family && interface.index != local_endpoint && interface.is_up
                    : interface.index == examined.facts.listen[i].interface_index;
            if (is_meant && !interface.is_loopback &&
                std::find(found.begin(), found.end(), &interface) == found.end())
                found.push_back(&interface);
        }
    }
    return found;
}

void check_mtu(const ExaminedProxy& examined, Findings& findings) {
    const RouteFacts& route = examined.facts.targets.front().route;
    const InterfaceFacts* upstream = examined.host.interface_of(route.interface_index);
    if (route.error != 0 || upstream == nullptr || upstream->is_loopback) return;
    const std::uint32_t mtu = route.mtu != 0 ? route.mtu : upstream->mtu;
    const std::uint32_t headers =
        examined.facts.targets.front().endpoint.address.is_ipv4() ? 28 : 48;
    bool is_equal = true;
    for (const InterfaceFacts* client : client_side(examined, upstream->index)) {
        if (client->mtu == mtu) continue;
        is_equal = false;
        const bool upstream_is_smaller = mtu < client->mtu;
        const std::uint32_t smaller = std::min(mtu, client->mtu);
        findings.add(FindingKind::mtu, Severity::note, examined.label(),
                     fmt::format("MTU {} towards the upstream ({}), {} on {}", mtu, upstream->name,
                                 client->mtu, client->name),
                     fmt::format("{} of more than {} bytes are fragmented, and the first one is "
                                 "lost until the kernel has learned the MTU",
                                 upstream_is_smaller ? "requests" : "replies",
                                 smaller - std::min(smaller, headers)),
                     fmt::format("ip link set {} mtu {}, if that link carries it",
                                 upstream_is_smaller ? upstream->name : client->name,
                                 std::max(mtu, client->mtu)));
    }
    if (is_equal)
        findings.ok(FindingKind::mtu, examined.label(),
                    fmt::format("MTU {} towards the upstream ({}), and on the listeners' side", mtu,
                                upstream->name));
}

}  // namespace

void check_paths(const ExaminedProxy& examined, Findings& findings) {
    check_name(examined, findings);
    check_sources(examined, findings);
    if (examined.facts.targets.empty()) return;
    for (std::size_t i = 0; i < examined.facts.targets.size(); ++i)
        check_route(examined, i, findings);
    check_own_addresses(examined, findings);
    check_reverse_paths(examined, findings);
    check_mtu(examined, findings);
}

}  // namespace udpproxy
