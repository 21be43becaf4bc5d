// The checks of the doctor. Each is a pure function that examines one part of the facts and adds
// its findings; diagnose() calls them in this order.
#pragma once

#include <string>
#include <vector>

#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/host/routes.hpp"

namespace udpproxy {

/// The name of this program, as /proc has it.
inline constexpr std::string_view own_name = "udpproxy";

class Findings {
public:
    void ok(FindingKind kind, std::string where, std::string looked_at, std::string meaning = {}) {
        (void)add(kind, Severity::ok, std::move(where), std::move(looked_at), std::move(meaning),
                  {});
    }
    /// The caller may say what the finding means for a start.
    Finding& add(FindingKind kind, Severity severity, std::string where, std::string looked_at,
                 std::string meaning, std::string fix) {
        return list.emplace_back(Finding{kind, severity, std::move(where), std::move(looked_at),
                                         std::move(meaning), std::move(fix)});
    }
    std::vector<Finding> list;
};

/// A proxy of the configuration with its facts.
struct ExaminedProxy {
    const ProxyConfig& config;
    const ProxyFacts& facts;
    const HostFacts& host;

    [[nodiscard]] std::string label() const { return "proxy \"" + config.name + '"'; }
    [[nodiscard]] std::string label(std::size_t target) const {
        return label() + (target == 0 ? ": upstream " : ": alias ") + facts.targets[target].text;
    }
};

/// name, source, route, own_address, neighbour, reverse_path, mtu
void check_paths(const ExaminedProxy& examined, Findings& findings);
/// packet_filter, translation
void check_filters(const ExaminedProxy& examined, Findings& findings);
/// buffers
void check_receive_buffer(const ExaminedProxy& examined, Findings& findings);
void check_send_buffer(const ExaminedProxy& examined, Findings& findings);
/// listen_address, listen_port, drops of the listeners, buffers
void check_listeners(const ExaminedProxy& examined, Findings& findings);
/// What only a start opens; without routes every address counts as here.
[[nodiscard]] StartFacts collect_start_facts(const Config& config, bool goes_on,
                                             RouteTable* routes);
/// See examine_start().
[[nodiscard]] std::vector<Finding> diagnose_start(const Config& config, const HostFacts& facts);

/// admin, log_file
void check_start(const Config& config, const HostFacts& facts, Findings& findings);
/// See examine_machine().
[[nodiscard]] std::vector<Finding> diagnose_machine(const Config& config, const HostFacts& facts);
/// receive_offload
void check_receive_offload(const Config& config, const HostFacts& facts, Findings& findings);
/// udp_table, for this number of sockets
void check_udp_table(const HostFacts& facts, std::uint64_t sockets, Findings& findings);
/// ports, descriptors, udp_table
void check_capacity(const Config& config, const HostFacts& facts, Findings& findings);
/// conntrack, drops, engine, unseen
void check_host(const Config& config, const HostFacts& facts, Findings& findings);
/// engine
void check_engine(const Config& config, const HostFacts& facts, Findings& findings);

}  // namespace udpproxy
