// Whether ports and descriptors suffice for the sessions, by the arithmetic of the start.
#include <fmt/format.h>

#include <algorithm>

#include "findings.hpp"
#include "udpproxy/config/capacity.hpp"

namespace udpproxy {

namespace {

std::string text_of(const PortRange& range) {
    return range.first == range.last ? fmt::format("{}", range.first)
                                     : fmt::format("{}-{}", range.first, range.last);
}

bool overlap(const PortRange& one, const PortRange& other) {
    return one.first <= other.last && other.first <= one.last;
}

bool covers(const std::vector<PortRange>& list, const PortRange& range) {
    for (std::uint32_t port = range.first; port <= range.last; ++port) {
        const bool is_in = std::any_of(list.begin(), list.end(), [&](const PortRange& each) {
            return each.first <= port && port <= each.last;
        });
        if (!is_in) return false;
    }
    return true;
}

std::string wider_ports(const ProxyConfig& config) {
    return config.ports ? "a wider range in ports, or more addresses in source"
                        : "sysctl -w net.ipv4.ip_local_port_range=\"10240 60999\", a range in "
                          "ports, or more addresses in source";
}

/// Whether there are enough ports for what is configured; tells it when not.
bool check_number_of_ports(const ProxyConfig& config, const ProxyCapacity& capacity,
                           const HostFacts& facts, const std::string& where, Findings& findings) {
    const PortRange range = config.ports.value_or(facts.ephemeral);
    const std::size_t sources = std::max<std::size_t>(1, config.source.size());
    const std::string looked_at = fmt::format("{} ports ({}) of {} address{}", capacity.ports,
                                              text_of(range), sources, sources == 1 ? "" : "es");
    if (usable_ports(range, facts.reserved_ports) < facts.shards) {
        findings.add(FindingKind::ports, Severity::problem, where,
                     fmt::format("{} for {} shards", looked_at, facts.shards),
                     "each shard has ports of its own: the program does not start",
                     wider_ports(config));
        return false;
    }
    if (config.sessions_max && *config.sessions_max > capacity.ports) {
        findings.add(FindingKind::ports, Severity::problem, where,
                     fmt::format("{} for sessions_max = {}", looked_at, *config.sessions_max),
                     "a session has a port of its own: the program does not start",
                     wider_ports(config));
        return false;
    }
    if (!config.sessions_max && capacity.sessions_max == capacity.ports &&
        capacity.ports < few_sessions)
        findings.add(FindingKind::ports, Severity::note, where, looked_at,
                     fmt::format("{} clients at a time, and each port cools down after its session",
                                 capacity.ports),
                     wider_ports(config));
    else
        findings.ok(FindingKind::ports, where, looked_at);
    return true;
}

void check_other_users(const ProxyConfig& config, const HostFacts& facts, const std::string& where,
                       Findings& findings) {
    if (config.ports && overlap(*config.ports, facts.ephemeral)) {
        const PortRange common{std::max(config.ports->first, facts.ephemeral.first),
                               std::min(config.ports->last, facts.ephemeral.last)};
        if (!covers(facts.reserved_ports, common))
            findings.add(
                FindingKind::ports, Severity::note, where,
                fmt::format(
                    "ports {} are also handed out to other programs (net.ipv4.ip_local_port_range)",
                    text_of(common)),
                "what they hold no session gets, and a busy resolver may take many",
                fmt::format("sysctl -w net.ipv4.ip_local_reserved_ports={}", text_of(common)));
    }
}

/// False: there is no room for any tables, and sessions need not be counted.
bool check_address_space(const HostFacts& facts, Findings& findings) {
    const char* fix = "LimitAS= in the unit, or ulimit -v, or fewer shards";
    if (facts.descriptors_fitting == 0)
        findings.add(FindingKind::descriptors, Severity::problem, "host",
                     fmt::format("{}; not even the smallest tables fit", address_space_short),
                     "the program does not start", fix);
    else if (facts.descriptors_fitting < facts.descriptors_hard)
        findings.add(FindingKind::descriptors, Severity::note, "host",
                     fmt::format("{}; the tables for {} of {} descriptors fit", address_space_short,
                                 facts.descriptors_fitting, facts.descriptors_hard),
                     "the program uses no more descriptors, whatever a reload brings", fix);
    return facts.descriptors_fitting > 0;
}

void check_system_files(const HostFacts& facts, const Capacity& capacity, Findings& findings) {
    if (!facts.file_max || !facts.files_open) return;
    const std::uint64_t free = *facts.file_max - std::min(*facts.file_max, *facts.files_open);
    if (capacity.descriptors_max > free)
        findings.add(
            FindingKind::descriptors, Severity::note, "host",
            fmt::format("fs.file-max {} of which {} are open", *facts.file_max, *facts.files_open),
            fmt::format("sessions may want {} descriptors", capacity.descriptors_max),
            fmt::format("sysctl -w fs.file-max={}",
                        *facts.files_open + 2 * std::uint64_t{capacity.descriptors_max}));
}

}  // namespace

void check_capacity(const Config& config, const HostFacts& facts, Findings& findings) {
    const Capacity capacity = compute_capacity(
        config, {facts.descriptors_fitting, facts.shards, facts.ephemeral, facts.reserved_ports});
    bool has_ports = true;
    for (std::size_t i = 0; i < config.proxies.size(); ++i) {
        const std::string where = "proxy \"" + config.proxies[i].name + '"';
        has_ports =
            check_number_of_ports(config.proxies[i], capacity.proxies[i], facts, where, findings) &&
            has_ports;
        check_other_users(config.proxies[i], facts, where, findings);
    }
    if (!check_address_space(facts, findings)) return;
    const std::string limits =
        fmt::format("{} open files (soft {}, raised at start{})", facts.descriptors_hard,
                    facts.descriptors_soft,
                    facts.nr_open ? fmt::format("; fs.nr_open {}", *facts.nr_open) : "");
    // What is left of the complaints once ports are told is about descriptors.
    if (has_ports && !capacity.complaints.empty()) {
        for (const std::string& complaint : capacity.complaints)
            findings.add(FindingKind::descriptors, Severity::problem, "host", limits,
                         complaint + "; the program does not start",
                         fmt::format("{}, or a smaller sessions_max", more_descriptors));
    } else if (has_ports) {
        // Where address space is short, that is told already, and no limit of files would help.
        if (!capacity.want_of_descriptors.empty() &&
            facts.descriptors_fitting == facts.descriptors_hard)
            findings.add(FindingKind::descriptors, Severity::note, "host", limits,
                         capacity.want_of_descriptors, std::string{more_descriptors});
        else
            findings.ok(FindingKind::descriptors, "host", limits,
                        fmt::format("capacity for {} sessions", capacity.sessions_max));
    }
    check_system_files(facts, capacity, findings);
    check_udp_table(facts, capacity.descriptors_max, findings);
}

}  // namespace udpproxy
