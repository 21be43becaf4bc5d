// The list of finding kinds, the order of the checks, and findings as text and JSON. The checks
// themselves are in the other files of this room.
#include "udpproxy/doctor/doctor.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "findings.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

constexpr Duration probe_time_limit = std::chrono::seconds{2};
constexpr std::size_t payload_bytes_max = 65507;

const char* name_of(Severity severity) {
    return severity == Severity::ok ? "ok" : severity == Severity::note ? "note" : "problem";
}
std::size_t count(const std::vector<Finding>& findings, Severity severity) {
    return static_cast<std::size_t>(
        std::count_if(findings.begin(), findings.end(),
                      [&](const Finding& each) { return each.severity == severity; }));
}

std::optional<unsigned> digit_of(char letter) {
    if (letter >= '0' && letter <= '9') return static_cast<unsigned>(letter - '0');
    const char lower = static_cast<char>(letter | 0x20);
    if (lower >= 'a' && lower <= 'f') return static_cast<unsigned>(lower - 'a') + 10;
    return std::nullopt;
}

Result<std::vector<std::uint8_t>> parse_payload(std::string_view text) {
    if (text.size() % 2 != 0)
        return Error{"--probe: an odd number of hexadecimal digits; two stand for one byte"};
    if (text.size() / 2 > payload_bytes_max)
        return Error{fmt::format("--probe: {} bytes; a datagram holds {} at most", text.size() / 2,
                                 payload_bytes_max)};
    std::vector<std::uint8_t> bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const auto high = digit_of(text[i]);
        const auto low = digit_of(text[i + 1]);
        if (!high || !low)
            return Error{
                fmt::format("--probe: digit {} is not hexadecimal; write bytes as in \"00ff17\"",
                            high ? i + 2 : i + 1)};
        bytes.push_back(static_cast<std::uint8_t>(*high << 4 | *low));
    }
    return bytes;
}

/// The index of the proxy that is probed.
Result<std::size_t> proxy_to_probe(const Config& config, const std::string& name) {
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < config.proxies.size(); ++i) {
        if (config.proxies[i].name == name || (name.empty() && config.proxies.size() == 1))
            return i;
        names.push_back(config.proxies[i].name);
    }
    if (name.empty())
        return Error{"--probe: several proxies; choose one with --probe-proxy: " +
                     listed({names.begin(), names.end()}, "or")};
    return Error{"--probe-proxy: " + unknown_word("proxy", name, names)};
}

}  // namespace

std::string_view name_of(FindingKind kind) {
    return finding_names()[static_cast<std::size_t>(kind)].name;
}

const std::vector<FindingName>& finding_names() {
    static const std::vector<FindingName> names{
        {"traffic", "`udpproxyctl doctor`: what is wrong by the last minute of the traffic",
         "It is what clients and the service see now; the other findings say why."},
        {"name", "whether the upstream's name is resolved",
         "Without an address nothing is forwarded; the name is asked for again until it has one."},
        {"source", "whether the configured `source` addresses are on this host",
         "A socket cannot be bound to an address that is not here."},
        {"route", "the route, the source address and the interface to the upstream and each alias",
         "Without a route no request leaves, and an alias without one is not connected to."},
        {"own_address", "whether the upstream or an alias is an address of this host",
         "Requests to an address of this host never leave it, and the kernel drops datagrams that "
         "come from the network with such a source."},
        {"neighbour", "whether the next hop answers ARP or neighbour discovery",
         "A silent next hop loses everything, without any error."},
        {"reverse_path", "whether the kernel would take a reply from each of them (`rp_filter`)",
         "With strict filtering a reply that comes in by another interface than the route back is "
         "dropped before any socket sees it."},
        {"packet_filter",
         "what nftables and iptables-nft rules do to clients' datagrams, requests and replies",
         "A stateful firewall knows the flow to the upstream only: what an alias answers is new to "
         "it."},
        {"translation", "whether rules translate the source of requests",
         "Behind a translated source replies of aliases find no flow to be translated back by."},
        {"mtu", "the MTU towards the upstream against the one on the listeners' side",
         "Larger datagrams are fragmented, and the first one is lost until the kernel has learned "
         "the path's MTU."},
        {"listen_address", "whether the listen addresses are on this host",
         "No client reaches an address that is not here; it is served as soon as it is."},
        {"listen_port", "who holds the listen ports, and whether the program may bind them",
         "Where another program holds the port, clients talk to that one, or the start fails."},
        {"admin",
         "whether the start can open `admin.socket` and `admin.listen`, and knows "
         "`admin.group`",
         "The program does not start without an admin socket that is configured."},
        {"log_file", "whether the start can open `log.file`",
         "The program does not start without."},
        {"probe", "from where the answer to `--probe` came",
         "It is the only proof; what is not listed never reaches a client."},
        {"conntrack", "how full the kernel's table of flows is, and how long it remembers UDP",
         "A full table drops what is new; a flow forgotten before the session ends is new again."},
        {"drops", "datagrams that the kernel has dropped so far",
         "They explain what is missing: full receive queues, wrong checksums, refused reverse "
         "paths."},
        {"buffers", "`receive_buffer` and `send_buffer` against `net.core.rmem_max` and `wmem_max`",
         "Small buffers lose bursts, and one client that has vanished can hold up the replies to "
         "all others."},
        {"receive_offload", "whether GRO (`generic-receive-offload`) is on for network devices",
         "Without it the kernel hands up each datagram by itself, with more CPU for it."},
        {"ports", "the local ports against `sessions_max`, and who else may use them",
         "A session has a port of its own; without a free one a new client is refused."},
        {"descriptors", "the limits of open files against `sessions_max`",
         "A session has a descriptor per member of its group."},
        {"udp_table",
         "the sockets of all sessions against the buckets of the kernel's UDP hash table",
         "The kernel searches a bucket's sockets for each datagram."},
        {"engine", "whether io_uring may be used, and what forbids it",
         "With `engine = \"io_uring\"` the program does not start without it; else epoll does the "
         "same work."},
        {"unseen", "what could not be examined, and why", "The cause may be there."},
    };
    return names;
}

std::vector<Finding> diagnose(const Config& config, const HostFacts& facts) {
    Findings findings;
    for (std::size_t i = 0; i < config.proxies.size() && i < facts.proxies.size(); ++i) {
        const ExaminedProxy examined{config.proxies[i], facts.proxies[i], facts};
        check_paths(examined, findings);
        check_filters(examined, findings);
        check_listeners(examined, findings);
    }
    check_start(config, facts, findings);
    check_receive_offload(config, facts, findings);
    check_capacity(config, facts, findings);
    check_host(config, facts, findings);
    return std::move(findings.list);
}

std::string text_of(const Finding& finding) {
    std::string text = finding.where + ": " + finding.looked_at;
    if (!finding.meaning.empty()) text += "; " + finding.meaning;
    if (!finding.fix.empty()) text += "; fix: " + finding.fix;
    return text;
}

std::string findings_text(const std::vector<Finding>& findings) {
    std::string text;
    std::vector<std::string_view> fine;
    std::vector<Finding> shown;
    for (const Finding& finding : findings) {
        if (finding.severity != Severity::ok)
            shown.push_back(finding);
        else if (std::find(fine.begin(), fine.end(), name_of(finding.kind)) == fine.end())
            fine.push_back(name_of(finding.kind));
    }
    std::stable_sort(shown.begin(), shown.end(), [](const Finding& one, const Finding& other) {
        return one.severity > other.severity;
    });
    for (const Finding& finding : shown) {
        const std::string line = fmt::format("{:7} {}: {}", name_of(finding.severity),
                                             name_of(finding.kind), text_of(finding));
        // Names of interfaces, programs, tables and chains are whatever bytes somebody chose.
        text += printable(line) + '\n';
    }
    if (!fine.empty())
        text += fmt::format("ok      {} checks (--json lists them): {}\n",
                            count(findings, Severity::ok), fmt::join(fine, ", "));
    const std::size_t problems = count(findings, Severity::problem);
    const std::size_t notes = count(findings, Severity::note);
    return text + fmt::format("{} problem{}, {} note{}\n", problems, problems == 1 ? "" : "s",
                              notes, notes == 1 ? "" : "s");
}

std::string findings_json(const std::vector<Finding>& findings) {
    JsonText json;
    json.begin_object();
    write_findings(json, findings);
    return json.end_object().take();
}

void write_findings(JsonText& json, const std::vector<Finding>& findings) {
    json.key("findings").begin_array();
    for (const Finding& finding : findings) {
        json.begin_object();
        json.member("severity", name_of(finding.severity));
        json.member("finding", name_of(finding.kind));
        json.member("where", finding.where);
        json.member("looked_at", finding.looked_at);
        json.member("meaning", finding.meaning);
        json.member("fix", finding.fix);
        json.end_object();
    }
    json.end_array();
    json.member("problems", count(findings, Severity::problem));
    json.member("notes", count(findings, Severity::note));
}

bool has_problem(const std::vector<Finding>& findings) {
    return count(findings, Severity::problem) > 0;
}

Result<std::vector<Finding>> examine(const Config& config, const DoctorRequest& request) {
    std::vector<std::uint8_t> payload;
    std::size_t probed = 0;
    if (request.with_probe) {
        const auto bytes = parse_payload(request.probe_payload);
        if (!bytes) return bytes.error();
        const auto index = proxy_to_probe(config, request.probe_proxy);
        if (!index) return index.error();
        payload = *bytes;
        probed = *index;
    }
    const HostFacts facts = collect_host_facts(config, request);
    std::vector<Finding> findings = diagnose(config, facts);
    if (request.with_probe && facts.proxies[probed].upstream) {
        const ProxyConfig& proxy = config.proxies[probed];
        const Endpoint& upstream = *facts.proxies[probed].upstream;
        const auto outcome = probe(proxy, upstream, payload, probe_time_limit);
        const std::vector<Finding> heard =
            outcome ? findings_of(proxy, upstream, *outcome)
                    : std::vector<Finding>{{FindingKind::probe,
                                            Severity::problem,
                                            "proxy \"" + proxy.name + '"',
                                            outcome.error().message,
                                            "nothing was sent",
                                            {}}};
        findings.insert(findings.end(), heard.begin(), heard.end());
    }
    return findings;
}

}  // namespace udpproxy
