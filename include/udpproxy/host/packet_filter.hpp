// PacketFilter: this namespace's nftables rules, and what they do to one datagram. A rule may ask
// what a datagram of ours does not decide (limits, marks, whatever is not known here): such a rule
// matches perhaps, and what it drops may be dropped. Reading them is packet_filter_reader.cpp's.
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

/// A datagram as the rules would see it.
struct FilteredDatagram {
    Endpoint from;  // an unspecified address and port 0: not known, but for the family
    Endpoint to;
    std::string interface_name;     // it comes in or goes out by; empty: not known
    bool is_of_known_flow = false;  // to conntrack: the answer to what went out
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
    /// Without rules everything passes.
    PacketFilter();
    /// `json` as `nft -j list ruleset` prints it (libnftables-json(5)). Errors: it is no such list.
    [[nodiscard]] static Result<PacketFilter> parse(std::string_view json);

    /// Chains of the families ip, ip6 and inet.
    [[nodiscard]] std::size_t chains() const;
    /// What the chains of these hooks do to the datagram, in the order in which the kernel asks
    /// them.
    [[nodiscard]] FilterOutcome decide(const std::vector<FilterHook>& hooks,
                                       const FilteredDatagram& datagram) const;

    struct Rules;

private:
    explicit PacketFilter(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}
    std::shared_ptr<const Rules> rules_;
};

/// Reads the rules by the program nft. Waits some seconds at most. Errors: `nftables: cause`; EPERM
/// without CAP_NET_ADMIN, ENOENT without nft. A kernel without nftables has no rules.
[[nodiscard]] Result<PacketFilter> read_packet_filter();

}  // namespace udpproxy
