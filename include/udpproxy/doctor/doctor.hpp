// The doctor: diagnoses missing replies. diagnose() is a pure function of the configuration and of
// HostFacts. Only probe() sends a datagram, and only on request. Called by main (--doctor) and by
// the admin thread for udpproxyctl.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/json_text.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/host/facts.hpp"

namespace udpproxy {

enum class Severity : std::uint8_t { ok, note, problem };

/// First what the running program sees. Then in the order in which a request and its replies meet
/// their subjects, then the host.
enum class FindingKind : std::uint8_t {
    traffic,
    name,
    source,
    route,
    own_address,
    neighbour,
    reverse_path,
    packet_filter,
    translation,
    mtu,
    listen_address,
    listen_port,
    admin,
    log_file,
    probe,
    conntrack,
    drops,
    buffers,
    receive_offload,
    ports,
    descriptors,
    udp_table,
    engine,
    unseen,
};

/// One kind of finding. The list is written once, in the order of FindingKind;
/// docs/troubleshooting.md is tested against it.
struct FindingName {
    std::string_view name;      // as it is printed
    std::string_view looks_at;  // what is examined
    std::string_view matters;   // why it can keep replies away
};
[[nodiscard]] const std::vector<FindingName>& finding_names();

/// What a finding means for a start that is still to come.
enum class StartEffect : std::uint8_t {
    none,
    warns,  // it fails, or serves fewer, unless what was found changes before
    fails,
};

struct Finding {
    FindingKind kind = FindingKind::name;
    Severity severity = Severity::ok;
    std::string where;      // `proxy "dns": alias 10.0.0.253:53`, or `host`
    std::string looked_at;  // what was found
    std::string meaning;    // what follows from it
    std::string fix;        // a command or a line of the configuration; empty: nothing to fix
    StartEffect at_start = StartEffect::none;
};

[[nodiscard]] std::vector<Finding> diagnose(const Config& config, const HostFacts& facts);

/// A probe sends one payload to the upstream, from a socket that receives from every source.
struct ProbeAnswer {
    Endpoint from;
    std::uint64_t bytes = 0;
};
struct ProbeOutcome {
    Endpoint local;
    int send_error = 0;  // errno; 0: it was sent
    int icmp_error = 0;  // errno of an ICMP message; 0: none came
    Endpoint icmp_from;  // the sender of that message
    std::vector<ProbeAnswer> answers;
};
/// Sends the payload and receives for at most `time_limit`, after the first answer for at most half
/// a second more. Errors: no socket could be opened or bound.
[[nodiscard]] Result<ProbeOutcome> probe(const ProxyConfig& config, const Endpoint& upstream,
                                         const std::vector<std::uint8_t>& payload,
                                         Duration time_limit);
/// Findings about the sources that answered: the upstream, an alias, or unlisted with the line to
/// add.
[[nodiscard]] std::vector<Finding> findings_of(const ProxyConfig& config, const Endpoint& upstream,
                                               const ProbeOutcome& outcome);

/// One line per finding, problems first. Checks that found nothing wrong share a line that names
/// their kinds.
[[nodiscard]] std::string findings_text(const std::vector<Finding>& findings);
/// `{"findings": [{"severity", "finding", "where", "looked_at", "meaning", "fix"}], "problems": 1,
/// "notes": 2}`
[[nodiscard]] std::string findings_json(const std::vector<Finding>& findings);
/// The same as members of the object that is being written.
void write_findings(JsonText& json, const std::vector<Finding>& findings);
[[nodiscard]] bool has_problem(const std::vector<Finding>& findings);

/// What the command line asks of the doctor.
struct DoctorRequest {
    bool json = false;
    bool with_probe = false;
    std::string probe_payload;   // hexadecimal
    std::string probe_proxy;     // empty: the only one
    bool resolves_names = true;  // may wait half a minute for answers; false: a name counts as
                                 // unresolved
    // The descriptors that the tables of the running program were made for; absent: it does not
    // run, and address space is tried out.
    std::optional<std::uint64_t> descriptors_fitting;
    // What would start has the sockets of the program that serves: nobody else can hold them, and
    // to look for their holders would cost that program time.
    bool goes_on = false;
};
/// Collects the facts about this host that concern the configuration. Resolving names may block for
/// half a minute.
[[nodiscard]] HostFacts collect_host_facts(const Config& config, const DoctorRequest& request = {});

/// Collects facts, diagnoses them, and probes if asked to. Errors: an invalid request.
[[nodiscard]] Result<std::vector<Finding>> examine(const Config& config,
                                                   const DoctorRequest& request);

/// The findings that stop a start here or make it warn, without those of compute_capacity(). Equal
/// ones of several listeners are one. Sends nothing, listens on nothing. `goes_on`: as in
/// DoctorRequest.
[[nodiscard]] std::vector<Finding> examine_start(const Config& config, bool goes_on);
/// What is set up badly on this machine for a program that has started: at most one finding by
/// setting. Needs some milliseconds; what cannot be looked at is left out.
[[nodiscard]] std::vector<Finding> examine_machine(const Config& config,
                                                   std::uint64_t descriptors_fitting);
[[nodiscard]] std::string_view name_of(FindingKind kind);
/// `proxy "dns": listen 10.1.0.1:53: what was found; what it means; fix: a command`
[[nodiscard]] std::string text_of(const Finding& finding);

}  // namespace udpproxy
