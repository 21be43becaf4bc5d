// Where clients write to: addresses, ports and socket buffers.
#include <fmt/format.h>

#include <algorithm>

#include "findings.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

constexpr std::string_view own_name = "udpproxy";

void look_at_address(const Patient& patient, std::size_t index, const std::string& where, Findings& findings) {
    const ListenFacts& facts = patient.facts.listen[index];
    const Address& address = patient.config.listen[index].endpoint.address;
    if (address.is_unspecified()) {
        findings.ok(FindingKind::listen_address, where, "every address of this host");
    } else if (facts.is_here) {
        findings.ok(FindingKind::listen_address, where,
                    facts.interface_index == 0 ? "is on this host" : "is on " + patient.host.interface_name(facts.interface_index));
    } else {
        findings.add(FindingKind::listen_address, Severity::problem, where, "is not an address of this host",
                     "no client reaches it here (as it should be on a standby)",
                     fmt::format("{} addr add {} dev INTERFACE", address.is_ipv4() ? "ip" : "ip -6", format(address)));
    }
}

void look_at_port(const Patient& patient, std::size_t index, const std::string& where, Findings& findings) {
    const ListenFacts& facts = patient.facts.listen[index];
    const std::uint16_t port = patient.config.listen[index].endpoint.port;
    const auto foreign = std::find_if(facts.sockets.begin(), facts.sockets.end(),
                                      [](const BoundSocket& each) { return !each.holder.empty() && each.holder != own_name; });
    const auto hidden =
        std::find_if(facts.sockets.begin(), facts.sockets.end(), [](const BoundSocket& each) { return each.holder.empty(); });
    std::uint64_t drops = 0;
    for (const BoundSocket& socket : facts.sockets) drops += socket.drops;
    if (foreign != facts.sockets.end()) {
        findings.add(FindingKind::listen_port, Severity::problem, where,
                     fmt::format("is held by {} ({})", foreign->holder, format(foreign->local)), "the start fails: address already in use",
                     fmt::format("stop {}, or listen on another address or port", foreign->holder));
    } else if (port < patient.host.unprivileged_port_start && !patient.host.may_bind_low_ports) {
        findings.add(
            FindingKind::listen_port, Severity::problem, where,
            fmt::format("ports below {} need CAP_NET_BIND_SERVICE, which this process has not", patient.host.unprivileged_port_start),
            "the start fails: permission denied",
            fmt::format("AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or sysctl -w net.ipv4.ip_unprivileged_port_start={}", port));
    } else if (facts.sockets.empty()) {
        findings.ok(FindingKind::listen_port, where, "nobody holds it: the program does not run now, or in another network namespace");
    } else if (hidden != facts.sockets.end()) {
        // Also so for ours: with io_uring its sockets are files of the ring.
        findings.ok(FindingKind::listen_port, where, "is held by a program that cannot be seen from here");
    } else {
        findings.ok(FindingKind::listen_port, where, "is held by udpproxy");
    }
    if (drops > 0)
        findings.add(FindingKind::drops, Severity::note, where, fmt::format("{} datagrams found the receive queue full so far", drops),
                     "bursts are larger than the buffer, or the CPUs are too busy",
                     "a larger receive_buffer (and net.core.rmem_max), or more shards");
}

void look_at_buffer(const Patient& patient, const char* key, std::uint64_t asked, const std::optional<std::uint64_t>& granted_max,
                    const char* sysctl, Findings& findings) {
    if (!granted_max) return;
    const std::string where = fmt::format("{}: {}", patient.label(), key);
    const std::string looked_at = fmt::format("{} asked, {} is {}", format_size(asked), sysctl, *granted_max);
    const std::string mend = fmt::format("sysctl -w {}={}", sysctl, asked);
    if (asked <= *granted_max)
        findings.ok(FindingKind::buffers, where, looked_at);
    else if (patient.host.may_administer_network)
        findings.add(FindingKind::buffers, Severity::note, where, looked_at,
                     "granted to who has CAP_NET_ADMIN, as this process does; the service may not", mend);
    else
        findings.add(FindingKind::buffers, Severity::problem, where, looked_at, "the listeners get less than was asked for and lose bursts",
                     mend);
}

}  // namespace

void look_at_listeners(const Patient& patient, Findings& findings) {
    for (std::size_t i = 0; i < patient.config.listen.size() && i < patient.facts.listen.size(); ++i) {
        const std::string where = fmt::format("{}: listen {}", patient.label(), format(patient.config.listen[i].endpoint));
        look_at_address(patient, i, where, findings);
        look_at_port(patient, i, where, findings);
    }
    look_at_buffer(patient, "receive_buffer", patient.config.receive_buffer_bytes, patient.host.rmem_max, "net.core.rmem_max", findings);
    look_at_buffer(patient, "send_buffer", patient.config.send_buffer_bytes, patient.host.wmem_max, "net.core.wmem_max", findings);
}

}  // namespace udpproxy
