// PacketFilter: this namespace's nftables rules as values, and what they do to one datagram.
// Reading them is packet_filter_reader.cpp's; judging is pure. Whatever a rule asks that a datagram
// of ours does not decide (limits, marks, sets by other keys) is answered with "perhaps".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// One step of a rule: the virtual machine of linux/netfilter/nf_tables.h, as far as it matters
/// here.
struct FilterStep {
    enum class Kind : std::uint8_t {
        load_meta,     // key
        load_payload,  // base, offset, length
        load_ct,       // key
        bitwise,       // data mask, data2 xor
        compare,       // op, data
        range,         // op, data to data2
        lookup,        // set; is_negated; a verdict map when it loads into the verdict
        verdict,       // verdict, chain
        reject,
        translate,  // masquerade, snat, dnat, redirect
        neutral,    // counters, logs, comments
        unknown,
    };
    Kind kind = Kind::unknown;
    std::uint32_t key = 0;
    std::uint32_t base = 0;
    std::uint32_t offset = 0;
    std::uint32_t length = 0;
    std::uint32_t from = 0;  // register
    std::uint32_t to = 0;    // register
    std::uint32_t op = 0;    // NFT_CMP_…, NFT_RANGE_…
    bool is_negated = false;
    std::vector<std::uint8_t> data;
    std::vector<std::uint8_t> data2;
    std::int32_t verdict = 0;  // NF_ACCEPT, NF_DROP, NFT_JUMP …
    std::string name;          // chain, set
};

struct FilterRule {
    std::uint64_t handle = 0;
    std::vector<FilterStep> steps;
};

struct FilterSet {
    struct Element {
        std::vector<std::uint8_t> key;
        bool ends_interval = false;
        std::int32_t verdict = 0;
        std::string chain;
    };
    bool is_interval = false;
    std::vector<Element> elements;
};

struct FilterChain {
    std::string family;  // "ip", "ip6", "inet"
    std::string table;
    std::string name;
    bool is_base = false;
    bool is_nat = false;
    std::uint32_t hook = 0;  // NF_INET_…
    std::int32_t priority = 0;
    bool drops_by_policy = false;
    std::vector<FilterRule> rules;

    [[nodiscard]] std::string title() const { return family + ' ' + table + ' ' + name; }
};

struct PacketFilter {
    std::vector<FilterChain> chains;
    std::map<std::string, FilterSet> sets;  // by `family table name`
};

enum class FilterHook : std::uint8_t { prerouting = 0, input = 1, output = 3, postrouting = 4 };

/// A datagram as the rules would see it.
struct FilteredDatagram {
    Endpoint from;  // an unspecified address and port 0: not known, but for the family
    Endpoint to;
    std::string interface_name;  // it comes in or goes out by; empty: not known
    std::uint32_t interface_index = 0;
    bool is_of_known_flow = false;  // to conntrack: the answer to what went out
};

struct FilterOutcome {
    enum class Verdict : std::uint8_t { passes, may_be_dropped, is_dropped };
    Verdict verdict = Verdict::passes;
    std::string by;  // the rule or policy: `inet filter input: rule 7`, `… : policy drop`
    bool may_be_translated = false;
    std::string translated_by;
};

/// What the chains of these hooks do to the datagram, in the order in which the kernel asks them.
[[nodiscard]] FilterOutcome judge(const PacketFilter& filter, const std::vector<FilterHook>& hooks,
                                  const FilteredDatagram& datagram);

/// Reads the rules over netlink. Errors: `nftables: cause`, EPERM without CAP_NET_ADMIN. A kernel
/// without nftables has no rules.
[[nodiscard]] Result<PacketFilter> read_packet_filter();

}  // namespace udpproxy
