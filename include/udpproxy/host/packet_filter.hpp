// PacketFilter: this namespace's nftables rules, and their effect on one datagram. A rule may
// depend on conditions outside of the datagram (limits, marks, anything unknown here). Such a rule
// matches perhaps, and a datagram that it drops may be dropped. packet_filter_reader.cpp reads the
// rules.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

enum class FilterHook : std::uint8_t { prerouting, input, output, postrouting };

/// A datagram as the rules see it.
struct FilteredDatagram {
    Endpoint from;  // an unspecified address and port 0: only the family is known
    Endpoint to;
    std::string interface_name;     // the datagram comes in or goes out by it; empty: not known
    bool is_of_known_flow = false;  // to conntrack: the datagram answers an earlier one
};

struct FilterOutcome {
    enum class Verdict : std::uint8_t { passes, may_be_dropped, is_dropped };
    Verdict verdict = Verdict::passes;
    std::string by;  // the rule or policy: `inet filter input: rule 7`, `… : policy drop`
    bool may_be_translated = false;
    std::string translated_by;
};

class PacketFilter {
public:
    /// Without rules every datagram passes.
    PacketFilter();
    /// `json` as `nft -j list ruleset` prints it (libnftables-json(5)). Errors: `json` is not such
    /// a list.
    [[nodiscard]] static Result<PacketFilter> parse(std::string_view json);

    /// Chains of the families ip, ip6 and inet.
    [[nodiscard]] std::size_t chains() const;
    /// The effect of the chains of these hooks on the datagram, in the kernel's order.
    [[nodiscard]] FilterOutcome decide(const std::vector<FilterHook>& hooks,
                                       const FilteredDatagram& datagram) const;

    struct Rules;

private:
    explicit PacketFilter(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}
    std::shared_ptr<const Rules> rules_;
};

/// Reads the rules through the program nft. Waits some seconds at most. Errors: `nftables: cause`;
/// EPERM without CAP_NET_ADMIN, ENOENT without nft. A kernel without nftables has no rules.
[[nodiscard]] Result<PacketFilter> read_packet_filter();

}  // namespace udpproxy
