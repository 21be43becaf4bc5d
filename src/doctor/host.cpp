// Checks of the host as a whole: conntrack, drop counters, the engine, and facts that could not be
// read.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "findings.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

void check_conntrack(const Config& config, const HostFacts& facts, Findings& findings) {
    const ConntrackFacts& conntrack = facts.conntrack;
    if (!conntrack.is_loaded)
        return findings.ok(FindingKind::conntrack, "host", "nf_conntrack is not loaded");
    const std::uint64_t entries = conntrack.entries.value_or(0);
    const std::uint64_t most = conntrack.entries_max.value_or(0);
    const std::string looked_at = fmt::format("{} of {} flows", entries, most);
    const std::string fix = fmt::format(
        "sysctl -w net.netfilter.nf_conntrack_max={}, or exclude the proxy's datagrams with "
        "notrack",
        std::max<std::uint64_t>(2 * most, 262144));
    if (most > 0 && entries >= most - most / 100)
        findings.add(FindingKind::conntrack, Severity::problem, "host", looked_at,
                     "the table is full: datagrams of new clients and sessions are dropped", fix);
    else if (most > 0 && entries >= most - most / 5)
        findings.add(FindingKind::conntrack, Severity::note, "host", looked_at,
                     "once it is full, datagrams of new clients and sessions are dropped", fix);
    else
        findings.ok(FindingKind::conntrack, "host", looked_at,
                    entries == 0 ? "nothing is tracked here" : "");
    if (entries == 0 || !conntrack.udp_stream_timeout_s) return;
    Duration longest{};
    for (const ProxyConfig& proxy : config.proxies) longest = std::max(longest, proxy.idle_timeout);
    const std::uint64_t seconds = *conntrack.udp_stream_timeout_s;
    const auto longest_s = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(longest).count());
    if (seconds < longest_s)
        findings.add(
            FindingKind::conntrack, Severity::note, "host",
            fmt::format("UDP flows are forgotten after {} s, sessions last {} idle", seconds,
                        format_duration(longest)),
            "to a stateful filter what comes later is new",
            fmt::format("sysctl -w net.netfilter.nf_conntrack_udp_timeout_stream={}", longest_s));
}

void check_legacy_tables(const HostFacts& facts, Findings& findings) {
    for (const std::string& table : facts.legacy_tables)
        findings.add(
            FindingKind::packet_filter, Severity::note, "host",
            table + " has rules that the doctor cannot read", "they may drop requests or replies",
            fmt::format("{} -t {} -vnL shows what they dropped", table.substr(0, table.find(' ')),
                        table.substr(table.find(' ') + 1)));
}

void check_drops(const HostFacts& facts, Findings& findings) {
    struct Drop {
        std::optional<std::uint64_t> count;
        const char* what = nullptr;
        const char* meaning = nullptr;
        const char* fix = nullptr;
    };
    const Drop drops[] = {
        {facts.drops.reverse_path, "refused for rp_filter (IPReversePathFilter)",
         "some datagrams arrive on an interface other than that of the route back",
         "nstat -az TcpExtIPReversePathFilter while asking, then "
         "net.ipv4.conf.INTERFACE.rp_filter=2"},
        {facts.drops.receive_buffer, "found a receive queue full (RcvbufErrors)",
         "bursts are larger than some socket's buffer",
         "ss -uamp shows whose (d in skmem); a larger receive_buffer for ours"},
        {facts.drops.send_buffer, "found a send queue full (SndbufErrors)",
         "replies were larger than the link took", "a larger send_buffer"},
        {facts.drops.checksum, "had a wrong checksum (InCsumErrors)",
         "a device on the way damages or miscalculates them",
         "ethtool -K INTERFACE rx off tx off, on both ends, to see which"},
    };
    bool is_known = false;
    bool is_well = true;
    for (const Drop& drop : drops) {
        is_known = is_known || drop.count.has_value();
        if (drop.count.value_or(0) == 0) continue;
        is_well = false;
        findings.add(
            FindingKind::drops, Severity::note, "host",
            fmt::format("{} UDP datagrams of all programs {} so far", *drop.count, drop.what),
            drop.meaning, drop.fix);
    }
    if (is_known && is_well)
        findings.ok(FindingKind::drops, "host",
                    "no datagram was dropped for a full queue, a checksum or rp_filter");
}

/// What forbids io_uring, as far as the host shows it.
std::string forbidden_by(const HostFacts& facts) {
    if (facts.io_uring_disabled.value_or(0) != 0)
        return fmt::format("the sysctl kernel.io_uring_disabled is {}", *facts.io_uring_disabled);
    if (facts.io_uring.error == ENOSYS || facts.io_uring.error == EINVAL)
        return fmt::format("Linux {} is too old, or built without it", facts.kernel);
    if (facts.has_seccomp_filter)
        return "a seccomp filter (a container's profile, SystemCallFilter= of the unit)";
    return "a security module, or a limit of memory";
}

std::string allowed_by(const HostFacts& facts) {
    if (facts.io_uring_disabled.value_or(0) != 0) return "sysctl -w kernel.io_uring_disabled=0";
    if (facts.has_seccomp_filter)
        return "a seccomp profile with io_uring_setup, io_uring_enter and io_uring_register (@aio)";
    return "runtime.engine = \"epoll\"";
}

}  // namespace

void check_engine(const Config& config, const HostFacts& facts, Findings& findings) {
    if (config.engine == EngineChoice::epoll)
        return findings.ok(FindingKind::engine, "host",
                           "runtime.engine is \"epoll\", which every kernel has");
    if (facts.io_uring.usable)
        return findings.ok(FindingKind::engine, "host",
                           "io_uring may be used: " + facts.io_uring.reason);
    const std::string looked_at =
        fmt::format("io_uring is refused to user {} ({}) by {}", facts.user, facts.io_uring.reason,
                    forbidden_by(facts));
    if (config.engine == EngineChoice::io_uring)
        findings
            .add(FindingKind::engine, Severity::problem, "host", looked_at,
                 "runtime.engine = \"io_uring\" requires it: the program does not start",
                 allowed_by(facts) + ", or runtime.engine = \"auto\"")
            .at_start = StartEffect::fails;
    else
        findings.add(FindingKind::engine, Severity::note, "host", looked_at,
                     "epoll does the same work with more CPU; this does not cause missing replies",
                     allowed_by(facts));
}

void check_host(const Config& config, const HostFacts& facts, Findings& findings) {
    check_legacy_tables(facts, findings);
    check_conntrack(config, facts, findings);
    check_drops(facts, findings);
    check_engine(config, facts, findings);
    for (const Unseen& unseen : facts.unseen)
        findings.add(FindingKind::unseen, Severity::note, "host",
                     fmt::format("{} could not be examined: {}", unseen.what, unseen.why),
                     "the cause may be there", unseen.fix);
}

}  // namespace udpproxy
