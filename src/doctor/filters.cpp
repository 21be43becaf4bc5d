// What the packet filter does to the four datagrams of a session: the client's, the request, each
// reply, and what goes back to the client.
#include <fmt/format.h>

#include "findings.hpp"

namespace udpproxy {

namespace {

using Verdict = FilterOutcome::Verdict;

constexpr std::uint16_t client_port =
    50000;  // one of those that most systems give to clients stands for all

const std::vector<FilterHook> way_in{FilterHook::prerouting, FilterHook::input};
const std::vector<FilterHook> way_out{FilterHook::output, FilterHook::postrouting};

std::string chain_of(const FilterOutcome& outcome) {
    return outcome.by.substr(0, outcome.by.find(": "));
}

/// `ip saddr 10.0.0.253 udp sport 53`; no network stands for every address.
std::string match_of(const Endpoint& endpoint, const std::string& network,
                     const char* address_field, const char* port_field) {
    std::string match;
    if (!network.empty())
        match = fmt::format("{} {} {} ", endpoint.address.is_ipv4() ? "ip" : "ip6", address_field,
                            network);
    return match + (endpoint.port != 0 ? fmt::format("udp {} {}", port_field, endpoint.port)
                                       : std::string{"meta l4proto udp"});
}

/// A session's end towards the upstream. One of its ports stands for all of them.
Endpoint session_end(const ExaminedProxy& examined) {
    const PortRange ports = examined.config.ports.value_or(examined.host.ephemeral);
    return Endpoint{examined.facts.targets.front().route.source, 0,
                    static_cast<std::uint16_t>(ports.first + ports.ports() / 2)};
}

/// Adds what is not plain passing; false then.
bool tell(const FilterOutcome& outcome, const std::string& where, std::string_view what,
          std::string_view meaning, const std::string& match, Findings& findings) {
    if (outcome.verdict == Verdict::passes) return true;
    const bool is_sure = outcome.verdict == Verdict::is_dropped;
    findings.add(
        FindingKind::packet_filter, is_sure ? Severity::problem : Severity::note, where,
        fmt::format("{} {} by nftables, {}", what,
                    is_sure ? "are dropped"
                            : "may be dropped (it depends on what cannot be seen from here)",
                    outcome.by),
        std::string{meaning},
        fmt::format("nft insert rule {} {} accept", chain_of(outcome), match));
    return false;
}

bool check_clients(const ExaminedProxy& examined, Findings& findings) {
    bool is_well = true;
    for (std::size_t i = 0; i < examined.facts.listen.size(); ++i) {
        const Endpoint& listen = examined.config.listen[i].endpoint;
        const std::string network = listen.address.is_unspecified() ? "" : format(listen.address);
        FilteredDatagram datagram;
        datagram.from = Endpoint{Address::any(listen.family()), 0, client_port};
        datagram.to = listen;
        if (const std::uint32_t index = examined.facts.listen[i].interface_index; index != 0)
            datagram.interface_name = examined.host.interface_name(index);
        const std::string where = fmt::format("{}: listen {}", examined.label(), format(listen));
        is_well =
            tell(examined.host.filter.decide(way_in, datagram), where, "clients' datagrams",
                 "no client is heard", match_of(listen, network, "daddr", "dport"), findings) &&
            is_well;
        std::swap(datagram.from, datagram.to);
        datagram.is_of_known_flow = true;
        is_well = tell(examined.host.filter.decide(way_out, datagram), where,
                       "datagrams to clients", "no reply reaches a client",
                       match_of(listen, network, "saddr", "sport"), findings) &&
                  is_well;
    }
    return is_well;
}

bool check_requests(const ExaminedProxy& examined, Findings& findings) {
    const TargetFacts& upstream = examined.facts.targets.front();
    FilteredDatagram datagram;
    datagram.from = session_end(examined);
    datagram.to = upstream.endpoint;
    datagram.interface_name = examined.host.interface_name(upstream.route.interface_index);
    const FilterOutcome outcome = examined.host.filter.decide(way_out, datagram);
    if (outcome.may_be_translated && examined.facts.targets.size() > 1)
        findings.add(
            FindingKind::translation, Severity::note, examined.label(0),
            "the source of requests may be translated by nftables, " + outcome.translated_by,
            "a reply from an alias finds no flow to be translated back by",
            fmt::format("exclude what this host sends itself: nft insert rule {} {} accept",
                        outcome.translated_by.substr(0, outcome.translated_by.find(": ")),
                        match_of(upstream.endpoint, upstream.network, "daddr", "dport")));
    return tell(outcome, examined.label(0), "requests", "they never leave this host",
                match_of(upstream.endpoint, upstream.network, "daddr", "dport"), findings);
}

bool check_replies(const ExaminedProxy& examined, Findings& findings) {
    bool is_well = true;
    for (std::size_t i = 0; i < examined.facts.targets.size(); ++i) {
        const TargetFacts& target = examined.facts.targets[i];
        if (target.route.error != 0) continue;
        FilteredDatagram datagram;
        datagram.from = target.endpoint;
        datagram.to = session_end(examined);
        datagram.interface_name = examined.host.interface_name(target.route.interface_index);
        datagram.is_of_known_flow = i == 0;
        is_well =
            tell(examined.host.filter.decide(way_in, datagram), examined.label(i), "its replies",
                 i == 0 ? "no reply is heard"
                        : "to a stateful filter they are new, since the request went to another "
                          "address",
                 match_of(target.endpoint, target.network, "saddr", "sport"), findings) &&
            is_well;
    }
    return is_well;
}

}  // namespace

void check_filters(const ExaminedProxy& examined, Findings& findings) {
    if (examined.host.filter.chains() == 0) return;
    bool is_well = check_clients(examined, findings);
    if (!examined.facts.targets.empty() && examined.facts.targets.front().route.error == 0) {
        is_well = check_requests(examined, findings) && is_well;
        is_well = check_replies(examined, findings) && is_well;
    }
    if (is_well)
        findings.ok(FindingKind::packet_filter, examined.label(),
                    fmt::format("{} chains of nftables let clients, requests and replies pass",
                                examined.host.filter.chains()));
}

}  // namespace udpproxy
