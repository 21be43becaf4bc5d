// The doctor: why replies may not come, in plain words. diagnose() is a pure function of the
// configuration and of HostFacts; what is sent to anybody is sent by probe() alone, and only when
// asked for. Called by main (--doctor) and by udpproxyctl.
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

/// In the order in which a request and its replies meet them, then the host.
enum class FindingKind : std::uint8_t {
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
    probe,
    conntrack,
    drops,
    buffers,
    ports,
    descriptors,
    engine,
    unseen,
};

/// One kind of finding. The list is written once, in the order of FindingKind;
/// docs/troubleshooting.md is tested against it.
struct FindingName {
    std::string_view name;      // as it is printed
    std::string_view looks_at;  // what is looked at
    std::string_view matters;   // why it can keep replies away
};
[[nodiscard]] const std::vector<FindingName>& finding_names();

struct Finding {
    FindingKind kind = FindingKind::name;
    Severity severity = Severity::ok;
    std::string where;      // `proxy "dns": alias 10.0.0.253:53`, or `host`
    std::string looked_at;  // what was found
    std::string meaning;    // what follows from it
    std::string
        fix;  // a command, or a line of the configuration; empty when there is nothing to mend
};

/// Looks at this host as the proxy of this configuration would meet it. Resolves names; may block
/// for as long as the resolver does.
[[nodiscard]] HostFacts collect_host_facts(const Config& config, bool resolves_names = true);

[[nodiscard]] std::vector<Finding> diagnose(const Config& config, const HostFacts& facts);

/// What a probe heard: a payload sent once to the upstream, from a socket that hears everybody.
struct ProbeAnswer {
    Endpoint from;
    std::uint64_t bytes = 0;
};
struct ProbeOutcome {
    Endpoint local;
    int send_error = 0;  // errno; 0: it was sent
    int icmp_error = 0;  // errno that an ICMP message stands for; 0: none came
    Endpoint icmp_from;  // who sent that message
    std::vector<ProbeAnswer> answers;
};
/// Sends, and listens for `patience` at most; once somebody answered, for a moment longer. Errors:
/// no socket could be opened or bound.
[[nodiscard]] Result<ProbeOutcome> probe(const ProxyConfig& config, const Endpoint& upstream,
                                         const std::vector<std::uint8_t>& payload,
                                         Duration patience);
/// What the answers mean: listed, the upstream's own, or unlisted with the line to add.
[[nodiscard]] std::vector<Finding> findings_of(const ProxyConfig& config, const Endpoint& upstream,
                                               const ProbeOutcome& outcome);

/// One line per finding.
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
    bool resolves_names = true;  // waits for the resolver, up to half a minute; false: an upstream
                                 // without an address has none
};
/// Looks; with a probe, sends. Errors: a request that makes no sense.
[[nodiscard]] Result<std::vector<Finding>> examine(const Config& config,
                                                   const DoctorRequest& request);

}  // namespace udpproxy
