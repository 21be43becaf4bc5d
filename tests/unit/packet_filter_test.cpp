// What nftables rules do to a datagram: rules as the kernel keeps them, certain answers where all
// is known, "perhaps" where it is not.
#include "udpproxy/host/packet_filter.hpp"

#include <doctest/doctest.h>
#include <netinet/in.h>

namespace udpproxy {
namespace {

using Kind = FilterStep::Kind;
using Verdict = FilterOutcome::Verdict;

constexpr std::int32_t drop = 0;
constexpr std::int32_t accept = 1;
constexpr std::int32_t jump = -3;
constexpr std::int32_t go = -4;
constexpr std::int32_t back = -5;
constexpr std::uint32_t equal = 0;
constexpr std::uint32_t unequal = 1;
constexpr std::uint32_t at_least = 5;

FilterStep load(Kind kind, std::uint32_t key, std::uint32_t offset = 0, std::uint32_t length = 0) {
    FilterStep step;
    step.kind = kind;
    step.key = step.base = key;
    step.offset = offset;
    step.length = length;
    step.to = 1;
    return step;
}
FilterStep source_port() { return load(Kind::load_payload, 2, 0, 2); }
FilterStep target_port() { return load(Kind::load_payload, 2, 2, 2); }
FilterStep source_address() { return load(Kind::load_payload, 1, 12, 4); }
FilterStep flow_state() { return load(Kind::load_ct, 0); }
FilterStep mark() { return load(Kind::load_meta, 3); }

FilterStep compare(std::uint32_t op, std::vector<std::uint8_t> data) {
    FilterStep step;
    step.kind = Kind::compare;
    step.from = 1;
    step.op = op;
    step.data = std::move(data);
    return step;
}
FilterStep say(std::int32_t verdict, std::string chain = {}) {
    FilterStep step;
    step.kind = Kind::verdict;
    step.verdict = verdict;
    step.name = std::move(chain);
    return step;
}
FilterStep look_up(std::string set, bool is_negated = false, bool is_map = false) {
    FilterStep step;
    step.kind = Kind::lookup;
    step.from = 1;
    step.op = is_map ? 1 : 0;
    step.is_negated = is_negated;
    step.name = std::move(set);
    return step;
}
FilterStep of_kind(Kind kind) {
    FilterStep step;
    step.kind = kind;
    return step;
}

FilterChain input(std::vector<FilterRule> rules, bool drops_by_policy = false) {
    return {"inet", "f", "in", true, false, 1, 0, drops_by_policy, std::move(rules)};
}
FilterChain inner(std::string name, std::vector<FilterRule> rules) {
    return {"inet", "f", std::move(name), false, false, 0, 0, false, std::move(rules)};
}

FilteredDatagram reply(const char* from = "10.0.0.253:53", bool is_of_known_flow = false) {
    return {parse_endpoint(from).value(), parse_endpoint("10.0.0.1:40000").value(), "lan", 3,
            is_of_known_flow};
}

FilterOutcome judged(const PacketFilter& filter, const FilteredDatagram& datagram = reply()) {
    return judge(filter, {FilterHook::prerouting, FilterHook::input}, datagram);
}
Verdict verdict(const PacketFilter& filter, const FilteredDatagram& datagram = reply()) {
    return judged(filter, datagram).verdict;
}
Verdict verdict(std::vector<FilterStep> steps, const FilteredDatagram& datagram = reply()) {
    steps.push_back(say(drop));
    return verdict(PacketFilter{{input({{7, std::move(steps)}})}, {}}, datagram);
}

TEST_CASE("no rules, and rules of other hooks and families, let everything pass") {
    CHECK(verdict(PacketFilter{}) == Verdict::passes);
    FilterChain chain = input({}, true);
    chain.hook = 2;
    CHECK(verdict(PacketFilter{{chain}, {}}) == Verdict::passes);
    chain.hook = 1;
    chain.family = "ip6";
    CHECK(verdict(PacketFilter{{chain}, {}}) == Verdict::passes);
    chain.family = "ip";
    CHECK(judged(PacketFilter{{chain}, {}}).by == "ip f in: policy drop");
    chain.is_base = false;
    CHECK(verdict(PacketFilter{{chain}, {}}) == Verdict::passes);
}

TEST_CASE("ports, addresses and states decide when they are known") {
    CHECK(verdict({source_port(), compare(equal, {0, 53})}) == Verdict::is_dropped);
    CHECK(verdict({source_port(), compare(equal, {0, 54})}) == Verdict::passes);
    CHECK(verdict({source_port(), compare(unequal, {0, 53})}) == Verdict::passes);
    CHECK(verdict({target_port(), compare(at_least, {0x80, 0})}) == Verdict::is_dropped);
    CHECK(verdict({source_address(), compare(equal, {10, 0, 0, 253})}) == Verdict::is_dropped);
    CHECK(verdict({source_address(), compare(equal, {10, 0, 0})}) ==
          Verdict::is_dropped);  // a prefix of whole bytes
    CHECK(verdict({flow_state(), compare(equal, {8, 0, 0, 0})}) == Verdict::is_dropped);
    CHECK(verdict({flow_state(), compare(equal, {8, 0, 0, 0})}, reply("10.0.0.254:53", true)) ==
          Verdict::passes);
    CHECK(judged(
              PacketFilter{{input({{7, {source_port(), compare(equal, {0, 53}), say(drop)}}})}, {}})
              .by == "inet f in: rule 7");
}

TEST_CASE("interfaces, families and protocols are those of the datagram") {
    const auto name = [](std::string text) {
        std::vector<std::uint8_t> bytes(text.begin(), text.end());
        bytes.resize(16);
        return bytes;
    };
    CHECK(verdict({load(Kind::load_meta, 6), compare(equal, name("lan"))}) == Verdict::is_dropped);
    CHECK(verdict({load(Kind::load_meta, 6), compare(equal, name("wan"))}) == Verdict::passes);
    CHECK(verdict({load(Kind::load_meta, 6), compare(equal, {'l', 'a'})}) ==
          Verdict::is_dropped);  // "la*"
    CHECK(verdict({load(Kind::load_meta, 4), compare(equal, {3, 0, 0, 0})}) == Verdict::is_dropped);
    CHECK(verdict({load(Kind::load_meta, 7), compare(equal, name("lan"))}) ==
          Verdict::passes);  // it does not go out
    CHECK(verdict({load(Kind::load_meta, 16), compare(equal, {17})}) == Verdict::is_dropped);
    CHECK(verdict({load(Kind::load_meta, 15), compare(equal, {10})}) == Verdict::passes);
    FilteredDatagram anywhere = reply();
    anywhere.interface_name.clear();
    anywhere.interface_index = 0;
    CHECK(verdict({load(Kind::load_meta, 6), compare(equal, name("lan"))}, anywhere) ==
          Verdict::may_be_dropped);
}

TEST_CASE("what is not known may drop, and after what may accept nothing is certain") {
    CHECK(verdict({mark(), compare(equal, {1, 0, 0, 0})}) == Verdict::may_be_dropped);
    CHECK(verdict({of_kind(Kind::unknown)}) == Verdict::may_be_dropped);
    CHECK(verdict({of_kind(Kind::neutral)}) == Verdict::is_dropped);
    CHECK(verdict({source_port(), compare(equal, {0, 54}), mark(), compare(equal, {1, 0, 0, 0})}) ==
          Verdict::passes);
    FilteredDatagram client = reply();
    client.from = Endpoint{Address::any(Family::ipv4), 0, 0};
    CHECK(verdict({source_address(), compare(equal, {10, 0, 0, 253})}, client) ==
          Verdict::may_be_dropped);
    const FilterRule perhaps_accept{1, {mark(), compare(equal, {1, 0, 0, 0}), say(accept)}};
    CHECK(verdict(PacketFilter{{input({perhaps_accept}, true)}, {}}) == Verdict::may_be_dropped);
    CHECK(verdict(PacketFilter{{input({perhaps_accept, {2, {say(accept)}}}, true)}, {}}) ==
          Verdict::passes);
}

TEST_CASE("bytes are masked before they are compared") {
    FilterStep mask;
    mask.kind = Kind::bitwise;
    mask.from = mask.to = 1;
    mask.data = {6, 0, 0, 0};
    mask.data2 = {0, 0, 0, 0};
    const auto known = [&](bool is_of_known_flow) {
        return verdict({flow_state(), mask, compare(unequal, {0, 0, 0, 0})},
                       reply("10.0.0.253:53", is_of_known_flow));
    };
    CHECK(known(true) == Verdict::is_dropped);
    CHECK(known(false) == Verdict::passes);
    mask.data = {0, 0, 0, 0};
    CHECK(verdict({mark(), mask, compare(equal, {0, 0, 0, 0})}) ==
          Verdict::is_dropped);  // of no bit is anything asked
}

TEST_CASE("ranges hold both their ends") {
    FilterStep range = compare(0, {0, 50});
    range.kind = Kind::range;
    range.data2 = {0, 53};
    CHECK(verdict({source_port(), range}) == Verdict::is_dropped);
    range.data2 = {0, 52};
    CHECK(verdict({source_port(), range}) == Verdict::passes);
    range.op = 1;
    CHECK(verdict({source_port(), range}) == Verdict::is_dropped);
    CHECK(verdict({source_port(), range}, reply("10.0.0.253:51")) == Verdict::passes);
}

TEST_CASE("sets of values and of intervals, and what is not in them") {
    PacketFilter filter{{input({{7, {source_port(), look_up("s"), say(drop)}}})}, {}};
    CHECK(verdict(filter) == Verdict::may_be_dropped);  // the set could not be read
    FilterSet& set = filter.sets["inet f s"];
    CHECK(verdict(filter) == Verdict::passes);
    set.elements = {{{0, 99}, false, 0, {}}, {{0, 53}, false, 0, {}}};
    CHECK(verdict(filter) == Verdict::is_dropped);
    CHECK(verdict(filter, reply("10.0.0.253:54")) == Verdict::passes);
    filter.chains[0].rules[0].steps[1].is_negated = true;
    CHECK(verdict(filter) == Verdict::passes);
    filter.chains[0].rules[0].steps[1].is_negated = false;
    set.is_interval = true;
    set.elements = {{{0, 60}, true, 0, {}}, {{0, 50}, false, 0, {}}, {{0, 0}, true, 0, {}}};
    CHECK(verdict(filter) == Verdict::is_dropped);
    CHECK(verdict(filter, reply("10.0.0.253:60")) == Verdict::passes);
    CHECK(verdict(filter, reply("10.0.0.253:49")) == Verdict::passes);
}

TEST_CASE(
    "a map of states, as many firewalls have, accepts what it knows and leaves the rest to the "
    "policy") {
    PacketFilter filter{{input({{7, {flow_state(), look_up("m", false, true)}}}, true)}, {}};
    filter.sets["inet f m"].elements = {{{1, 0, 0, 0}, false, drop, {}},
                                        {{2, 0, 0, 0}, false, accept, {}}};
    CHECK(verdict(filter, reply("10.0.0.254:53", true)) == Verdict::passes);
    CHECK(judged(filter).by == "inet f in: policy drop");
    CHECK(verdict(filter) == Verdict::is_dropped);
}

TEST_CASE(
    "jumps come back, a goto does not, and a return in the first chain leaves it to the policy") {
    const FilterRule all{9, {say(drop)}};
    PacketFilter filter{{input({{1, {say(jump, "inner")}}, all}), inner("inner", {})}, {}};
    CHECK(judged(filter).by == "inet f in: rule 9");
    filter.chains[0].rules[0].steps[0].verdict = go;
    CHECK(verdict(filter) == Verdict::passes);
    filter.chains[0].drops_by_policy = true;
    CHECK(judged(filter).by == "inet f in: policy drop");
    filter.chains[1].rules = {{4, {say(accept)}}};
    CHECK(verdict(filter) == Verdict::passes);
    filter.chains[0].rules[0].steps[0].verdict = jump;
    filter.chains[1].rules = {{4, {say(back)}}, {5, {say(accept)}}};
    CHECK(judged(filter).by == "inet f in: rule 9");
    filter.chains[0].rules = {{4, {say(back)}}, {5, {say(accept)}}};
    CHECK(judged(filter).by == "inet f in: policy drop");
}

TEST_CASE("chains that jump in a circle end") {
    PacketFilter filter{{input({{1, {say(jump, "a")}}}), inner("a", {{2, {say(jump, "b")}}}),
                         inner("b", {{3, {say(jump, "a")}}})},
                        {}};
    CHECK(verdict(filter) == Verdict::passes);
}

TEST_CASE("rules that multiply by jumps in doubt end as a doubt") {
    PacketFilter filter{{input({{1, {say(jump, "0")}}})}, {}};
    for (int i = 0; i < 14; ++i) {
        std::vector<FilterRule> rules;
        for (std::uint64_t handle = 1; handle <= 8; ++handle)
            rules.push_back({handle, {of_kind(Kind::unknown), say(jump, std::to_string(i + 1))}});
        filter.chains.push_back(inner(std::to_string(i), std::move(rules)));
    }
    CHECK(judged(filter).by == "more rules than are looked through");
    CHECK(verdict(filter) == Verdict::may_be_dropped);
}

TEST_CASE("after a perhaps that jumps nothing is certain, and a drop inside may be one") {
    PacketFilter filter{
        {input({{1, {of_kind(Kind::unknown), say(jump, "inner")}}, {2, {say(accept)}}}),
         inner("inner", {{3, {say(drop)}}})},
        {}};
    CHECK(judged(filter).by == "inet f inner: rule 3");
    CHECK(verdict(filter) == Verdict::may_be_dropped);
    filter.chains[1].rules = {{3, {say(accept)}}};
    filter.chains[0].rules[1] = {2, {say(drop)}};
    CHECK(verdict(filter) == Verdict::may_be_dropped);
    filter.chains[1].rules = {{3, {of_kind(Kind::unknown), say(accept)}}};
    CHECK(verdict(filter) == Verdict::may_be_dropped);
}

TEST_CASE("rejections drop, translations are told, and each chain has its say") {
    CHECK(verdict(PacketFilter{{input({{7, {of_kind(Kind::reject)}}})}, {}}) ==
          Verdict::is_dropped);
    const FilterOutcome outcome =
        judged(PacketFilter{{input({{7, {of_kind(Kind::translate)}}})}, {}});
    CHECK(outcome.verdict == Verdict::passes);
    CHECK(outcome.may_be_translated);
    CHECK(outcome.translated_by == "inet f in: rule 7");
    FilterChain second = input({{8, {say(drop)}}});
    second.name = "later";
    CHECK(judged(PacketFilter{{input({{7, {say(accept)}}}), second}, {}}).by ==
          "inet f later: rule 8");
}

TEST_CASE("IPv6 addresses lie elsewhere in their header") {
    FilteredDatagram datagram{parse_endpoint("[fd00::253]:53").value(),
                              parse_endpoint("[fd00::1]:40000").value(), "lan", 3, false};
    FilterStep source = load(Kind::load_payload, 1, 8, 16);
    std::vector<std::uint8_t> bytes(datagram.from.address.bytes.begin(),
                                    datagram.from.address.bytes.end());
    CHECK(verdict({source, compare(equal, bytes)}, datagram) == Verdict::is_dropped);
    bytes.back() = 0;
    CHECK(verdict({source, compare(equal, bytes)}, datagram) == Verdict::passes);
    CHECK(verdict({load(Kind::load_payload, 1, 6, 1), compare(equal, {17})}, datagram) ==
          Verdict::is_dropped);
}

}  // namespace
}  // namespace udpproxy
