// The way to the upstream and the ways back from it and from its aliases.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "findings.hpp"

namespace udpproxy {

namespace {

std::string ip_command(const Address& address) { return address.is_ipv4() ? "ip" : "ip -6"; }

bool is_upstream(std::size_t target) { return target == 0; }

void look_at_name(const Patient& patient, Findings& findings) {
    if (patient.config.upstream.endpoint) return;
    const std::string where = patient.label() + ": upstream " + patient.config.upstream.text;
    if (patient.facts.upstream)
        findings.ok(FindingKind::name, where, "is " + format(*patient.facts.upstream));
    else
        findings.add(FindingKind::name, Severity::problem, where, "resolve: " + patient.facts.resolve_error,
                     "nothing is forwarded until it has an address",
                     fmt::format("check /etc/resolv.conf (getent ahosts {}), or write an address", patient.config.upstream.host));
}

void look_at_sources(const Patient& patient, Findings& findings) {
    for (const Address& source : patient.config.source) {
        const auto& absent = patient.facts.sources_absent;
        const std::string where = fmt::format("{}: source {}", patient.label(), format(source));
        if (std::find(absent.begin(), absent.end(), source) == absent.end())
            findings.ok(FindingKind::source, where, "is on this host");
        else
            findings.add(FindingKind::source, Severity::problem, where, "is not on this host", "no session can be opened from it",
                         fmt::format("{} addr add {} dev INTERFACE, or take it out of source", ip_command(source), format(source)));
    }
}

/// A route for the missing one, by the interface that leads to the upstream where there is one.
std::string route_to_add(const Patient& patient, const TargetFacts& target) {
    const RouteFacts& upstream = patient.facts.targets.front().route;
    const bool is_known = upstream.error == 0 && !upstream.is_local;
    return fmt::format("{} route add {} {}dev {}", ip_command(target.endpoint.address), target.network,
                       is_known && !upstream.next_hop.is_unspecified() ? "via " + format(upstream.next_hop) + ' ' : "",
                       is_known ? patient.host.interface_name(upstream.interface_index) : "INTERFACE");
}

void look_at_route(const Patient& patient, std::size_t index, Findings& findings) {
    const TargetFacts& target = patient.facts.targets[index];
    const RouteFacts& route = target.route;
    const Address& address = target.endpoint.address;
    if (route.error != 0) {
        findings.add(FindingKind::route, Severity::problem, patient.label(index),
                     fmt::format("route to {}: {}", format(address), error_text(route.error)),
                     is_upstream(index) ? "no request can leave for it" : "no way leads to it, so its replies are expected on no interface",
                     route_to_add(patient, target));
        return;
    }
    const InterfaceFacts* interface = patient.host.interface_of(route.interface_index);
    const std::string name = patient.host.interface_name(route.interface_index);
    if (interface != nullptr && (!interface->is_up || !interface->has_carrier)) {
        findings.add(FindingKind::route, Severity::problem, patient.label(index),
                     fmt::format("the way leads by {}, which {}", name, interface->is_up ? "has no carrier" : "is down"),
                     "what is sent there is lost",
                     interface->is_up ? "look at the cable, or at the other end of the link" : fmt::format("ip link set {} up", name));
        return;
    }
    findings.ok(FindingKind::route, patient.label(index),
                fmt::format("{} by {}{}{}", route.is_local ? "stays on this host," : "goes out", name,
                            route.next_hop.is_unspecified() ? "" : " through " + format(route.next_hop),
                            route.source.is_unspecified() ? "" : ", from " + format(route.source)));
    if (target.neighbour == NeighbourState::silent)
        findings.add(FindingKind::neighbour, Severity::problem, patient.label(index),
                     fmt::format("{} does not answer on {}", format(route.next_hop.is_unspecified() ? address : route.next_hop), name),
                     "what is sent there is lost without an error",
                     fmt::format("{} neigh show dev {}; the machine is down, or not on this link", ip_command(address), name));
}

void look_at_own_addresses(const Patient& patient, Findings& findings) {
    const auto& targets = patient.facts.targets;
    const auto own = [](const TargetFacts& target) { return target.route.error == 0 && target.route.is_local; };
    if (std::none_of(targets.begin(), targets.end(), own)) {
        findings.ok(FindingKind::own_address, patient.label(), "neither the upstream nor an alias is an address of this host");
        return;
    }
    const bool is_all = std::all_of(targets.begin(), targets.end(), own);
    for (std::size_t i = 0; i < targets.size(); ++i) {
        if (!own(targets[i])) continue;
        const std::string address = format(targets[i].endpoint.address);
        if (is_all)
            findings.add(FindingKind::own_address, Severity::note, patient.label(i), address + " is an address of this host",
                         "the service has to run here", {});
        else if (is_upstream(i))
            findings.add(FindingKind::own_address, Severity::problem, patient.label(i),
                         address + " is an address of this host, the aliases are not", "requests never leave this host",
                         "take the address off (ip addr del), or correct the upstream");
        else
            findings.add(FindingKind::own_address, Severity::problem, patient.label(i),
                         address + " is an address of this host, the upstream's is not",
                         "a reply that comes from the network with it is refused as impossible",
                         fmt::format("take {} out of reply_aliases, or off this host (ip addr del)", targets[i].text));
    }
}

/// True when all is well. Kernels differ in what they say of a refused source (EXDEV, since 6.13 EINVAL), so the reason is taken from the facts.
bool look_at_way(const Patient& patient, std::size_t index, const ReplyWay& way, Findings& findings) {
    const TargetFacts& target = patient.facts.targets[index];
    if ((way.error != EXDEV && way.error != EINVAL) || target.route.is_local) return true;
    const std::string name = patient.host.interface_name(way.interface_index);
    const InterfaceFacts* interface = patient.host.interface_of(way.interface_index);
    const int mode = interface != nullptr ? interface->reverse_path : 0;
    const bool is_elsewhere = target.route.error == 0 && target.route.interface_index != way.interface_index;
    std::string looked_at = fmt::format("a reply that comes in on {} is refused", name);
    std::string mend =
        fmt::format("sysctl -w net.ipv4.conf.{}.log_martians=1 makes the kernel tell which; correct the address or the route", name);
    if (is_elsewhere && mode == 1) {
        looked_at +=
            ": rp_filter is 1 (strict) there, and the way back leads by " + patient.host.interface_name(target.route.interface_index);
        mend = fmt::format("sysctl -w net.ipv4.conf.{}.rp_filter=2, or {}", name, route_to_add(patient, target));
    } else if (target.route.error != 0 && mode != 0) {
        looked_at += fmt::format(": rp_filter is {} ({}) there, and there is no way back", mode, mode == 1 ? "strict" : "loose");
        mend = route_to_add(patient, target);
    } else {
        looked_at += fmt::format(" as coming from {}, an impossible source there", format(target.endpoint.address));
    }
    findings.add(FindingKind::reverse_path, Severity::problem, patient.label(index), looked_at, "it is dropped before any socket sees it",
                 mend);
    return false;
}

void look_at_reverse_paths(const Patient& patient, Findings& findings) {
    bool is_well = true;
    std::size_t ways = 0;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < patient.facts.targets.size(); ++i) {
        for (const ReplyWay& way : patient.facts.targets[i].ways) {
            is_well = look_at_way(patient, i, way, findings) && is_well;
            ++ways;
            const std::string name = patient.host.interface_name(way.interface_index);
            if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
        }
    }
    if (ways > 0 && is_well)
        findings.ok(FindingKind::reverse_path, patient.label(), fmt::format("replies are let in on {}", fmt::join(names, ", ")));
}

/// The interfaces that clients may come by: where the listen addresses are, or all that have one of that family.
std::vector<const InterfaceFacts*> client_side(const Patient& patient, std::uint32_t upstream_side) {
    std::vector<const InterfaceFacts*> found;
    for (std::size_t i = 0; i < patient.facts.listen.size(); ++i) {
        const Address& address = patient.config.listen[i].endpoint.address;
        for (const InterfaceFacts& interface : patient.host.interfaces) {
            const bool has_family = std::any_of(interface.addresses.begin(), interface.addresses.end(),
                                                [&](const Address& each) { return each.family() == address.family(); });
            const bool is_meant = address.is_unspecified() ? has_family && interface.index != upstream_side && interface.is_up
                                                           : interface.index == patient.facts.listen[i].interface_index;
            if (is_meant && !interface.is_loopback && std::find(found.begin(), found.end(), &interface) == found.end())
                found.push_back(&interface);
        }
    }
    return found;
}

void look_at_mtu(const Patient& patient, Findings& findings) {
    const RouteFacts& route = patient.facts.targets.front().route;
    const InterfaceFacts* upstream = patient.host.interface_of(route.interface_index);
    if (route.error != 0 || upstream == nullptr || upstream->is_loopback) return;
    const std::uint32_t mtu = route.mtu != 0 ? route.mtu : upstream->mtu;
    const std::uint32_t headers = patient.facts.targets.front().endpoint.address.is_ipv4() ? 28 : 48;
    bool is_equal = true;
    for (const InterfaceFacts* client : client_side(patient, upstream->index)) {
        if (client->mtu == mtu) continue;
        is_equal = false;
        const bool upstream_is_smaller = mtu < client->mtu;
        const std::uint32_t smaller = std::min(mtu, client->mtu);
        findings.add(FindingKind::mtu, Severity::note, patient.label(),
                     fmt::format("MTU {} towards the upstream ({}), {} on {}", mtu, upstream->name, client->mtu, client->name),
                     fmt::format("{} of more than {} bytes are cut into fragments, and the first is lost while the kernel learns",
                                 upstream_is_smaller ? "requests" : "replies", smaller - std::min(smaller, headers)),
                     fmt::format("ip link set {} mtu {}, if that link carries it", upstream_is_smaller ? upstream->name : client->name,
                                 std::max(mtu, client->mtu)));
    }
    if (is_equal)
        findings.ok(FindingKind::mtu, patient.label(),
                    fmt::format("MTU {} towards the upstream ({}), nothing else on the listeners' side", mtu, upstream->name));
}

}  // namespace

void look_at_paths(const Patient& patient, Findings& findings) {
    look_at_name(patient, findings);
    look_at_sources(patient, findings);
    if (patient.facts.targets.empty()) return;
    for (std::size_t i = 0; i < patient.facts.targets.size(); ++i) look_at_route(patient, i, findings);
    look_at_own_addresses(patient, findings);
    look_at_reverse_paths(patient, findings);
    look_at_mtu(patient, findings);
}

}  // namespace udpproxy
