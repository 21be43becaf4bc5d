// Checks of the clients' side: listen addresses, ports and socket buffers.
#include <fmt/format.h>

#include <algorithm>

#include "findings.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

void check_address(const ExaminedProxy& examined, std::size_t index, const std::string& where,
                   Findings& findings) {
    const ListenFacts& facts = examined.facts.listen[index];
    const ListenAddress& listen = examined.config.listen[index];
    const Address& address = listen.endpoint.address;
    if (listen.is_absent()) {
        findings.add(FindingKind::listen_address, Severity::problem, where,
                     fmt::format("there is no interface {}", listen.interface),
                     "no client reaches it here; udpproxy listens as soon as there is one",
                     fmt::format("make the interface {}", listen.interface));
    } else if (!address.is_ipv4() && !examined.host.has_ipv6) {
        const bool serves_ipv4 = listen.is_of_every_family();
        findings
            .add(FindingKind::listen_address, serves_ipv4 ? Severity::note : Severity::problem,
                 where, "this kernel has no IPv6, or refuses it to this process",
                 serves_ipv4 ? "only IPv4 clients are served" : "the start fails",
                 "allow AF_INET6 (RestrictAddressFamilies= of the unit), or listen on an IPv4 "
                 "address")
            .at_start = serves_ipv4 ? StartEffect::warns : StartEffect::fails;
    } else if (address.is_unspecified()) {
        findings.ok(FindingKind::listen_address, where, "every address of this host");
    } else if (facts.is_here) {
        findings.ok(FindingKind::listen_address, where,
                    facts.interface_index == 0
                        ? "is on this host"
                        : "is on " + examined.host.interface_name(facts.interface_index));
    } else {
        findings.add(FindingKind::listen_address, Severity::problem, where,
                     "is not an address of this host",
                     "no client reaches it here (as it should be on a standby)",
                     fmt::format("{} addr add {} dev INTERFACE", address.is_ipv4() ? "ip" : "ip -6",
                                 format(address)));
    }
}

/// It holds the sockets of socket units, for the services that they belong to.
constexpr std::string_view service_manager_name = "systemd";

/// A socket of another program than this one.
const BoundSocket* foreign_among(const std::vector<BoundSocket>& sockets) {
    const auto place = std::find_if(sockets.begin(), sockets.end(), [](const BoundSocket& each) {
        return !each.holder.empty() && each.holder != own_name;
    });
    return place != sockets.end() ? &*place : nullptr;
}

/// Tells about a port that is free, or held by this program, or by one that cannot be seen.
void check_own_port(const ListenFacts& facts, bool has_started, const std::string& where,
                    Findings& findings) {
    if (facts.sockets.empty())
        return findings.ok(
            FindingKind::listen_port, where,
            "is free: udpproxy is not running, or runs in another network namespace");
    if (!has_started && std::all_of(facts.sockets.begin(), facts.sockets.end(),
                                    [](const BoundSocket& each) { return each.is_own; }))
        return findings.ok(FindingKind::listen_port, where,
                           "is held by what the service manager has handed over");
    const auto hidden = std::find_if(facts.sockets.begin(), facts.sockets.end(),
                                     [](const BoundSocket& each) { return each.holder.empty(); });
    const bool is_hidden = hidden != facts.sockets.end();
    const std::string looked_at =
        is_hidden
            ? fmt::format("is held by {}, of which no more can be seen from here", hidden->shown)
            : "is held by " + facts.sockets.front().shown;
    if (has_started) return findings.ok(FindingKind::listen_port, where, looked_at);
    findings
        .add(FindingKind::listen_port, Severity::ok, where, looked_at,
             is_hidden ? "unless that is udpproxy, the start fails"
                       : "a reload or restart of it takes the file; another start beside it fails",
             {})
        .at_start = StartEffect::warns;
}

void check_port(const ExaminedProxy& examined, std::size_t index, const std::string& where,
                Findings& findings) {
    const ListenFacts& facts = examined.facts.listen[index];
    const std::uint16_t port = examined.config.listen[index].endpoint.port;
    const BoundSocket* const foreign = foreign_among(facts.sockets);
    const BoundSocket* const of_both = foreign_among(facts.of_both_families);
    std::uint64_t drops = 0;
    for (const BoundSocket& socket : facts.sockets) drops += socket.drops;
    if (foreign != nullptr && foreign->holder == service_manager_name) {
        findings
            .add(FindingKind::listen_port, Severity::note, where,
                 fmt::format("is held by {} at {}", foreign->shown, format(foreign->local)),
                 "unless a socket unit of udpproxy hands it over, the start fails: address already "
                 "in use",
                 "systemctl list-sockets shows the unit")
            .at_start = StartEffect::warns;
    } else if (foreign != nullptr) {
        findings
            .add(FindingKind::listen_port, Severity::problem, where,
                 fmt::format("is held by {} at {}", foreign->shown, format(foreign->local)),
                 "the start fails: address already in use",
                 fmt::format("stop {}, or listen on another address or port", foreign->holder))
            .at_start = StartEffect::warns;
    } else if (port < examined.host.unprivileged_port_start && !examined.host.may_bind_low_ports) {
        findings
            .add(FindingKind::listen_port, Severity::problem, where,
                 fmt::format("ports below {} need CAP_NET_BIND_SERVICE, which this process (user "
                             "{}) lacks",
                             examined.host.unprivileged_port_start, examined.host.user),
                 "the start fails: permission denied",
                 fmt::format("AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or sysctl -w "
                             "net.ipv4.ip_unprivileged_port_start={}",
                             port))
            .at_start = StartEffect::warns;
    } else if (of_both != nullptr && facts.sockets.empty()) {
        findings
            .add(FindingKind::listen_port, Severity::note, where,
                 fmt::format("{} holds {}", of_both->shown, format(of_both->local)),
                 "unless that socket is for IPv6 alone, the start fails: address already in use",
                 fmt::format("stop {}, or listen on another port", of_both->holder))
            .at_start = StartEffect::warns;
    } else {
        check_own_port(facts, !examined.host.start, where, findings);
    }
    if (drops > 0)
        findings.add(FindingKind::drops, Severity::note, where,
                     fmt::format("{} datagram{} found the receive queue full so far", drops,
                                 drops == 1 ? "" : "s"),
                     "bursts are larger than the buffer, or the CPUs are too busy",
                     "a larger receive_buffer (and net.core.rmem_max), or more shards");
}

void check_buffer(const ExaminedProxy& examined, const char* key, std::uint64_t asked,
                  const std::optional<std::uint64_t>& granted_max, const char* sysctl,
                  Findings& findings) {
    if (!granted_max) return;
    const std::string where = fmt::format("{}: {}", examined.label(), key);
    const std::string looked_at =
        fmt::format("{} asked, {} is {}", format_size(asked), sysctl, *granted_max);
    const std::string fix = fmt::format("sysctl -w {}={}", sysctl, asked);
    if (asked <= *granted_max)
        findings.ok(FindingKind::buffers, where, looked_at);
    else if (examined.host.may_administer_network)
        findings.add(
            FindingKind::buffers, Severity::note, where, looked_at,
            "granted to processes with CAP_NET_ADMIN such as this one; the service may lack it",
            fix);
    else
        findings.add(FindingKind::buffers, Severity::problem, where, looked_at,
                     "the listeners get less than was asked for and lose bursts", fix);
}

}  // namespace

void check_receive_buffer(const ExaminedProxy& examined, Findings& findings) {
    check_buffer(examined, "receive_buffer", examined.config.receive_buffer_bytes,
                 examined.host.rmem_max, "net.core.rmem_max", findings);
}

void check_send_buffer(const ExaminedProxy& examined, Findings& findings) {
    check_buffer(examined, "send_buffer", examined.config.send_buffer_bytes, examined.host.wmem_max,
                 "net.core.wmem_max", findings);
}

void check_listeners(const ExaminedProxy& examined, Findings& findings) {
    for (std::size_t i = 0; i < examined.config.listen.size() && i < examined.facts.listen.size();
         ++i) {
        const std::string where =
            fmt::format("{}: listen {}", examined.label(), examined.config.listen[i].shown());
        check_address(examined, i, where, findings);
        check_port(examined, i, where, findings);
    }
    check_receive_buffer(examined, findings);
    check_send_buffer(examined, findings);
}

}  // namespace udpproxy
