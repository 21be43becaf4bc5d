// nfnetlink to PacketFilter: base chains and the chains they lead to, rules, and the elements of
// named and anonymous sets. Before the kernel's headers, which give way to it.
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>

#include "udpproxy/host/netlink.hpp"
#include "udpproxy/host/packet_filter.hpp"

namespace udpproxy {

namespace {

using Kind = FilterStep::Kind;

/// The families whose rules a datagram of ours can meet.
std::string family_text(std::uint8_t family) {
    switch (family) {
        case NFPROTO_IPV4:
            return "ip";
        case NFPROTO_IPV6:
            return "ip6";
        case NFPROTO_INET:
            return "inet";
        default:
            return {};
    }
}

std::uint8_t family_number(const std::string& family) {
    return family == "ip" ? NFPROTO_IPV4 : family == "ip6" ? NFPROTO_IPV6 : NFPROTO_INET;
}

NetlinkRequest request(std::uint8_t message, std::uint8_t family) {
    nfgenmsg header{};
    header.nfgen_family = family;
    return {static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message), NLM_F_DUMP, header};
}

std::uint32_t number(const NetlinkAttribute& attribute) {
    return static_cast<std::uint32_t>(attribute.network_number());
}

/// NFTA_DATA_VALUE, or the verdict that stands in its place.
void read_data(const NetlinkAttribute& attribute, std::vector<std::uint8_t>& value,
               std::int32_t& verdict, std::string& chain) {
    for (const NetlinkAttribute& data : read_attributes(attribute.value)) {
        if (data.type == NFTA_DATA_VALUE) value = data.bytes();
        if (data.type != NFTA_DATA_VERDICT) continue;
        for (const NetlinkAttribute& part : read_attributes(data.value)) {
            if (part.type == NFTA_VERDICT_CODE) verdict = static_cast<std::int32_t>(number(part));
            if (part.type == NFTA_VERDICT_CHAIN) chain = part.text();
        }
    }
}

std::vector<std::uint8_t> read_value(const NetlinkAttribute& attribute) {
    std::vector<std::uint8_t> value;
    std::int32_t verdict = 0;
    std::string chain;
    read_data(attribute, value, verdict, chain);
    return value;
}

/// Attribute numbers of one kind of expression; 0 where it has none of that sort.
struct Layout {
    std::string_view name;
    Kind kind;
    std::uint16_t from, to, key, op, data, data2;
};
constexpr Layout layouts[] = {
    {"meta", Kind::load_meta, NFTA_META_SREG, NFTA_META_DREG, NFTA_META_KEY, 0, 0, 0},
    {"ct", Kind::load_ct, NFTA_CT_SREG, NFTA_CT_DREG, NFTA_CT_KEY, 0, 0, 0},
    {"payload", Kind::load_payload, NFTA_PAYLOAD_SREG, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, 0, 0,
     0},
    {"bitwise", Kind::bitwise, NFTA_BITWISE_SREG, NFTA_BITWISE_DREG, 0, NFTA_BITWISE_OP,
     NFTA_BITWISE_MASK, NFTA_BITWISE_XOR},
    {"cmp", Kind::compare, NFTA_CMP_SREG, 0, 0, NFTA_CMP_OP, NFTA_CMP_DATA, 0},
    {"range", Kind::range, NFTA_RANGE_SREG, 0, 0, NFTA_RANGE_OP, NFTA_RANGE_FROM_DATA,
     NFTA_RANGE_TO_DATA},
    {"lookup", Kind::lookup, NFTA_LOOKUP_SREG, NFTA_LOOKUP_DREG, 0, 0, 0, 0},
    {"immediate", Kind::verdict, 0, NFTA_IMMEDIATE_DREG, 0, 0, NFTA_IMMEDIATE_DATA, 0},
    {"reject", Kind::reject, 0, 0, 0, 0, 0, 0},
    {"masq", Kind::translate, 0, 0, 0, 0, 0, 0},
    {"nat", Kind::translate, 0, 0, 0, 0, 0, 0},
    {"redir", Kind::translate, 0, 0, 0, 0, 0, 0},
    {"counter", Kind::neutral, 0, 0, 0, 0, 0, 0},
    {"log", Kind::neutral, 0, 0, 0, 0, 0, 0},
};

/// iptables' own verdict; its other targets and its matches are not understood, but for the
/// comment.
FilterStep read_compatible(std::string_view name, NetlinkBytes data) {
    FilterStep step;
    const auto text = find_attribute(
        data, name == "match" ? std::uint16_t{NFTA_MATCH_NAME} : std::uint16_t{NFTA_TARGET_NAME});
    if (!text) return step;
    if (name == "match" && text->text() == "comment") step.kind = Kind::neutral;
    if (name == "target" && text->text() == "REJECT") step.kind = Kind::reject;
    if (name == "target" && text->text() == "LOG") step.kind = Kind::neutral;
    if (name == "target" && (text->text() == "MASQUERADE" || text->text() == "SNAT" ||
                             text->text() == "DNAT" || text->text() == "REDIRECT"))
        step.kind = Kind::translate;
    return step;
}

FilterStep read_step(NetlinkBytes expression) {
    FilterStep step;
    const auto name = find_attribute(expression, NFTA_EXPR_NAME);
    const auto data = find_attribute(expression, NFTA_EXPR_DATA);
    if (!name) return step;
    const NetlinkBytes parts = data ? data->value : NetlinkBytes{};
    const std::string kind = name->text();
    if (kind == "match" || kind == "target") return read_compatible(kind, parts);
    const auto layout = std::find_if(std::begin(layouts), std::end(layouts),
                                     [&](const Layout& each) { return each.name == kind; });
    if (layout == std::end(layouts)) return step;
    step.kind = layout->kind;
    for (const NetlinkAttribute& part : read_attributes(parts)) {
        if (part.type == 0) continue;
        if (part.type == layout->from) step.from = number(part);
        if (part.type == layout->to) step.to = number(part);
        if (part.type == layout->key) step.key = number(part);
        if (part.type == layout->op) step.op = number(part);
        if (part.type == layout->data) read_data(part, step.data, step.verdict, step.name);
        if (part.type == layout->data2) step.data2 = read_value(part);
        if (step.kind == Kind::load_payload) {
            if (part.type == NFTA_PAYLOAD_OFFSET) step.offset = number(part);
            if (part.type == NFTA_PAYLOAD_LEN) step.length = number(part);
        }
        if (step.kind == Kind::lookup) {
            if (part.type == NFTA_LOOKUP_SET) step.name = part.text();
            if (part.type == NFTA_LOOKUP_FLAGS)
                step.is_negated = (number(part) & NFT_LOOKUP_F_INV) != 0;
            if (part.type == NFTA_LOOKUP_DREG)
                step.op = 1;  // a map; into register 0 (NFT_REG_VERDICT) it is a map of verdicts
        }
    }
    step.base = step.key;
    const bool changes_the_datagram =
        step.from != 0 && (step.kind == Kind::load_meta || step.kind == Kind::load_payload ||
                           step.kind == Kind::load_ct);
    if (changes_the_datagram) step.kind = Kind::neutral;
    if (step.kind == Kind::verdict && step.to != NFT_REG_VERDICT)
        step.kind = Kind::unknown;  // a constant for what follows, a port of NAT
    if (step.kind == Kind::bitwise && step.op != 0) step.kind = Kind::unknown;  // a shift
    return step;
}

std::optional<FilterChain> read_chain(const NetlinkAnswer& answer) {
    FilterChain chain;
    chain.family = family_text(answer.header<nfgenmsg>().value_or(nfgenmsg{}).nfgen_family);
    if (chain.family.empty()) return std::nullopt;
    for (const NetlinkAttribute& attribute : read_attributes(answer.attributes(sizeof(nfgenmsg)))) {
        if (attribute.type == NFTA_CHAIN_TABLE) chain.table = attribute.text();
        if (attribute.type == NFTA_CHAIN_NAME) chain.name = attribute.text();
        if (attribute.type == NFTA_CHAIN_TYPE) chain.is_nat = attribute.text() == "nat";
        if (attribute.type == NFTA_CHAIN_POLICY)
            chain.drops_by_policy = number(attribute) == NF_DROP;
        if (attribute.type != NFTA_CHAIN_HOOK) continue;
        chain.is_base = true;
        for (const NetlinkAttribute& part : read_attributes(attribute.value)) {
            if (part.type == NFTA_HOOK_HOOKNUM) chain.hook = number(part);
            if (part.type == NFTA_HOOK_PRIORITY)
                chain.priority = static_cast<std::int32_t>(number(part));
        }
    }
    return chain;
}

void add_rule(PacketFilter& filter, const NetlinkAnswer& answer) {
    const std::string family =
        family_text(answer.header<nfgenmsg>().value_or(nfgenmsg{}).nfgen_family);
    std::string table;
    std::string chain;
    FilterRule rule;
    for (const NetlinkAttribute& attribute : read_attributes(answer.attributes(sizeof(nfgenmsg)))) {
        if (attribute.type == NFTA_RULE_TABLE) table = attribute.text();
        if (attribute.type == NFTA_RULE_CHAIN) chain = attribute.text();
        if (attribute.type == NFTA_RULE_HANDLE) rule.handle = attribute.network_number();
        if (attribute.type != NFTA_RULE_EXPRESSIONS) continue;
        for (const NetlinkAttribute& expression : read_attributes(attribute.value))
            rule.steps.push_back(read_step(expression.value));
    }
    const auto its_chain =
        std::find_if(filter.chains.begin(), filter.chains.end(), [&](const FilterChain& each) {
            return each.family == family && each.table == table && each.name == chain;
        });
    if (its_chain != filter.chains.end()) its_chain->rules.push_back(std::move(rule));
}

FilterSet::Element read_element(const NetlinkAttribute& attribute) {
    FilterSet::Element element;
    for (const NetlinkAttribute& part : read_attributes(attribute.value)) {
        if (part.type == NFTA_SET_ELEM_KEY) element.key = read_value(part);
        if (part.type == NFTA_SET_ELEM_FLAGS)
            element.ends_interval = (number(part) & NFT_SET_ELEM_INTERVAL_END) != 0;
        std::vector<std::uint8_t> ignored;
        if (part.type == NFTA_SET_ELEM_DATA)
            read_data(part, ignored, element.verdict, element.chain);
    }
    return element;
}

/// A set that cannot be read is left out: a lookup in it is then answered with "perhaps".
void add_set(Netlink& netlink, PacketFilter& filter, const NetlinkAnswer& answer) {
    const std::string family =
        family_text(answer.header<nfgenmsg>().value_or(nfgenmsg{}).nfgen_family);
    const NetlinkBytes attributes = answer.attributes(sizeof(nfgenmsg));
    const auto table = find_attribute(attributes, NFTA_SET_TABLE);
    const auto name = find_attribute(attributes, NFTA_SET_NAME);
    if (family.empty() || !table || !name) return;
    FilterSet set;
    if (const auto flags = find_attribute(attributes, NFTA_SET_FLAGS)) {
        set.is_interval = (number(*flags) & NFT_SET_INTERVAL) != 0;
        if ((number(*flags) & NFT_SET_CONCAT) != 0) return;
    }
    NetlinkRequest elements = request(NFT_MSG_GETSETELEM, family_number(family));
    elements.add(NFTA_SET_ELEM_LIST_TABLE, std::string_view{table->text()});
    elements.add(NFTA_SET_ELEM_LIST_SET, std::string_view{name->text()});
    const auto answers = netlink.ask(std::move(elements));
    if (!answers) return;
    for (const NetlinkAnswer& each : *answers) {
        const auto list =
            find_attribute(each.attributes(sizeof(nfgenmsg)), NFTA_SET_ELEM_LIST_ELEMENTS);
        if (!list) continue;
        for (const NetlinkAttribute& element : read_attributes(list->value))
            set.elements.push_back(read_element(element));
    }
    filter.sets[family + ' ' + table->text() + ' ' + name->text()] = std::move(set);
}

}  // namespace

Result<PacketFilter> read_packet_filter() {
    PacketFilter filter;
    Result<Netlink> netlink = Netlink::open(NETLINK_NETFILTER);
    if (!netlink && netlink.error().code == EPROTONOSUPPORT) return filter;
    if (!netlink) return Error{"nftables: " + netlink.error().message, netlink.error().code};
    const auto chains = netlink->ask(request(NFT_MSG_GETCHAIN, NFPROTO_UNSPEC));
    // A kernel without nf_tables, or with its module not loaded, knows no such question.
    if (!chains && (chains.error().code == EINVAL || chains.error().code == EOPNOTSUPP ||
                    chains.error().code == ENOENT))
        return filter;
    if (!chains) return Error{"nftables: " + chains.error().message, chains.error().code};
    for (const NetlinkAnswer& answer : *chains)
        if (auto chain = read_chain(answer)) filter.chains.push_back(std::move(*chain));
    const auto rules = netlink->ask(request(NFT_MSG_GETRULE, NFPROTO_UNSPEC));
    if (!rules) return Error{"nftables: " + rules.error().message, rules.error().code};
    for (const NetlinkAnswer& answer : *rules) add_rule(filter, answer);
    if (const auto sets = netlink->ask(request(NFT_MSG_GETSET, NFPROTO_UNSPEC)))
        for (const NetlinkAnswer& answer : *sets) add_set(*netlink, filter, answer);
    std::stable_sort(
        filter.chains.begin(), filter.chains.end(),
        [](const FilterChain& a, const FilterChain& b) { return a.priority < b.priority; });
    return filter;
}

}  // namespace udpproxy
