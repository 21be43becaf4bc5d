// What nftables rules do to a datagram: rules as nft lists them, certain answers where all is
// known, "perhaps" where it is not, and no list that makes the program fall.
#include "udpproxy/host/packet_filter.hpp"

#include <doctest/doctest.h>

namespace udpproxy {
namespace {

using Verdict = FilterOutcome::Verdict;

const std::string drop = R"({"drop": null})";
const std::string accept = R"({"accept": null})";
const std::string back = R"({"return": null})";
const std::string perhaps = R"({"limit": {"rate": 5, "per": "second"}})";
const std::string reply_port = R"({"payload": {"protocol": "udp", "field": "sport"}})";
const std::string own_port = R"({"payload": {"protocol": "udp", "field": "dport"}})";
const std::string source = R"({"payload": {"protocol": "ip", "field": "saddr"}})";
const std::string state = R"({"ct": {"key": "state"}})";

std::string jump(const std::string& chain) { return R"({"jump": {"target": ")" + chain + R"("}})"; }
std::string go(const std::string& chain) { return R"({"goto": {"target": ")" + chain + R"("}})"; }
std::string meta(const std::string& key) { return R"({"meta": {"key": ")" + key + R"("}})"; }
std::string match(const std::string& left, const std::string& op, const std::string& right) {
    return R"({"match": {"op": ")" + op + R"(", "left": )" + left + R"(, "right": )" + right + "}}";
}
std::string vmap(const std::string& key, const std::string& data) {
    return R"({"vmap": {"key": )" + key + R"(, "data": )" + data + "}}";
}
std::string list(const std::vector<std::string>& parts) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : ",") + part;
    return "[" + all + "]";
}

std::string base(const std::string& policy, const std::string& hook = "input",
                 const std::string& family = "inet", int priority = 0) {
    return R"({"chain": {"family": ")" + family + R"(", "table": "f", "name": "in", "hook": ")" +
           hook + R"(", "prio": )" + std::to_string(priority) + R"(, "policy": ")" + policy +
           "\"}}";
}
std::string inner(const std::string& name) {
    return R"({"chain": {"family": "inet", "table": "f", "name": ")" + name + "\"}}";
}
std::string rule(int handle, const std::vector<std::string>& statements,
                 const std::string& chain = "in") {
    return R"({"rule": {"family": "inet", "table": "f", "chain": ")" + chain + R"(", "handle": )" +
           std::to_string(handle) + R"(, "expr": )" + list(statements) + "}}";
}
std::string set_of(const std::string& name, const std::string& elements, const char* kind = "set") {
    return std::string{"{\""} + kind + R"(": {"family": "inet", "table": "f", "name": ")" + name +
           R"(", "elem": )" + elements + "}}";
}

PacketFilter filter(const std::vector<std::string>& entries) {
    return PacketFilter::parse(R"({"nftables": )" + list(entries) + "}").value();
}
PacketFilter accepting(const std::vector<std::string>& rules) {
    std::vector<std::string> entries{base("accept")};
    entries.insert(entries.end(), rules.begin(), rules.end());
    return filter(entries);
}

FilteredDatagram reply(const char* from = "10.0.0.253:53", bool is_of_known_flow = false) {
    return {parse_endpoint(from).value(), parse_endpoint("10.0.0.1:40000").value(), "lan",
            is_of_known_flow};
}

FilterOutcome outcome(const PacketFilter& rules, const FilteredDatagram& datagram = reply()) {
    return rules.decide({FilterHook::prerouting, FilterHook::input}, datagram);
}
Verdict verdict(const PacketFilter& rules, const FilteredDatagram& datagram = reply()) {
    return outcome(rules, datagram).verdict;
}
/// Of a single rule that drops what it matches.
Verdict verdict(std::vector<std::string> statements, const FilteredDatagram& datagram = reply()) {
    statements.push_back(drop);
    return verdict(accepting({rule(7, statements)}), datagram);
}
Verdict verdict(const std::string& left, const std::string& op, const std::string& right,
                const FilteredDatagram& datagram = reply()) {
    return verdict({match(left, op, right)}, datagram);
}

TEST_CASE("no rules, and rules of other hooks and families, let everything pass") {
    CHECK(verdict(PacketFilter{}) == Verdict::passes);
    CHECK(verdict(filter({base("drop", "forward")})) == Verdict::passes);
    CHECK(verdict(filter({base("drop", "input", "ip6")})) == Verdict::passes);
    CHECK(outcome(filter({base("drop", "input", "ip")})).by == "ip f in: policy drop");
    CHECK(verdict(filter({inner("in")})) == Verdict::passes);
    CHECK(filter({base("drop", "input", "bridge"), base("drop", "ingress", "netdev")}).chains() ==
          0);
}

TEST_CASE("ports, addresses and states decide when they are known") {
    CHECK(verdict(reply_port, "==", "53") == Verdict::is_dropped);
    CHECK(verdict(reply_port, "==", "54") == Verdict::passes);
    CHECK(verdict(reply_port, "!=", "53") == Verdict::passes);
    CHECK(verdict(own_port, ">=", "40000") == Verdict::is_dropped);
    CHECK(verdict(own_port, ">", "40000") == Verdict::passes);
    CHECK(verdict(own_port, "<=", "40000") == Verdict::is_dropped);
    CHECK(verdict(own_port, "<", "40000") == Verdict::passes);
    CHECK(verdict(source, "==", "\"10.0.0.253\"") == Verdict::is_dropped);
    CHECK(verdict(source, "==", "\"10.0.0.252\"") == Verdict::passes);
    CHECK(verdict(state, "in", "\"new\"") == Verdict::is_dropped);
    CHECK(verdict(state, "in", "\"new\"", reply("10.0.0.254:53", true)) == Verdict::passes);
    CHECK(verdict(state, "in", R"(["established", "related"])") == Verdict::passes);
    CHECK(verdict(state, "!", R"(["established", "related"])") == Verdict::is_dropped);
    CHECK(outcome(accepting({rule(7, {drop})})).by == "inet f in: rule 7");
}

TEST_CASE("prefixes and ranges hold both their ends") {
    const auto prefix = [](int bits) {
        return R"({"prefix": {"addr": "10.0.0.252", "len": )" + std::to_string(bits) + "}}";
    };
    CHECK(verdict(source, "==", prefix(31)) == Verdict::is_dropped);
    CHECK(verdict(source, "==", prefix(32)) == Verdict::passes);
    CHECK(verdict(source, "==", prefix(250)) == Verdict::may_be_dropped);
    CHECK(verdict(source, "==", R"({"range": ["10.0.0.253", "10.0.1.1"]})") == Verdict::is_dropped);
    CHECK(verdict(reply_port, "==", R"({"range": [50, 53]})") == Verdict::is_dropped);
    CHECK(verdict(reply_port, "==", R"({"range": [50, 52]})") == Verdict::passes);
    CHECK(verdict(reply_port, "!=", R"({"range": [50, 52]})") == Verdict::is_dropped);
}

TEST_CASE("interfaces, families and protocols are those of the datagram") {
    CHECK(verdict(meta("iifname"), "==", "\"lan\"") == Verdict::is_dropped);
    CHECK(verdict(meta("iifname"), "==", "\"wan\"") == Verdict::passes);
    CHECK(verdict(meta("iifname"), "==", "\"la*\"") == Verdict::is_dropped);
    CHECK(verdict(meta("iif"), "==", "\"lan\"") == Verdict::is_dropped);
    CHECK(verdict(meta("oifname"), "==", "\"lan\"") == Verdict::passes);  // it does not go out
    CHECK(verdict(meta("l4proto"), "==", "17") == Verdict::is_dropped);
    CHECK(verdict(meta("l4proto"), "==", "6") == Verdict::passes);
    CHECK(verdict(meta("nfproto"), "==", "\"ipv6\"") == Verdict::passes);
    CHECK(verdict(R"({"payload": {"protocol": "tcp", "field": "sport"}})", "!=", "1") ==
          Verdict::passes);
    CHECK(verdict(R"({"payload": {"protocol": "ip6", "field": "saddr"}})", "!=", "\"::1\"") ==
          Verdict::passes);
    FilteredDatagram anywhere = reply();
    anywhere.interface_name.clear();
    CHECK(verdict(meta("iifname"), "==", "\"lan\"", anywhere) == Verdict::may_be_dropped);
}

TEST_CASE("IPv6 addresses are compared as such") {
    const FilteredDatagram datagram{parse_endpoint("[fd00::253]:53").value(),
                                    parse_endpoint("[fd00::1]:40000").value(), "lan", false};
    const std::string source6 = R"({"payload": {"protocol": "ip6", "field": "saddr"}})";
    CHECK(verdict(source6, "==", "\"fd00::253\"", datagram) == Verdict::is_dropped);
    CHECK(verdict(source6, "==", "\"fd00::254\"", datagram) == Verdict::passes);
    CHECK(verdict(source6, "==", R"({"prefix": {"addr": "fd00::", "len": 64}})", datagram) ==
          Verdict::is_dropped);
    CHECK(verdict(source, "==", "\"10.0.0.253\"", datagram) == Verdict::passes);
}

TEST_CASE("what is not known may drop, and after what may accept nothing is certain") {
    CHECK(verdict(meta("mark"), "==", "1") == Verdict::may_be_dropped);
    CHECK(verdict({perhaps}) == Verdict::may_be_dropped);
    CHECK(verdict({R"({"counter": {"packets": 0}})", R"({"log": null})"}) == Verdict::is_dropped);
    CHECK(verdict({match(reply_port, "==", "54"), perhaps}) == Verdict::passes);
    FilteredDatagram client = reply();
    client.from = Endpoint{Address::any(Family::ipv4), 0, 0};
    CHECK(verdict(source, "==", "\"10.0.0.253\"", client) == Verdict::may_be_dropped);
    CHECK(verdict(reply_port, ">", "1023", client) == Verdict::may_be_dropped);
    CHECK(verdict(filter({base("drop"), rule(1, {perhaps, accept})})) == Verdict::may_be_dropped);
    CHECK(verdict(filter({base("drop"), rule(1, {perhaps, accept}), rule(2, {accept})})) ==
          Verdict::passes);
}

TEST_CASE("what may drop leaves a later drop as certain as it was") {
    const FilterOutcome both = outcome(filter({base("drop"), rule(1, {perhaps, drop})}));
    CHECK(both.verdict == Verdict::is_dropped);
    CHECK(both.by == "inet f in: policy drop");
}

TEST_CASE("sets with and without a name, and what is not in them") {
    CHECK(verdict(reply_port, "==", R"({"set": [99, {"range": [50, 60]}]})") ==
          Verdict::is_dropped);
    CHECK(verdict(reply_port, "==", R"({"set": [99, 100]})") == Verdict::passes);
    CHECK(verdict(reply_port, "!=", R"({"set": [99, 53]})") == Verdict::passes);
    const std::string listed = rule(7, {match(reply_port, "==", "\"@s\""), drop});
    CHECK(verdict(accepting({listed})) == Verdict::may_be_dropped);  // it is not in the list
    CHECK(verdict(accepting({set_of("s", "[]"), listed})) == Verdict::passes);
    CHECK(verdict(accepting({set_of("s", "[54, 53]"), listed})) == Verdict::is_dropped);
    CHECK(verdict(accepting({set_of("s", R"([{"elem": {"val": 53, "comment": "dns"}}])"),
                             listed})) == Verdict::is_dropped);
}

TEST_CASE("a set of any size is no matter where nothing is known of what it holds") {
    std::string many = "[1";
    for (int i = 0; i < 500000; ++i) many += ",1";
    const PacketFilter rules =
        accepting({set_of("s", many + "]"), rule(7, {match(meta("mark"), "==", "\"@s\""), drop})});
    CHECK(outcome(rules).by == "inet f in: rule 7");
}

TEST_CASE("a map of states accepts what it knows and leaves the rest to the policy") {
    const std::string pairs = R"([["invalid", {"drop": null}], ["established", {"accept": null}]])";
    const FilteredDatagram known = reply("10.0.0.254:53", true);
    for (const std::string& data : {R"({"set": )" + pairs + "}", std::string{"\"@m\""}}) {
        const PacketFilter rules =
            filter({base("drop"), set_of("m", pairs, "map"), rule(7, {vmap(state, data)})});
        CHECK(verdict(rules, known) == Verdict::passes);
        CHECK(outcome(rules).by == "inet f in: policy drop");
        CHECK(verdict(rules) == Verdict::is_dropped);
    }
    // A key that is not known may be any of them.
    const std::string marks = R"({"set": [[1, {"drop": null}], [2, {"accept": null}]]})";
    CHECK(outcome(accepting({rule(7, {vmap(meta("mark"), marks)})})).by == "inet f in: rule 7");
    CHECK(verdict(filter({base("drop"), rule(7, {vmap(reply_port, "\"\"")})})) ==
          Verdict::may_be_dropped);
    CHECK(verdict(filter({base("drop"), rule(7, {vmap(meta("mark"), marks)})})) ==
          Verdict::may_be_dropped);
}

TEST_CASE("what is not tracked has no state") {
    const PacketFilter rules = filter({base("drop"), rule(1, {R"({"notrack": null})"}),
                                       rule(2, {match(state, "in", "\"established\""), accept})});
    CHECK(verdict(rules, reply("10.0.0.254:53", true)) == Verdict::may_be_dropped);
}

TEST_CASE("jumps come back, a goto does not, and a return leaves the first chain to its policy") {
    const std::string in = inner("inner");
    CHECK(outcome(accepting({in, rule(1, {jump("inner")}), rule(9, {drop})})).by ==
          "inet f in: rule 9");
    CHECK(verdict(accepting({in, rule(1, {go("inner")}), rule(9, {drop})})) == Verdict::passes);
    CHECK(outcome(filter({base("drop"), in, rule(1, {go("inner")})})).by ==
          "inet f in: policy drop");
    CHECK(verdict(filter({base("drop"), in, rule(1, {go("inner")}), rule(4, {accept}, "inner")})) ==
          Verdict::passes);
    CHECK(outcome(accepting({in, rule(1, {jump("inner")}), rule(9, {drop}),
                             rule(4, {back}, "inner"), rule(5, {accept}, "inner")}))
              .by == "inet f in: rule 9");
    CHECK(outcome(filter({base("drop"), rule(4, {back}), rule(5, {accept})})).by ==
          "inet f in: policy drop");
    CHECK(verdict(filter({base("drop"), rule(1, {jump("nowhere")})})) == Verdict::may_be_dropped);
}

TEST_CASE("after a jump in doubt only a chain that always comes back leaves what follows certain") {
    const std::string in = inner("inner");
    const std::string doubt = rule(1, {perhaps, jump("inner")});
    const FilterOutcome inside =
        outcome(accepting({in, doubt, rule(2, {accept}), rule(3, {drop}, "inner")}));
    CHECK(inside.by == "inet f inner: rule 3");
    CHECK(inside.verdict == Verdict::may_be_dropped);
    const auto followed = [&](const std::string& rule_inside) {
        return verdict(accepting({in, doubt, rule(2, {drop}), rule_inside}));
    };
    CHECK(followed(rule(3, {accept}, "inner")) == Verdict::may_be_dropped);
    CHECK(followed(rule(3, {perhaps, accept}, "inner")) == Verdict::may_be_dropped);
    CHECK(followed(rule(3, {back}, "inner")) == Verdict::is_dropped);
}

TEST_CASE("rejections drop, translations are told, and each chain has its say") {
    CHECK(verdict(accepting({rule(7, {R"({"reject": {"type": "icmpx"}})"})})) ==
          Verdict::is_dropped);
    const FilterOutcome translated = outcome(accepting({rule(7, {R"({"masquerade": null})"})}));
    CHECK(translated.verdict == Verdict::passes);
    CHECK(translated.may_be_translated);
    CHECK(translated.translated_by == "inet f in: rule 7");
    const std::string later =
        R"({"chain": {"family": "inet", "table": "f", "name": "later", "hook": "input",)"
        R"( "prio": -5}})";
    CHECK(outcome(accepting({later, rule(7, {drop}), rule(8, {drop}, "later")})).by ==
          "inet f later: rule 8");
    CHECK(outcome(accepting({later, rule(7, {drop}), rule(8, {accept}, "later")})).by ==
          "inet f in: rule 7");
}

TEST_CASE("iptables' own matches and targets, as far as they have a name here") {
    const auto xt = [](const char* type, const char* name) {
        return std::string{R"({"xt": {"type": ")"} + type + R"(", "name": ")" + name + "\"}}";
    };
    CHECK(verdict(accepting({rule(7, {xt("match", "comment"), xt("target", "REJECT")})})) ==
          Verdict::is_dropped);
    CHECK(verdict({xt("match", "conntrack")}) == Verdict::may_be_dropped);
    CHECK(verdict({xt("target", "LOG")}) == Verdict::is_dropped);
    CHECK(outcome(accepting({rule(7, {xt("target", "MASQUERADE")})})).may_be_translated);
}

TEST_CASE("chains that jump in a circle end, and so do rules that jumps in doubt multiply") {
    CHECK(verdict(accepting({inner("a"), inner("b"), rule(1, {jump("a")}),
                             rule(2, {jump("b")}, "a"), rule(3, {jump("a")}, "b")})) ==
          Verdict::passes);
    std::vector<std::string> entries{rule(1, {jump("0")})};
    for (int i = 0; i < 14; ++i) {
        entries.push_back(inner(std::to_string(i)));
        for (int handle = 1; handle <= 8; ++handle)
            entries.push_back(
                rule(handle, {perhaps, jump(std::to_string(i + 1))}, std::to_string(i)));
    }
    const FilterOutcome multiplied = outcome(accepting(entries));
    CHECK(multiplied.by == "more rules than are looked through");
    CHECK(multiplied.verdict == Verdict::may_be_dropped);
}

TEST_CASE("a list that is none is an error with its reason") {
    const auto reason = [](const std::string& json) {
        const auto parsed = PacketFilter::parse(json);
        return parsed ? std::string{} : parsed.error().message;
    };
    for (const char* const json : {"", "nft: command not found", "{", "[]", "{\"nftables\": [0]}",
                                   "{}", R"({"nftables": [{"chain": {"family": "ip"}}]})",
                                   R"({"nftables": [{"chain": {"family": 4}}]})",
                                   R"({"nftables": [{"rule": {"family": "ip"}}]})",
                                   R"({"nftables": [{"chain": {"family": "ip", "table": "f",
                                       "name": "in", "prio": 1e300}}]})"})
        CHECK_MESSAGE(reason(json).starts_with("nftables: the list of rules: "), json);
    CHECK(reason("\"" + std::string(100000, 'a')).size() < 300);
    const std::size_t deep = 200000;
    CHECK_FALSE(reason(std::string(deep, '[')).empty());
    CHECK_FALSE(reason(std::string(deep, '[') + std::string(deep, ']')).empty());
}

TEST_CASE("statements in a form that is not known match perhaps") {
    std::string deep;
    for (int i = 0; i < 100000; ++i) deep += R"({"set": [)";
    for (int i = 0; i < 100000; ++i) deep += "]}";
    for (const std::string& statement :
         {std::string{"0"},
          std::string{"null"},
          std::string{"{}"},
          std::string{"[]"},
          std::string{R"({"match": null})"},
          std::string{R"({"match": {"op": "=="}})"},
          std::string{R"({"xt": null})"},
          std::string{R"({"vmap": {"key": 1}})"},
          match(reply_port, "==", deep),
          match(deep, "==", "1"),
          match(reply_port, "==", "\"@\""),
          match(reply_port, "==", R"({"range": [1]})"),
          match(source, "==", R"({"prefix": 1})"),
          match(source, "==", R"({"prefix": {"addr": "10.0.0.0", "len": 33}})"),
          match(source, "==", R"({"prefix": {"addr": "10.0.0.0", "len": 264}})"),
          match(source, "==", R"({"prefix": {"addr": "10.0.0.0", "len": 1e300}})"),
          match(reply_port, "like", "53"),
          vmap(reply_port, R"({"set": [[53, {}]]})"),
          vmap(reply_port, R"({"set": [53]})"),
          std::string{R"({"jump": {"to": "in"}})"}})
        CHECK_MESSAGE(verdict({statement}) == Verdict::may_be_dropped, statement.substr(0, 80));
}

}  // namespace
}  // namespace udpproxy
