// Advice at a start: what the machine's settings cost this program, though it runs. The checks are
// the doctor's, so that the start and the doctor say the same; here they are chosen, and made one
// line by subject.
#include <fmt/format.h>

#include <algorithm>

#include "findings.hpp"
#include "udpproxy/host/procfs.hpp"
#include "udpproxy/host/receive_offload.hpp"

namespace udpproxy {

namespace {

/// A mean chain of more sockets costs more than the rest of a datagram's way up.
constexpr double chain_max = 10;
/// The kernel makes no more of them (net/ipv4/udp.c: udp_table_init).
constexpr std::uint64_t buckets_max = 65536;

bool is_advice(const Finding& finding) {
    switch (finding.kind) {
        case FindingKind::buffers:
            return finding.severity == Severity::problem;  // a note: this process gets them
        case FindingKind::receive_offload:
        case FindingKind::ports:
        case FindingKind::udp_table:
            return finding.severity != Severity::ok;
        default:
            return false;
    }
}

/// The proxy that asks for the largest buffer speaks for all.
void check_largest(const Config& config, const HostFacts& facts, std::uint64_t ProxyConfig::*bytes,
                   void (*check)(const ExaminedProxy&, Findings&), Findings& findings) {
    const auto largest = std::max_element(
        config.proxies.begin(), config.proxies.end(),
        [&](const ProxyConfig& one, const ProxyConfig& two) { return one.*bytes < two.*bytes; });
    const ProxyFacts none;
    check({*largest, none, facts}, findings);
}

}  // namespace

void check_receive_offload(const Config& config, const HostFacts& facts, Findings& findings) {
    if (std::all_of(config.proxies.begin(), config.proxies.end(),
                    [](const ProxyConfig& proxy) { return proxy.offload == Offload::off; }))
        return;
    std::vector<std::string> with;
    std::vector<std::string> without;
    std::vector<std::string> commands;
    for (const InterfaceFacts& interface : facts.interfaces) {
        if (!interface.has_receive_offload || !interface.is_up || interface.addresses.empty())
            continue;
        (*interface.has_receive_offload ? with : without).push_back(interface.name);
        if (!*interface.has_receive_offload)
            commands.push_back(fmt::format("ethtool -K {} gro on", interface.name));
    }
    if (!without.empty())
        findings.add(FindingKind::receive_offload, Severity::note, "host",
                     fmt::format("generic-receive-offload is off on {}, should be on",
                                 fmt::join(without, " and ")),
                     "the kernel hands up each datagram by itself, with more CPU for it",
                     fmt::format("{}", fmt::join(commands, ", ")));
    else if (!with.empty())
        findings.ok(FindingKind::receive_offload, "host",
                    fmt::format("generic-receive-offload is on on {}", fmt::join(with, " and ")));
}

void check_udp_table(const HostFacts& facts, std::uint64_t sockets, Findings& findings) {
    if (!facts.udp_buckets || *facts.udp_buckets == 0) return;
    const std::uint64_t buckets = *facts.udp_buckets;
    const double chain = static_cast<double>(sockets) / static_cast<double>(buckets);
    const std::string looked_at = fmt::format(
        "{} sockets of sessions at most, cooling ones included, in {} buckets of the "
        "kernel's UDP hash table",
        sockets, buckets);
    if (chain <= chain_max || buckets >= buckets_max)
        return findings.ok(FindingKind::udp_table, "host", looked_at);
    std::uint64_t wanted = buckets;
    while (wanted < buckets_max && wanted * 2 < sockets) wanted *= 2;
    findings.add(FindingKind::udp_table, Severity::note, "host", looked_at,
                 fmt::format("the kernel searches {:.0f} of them for each datagram", chain),
                 fmt::format("uhash_entries={} on the kernel's command line, or for a network "
                             "namespace, before it is made, sysctl -w "
                             "net.ipv4.udp_child_hash_entries={}",
                             wanted, wanted));
}

std::vector<Finding> diagnose_machine(const Config& config, const HostFacts& facts) {
    Findings findings;
    check_largest(config, facts, &ProxyConfig::receive_buffer_bytes, check_receive_buffer,
                  findings);
    check_largest(config, facts, &ProxyConfig::send_buffer_bytes, check_send_buffer, findings);
    check_receive_offload(config, facts, findings);
    check_capacity(config, facts, findings);
    std::vector<Finding> told;
    std::size_t more = 0;  // proxies whose ports others may take
    for (Finding& finding : findings.list) {
        if (!is_advice(finding)) continue;
        const bool is_told = finding.kind == FindingKind::ports && !told.empty() &&
                             told.back().kind == FindingKind::ports;
        if (is_told)
            ++more;
        else
            told.push_back(std::move(finding));
    }
    for (Finding& finding : told)
        if (finding.kind == FindingKind::ports && more > 0)
            finding.where += fmt::format(" and {} more", more);
    return told;
}

}  // namespace udpproxy
