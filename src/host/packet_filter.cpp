// Evaluates rules, as libnftables-json(5) writes them, for one datagram. A rule matches, does not
// match, or perhaps matches: anything unknown or written in another way is "perhaps".
#include "udpproxy/host/packet_filter.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <variant>

namespace udpproxy {

using Json = nlohmann::json;

namespace {

struct Rule {
    std::int64_t handle = 0;
    const Json* statements = nullptr;
};

struct Chain {
    std::string family;
    std::string table;  // with its family, as `inet filter`
    std::string title;  // `inet filter input`
    std::string hook;   // empty: not a base chain
    std::int64_t priority = 0;
    bool drops_by_policy = false;
    std::vector<Rule> rules;
};

enum class Answer : std::uint8_t { no, perhaps, yes };

Answer answer_of(bool truth) { return truth ? Answer::yes : Answer::no; }
Answer negated(Answer answer) {
    return answer == Answer::perhaps ? answer : answer_of(answer == Answer::no);
}

bool is_any(std::string_view name, std::initializer_list<std::string_view> of) {
    return std::find(of.begin(), of.end(), name) != of.end();
}

/// The name of the member that tells the kind of an object. at() throws if there is none.
std::string kind_of(const Json& object) {
    return object.is_object() && !object.empty() ? object.begin().key() : "";
}

/// nft writes whole numbers; anything else throws, where get() would convert it somehow.
std::int64_t integer_of(const Json& value) { return value.get_ref<const std::int64_t&>(); }

struct Unknown {};  // the datagram does not decide the value
struct Foreign {};  // of another protocol or family than the datagram's: no comparison holds
using Operand = std::variant<Unknown, Foreign, std::string, std::uint16_t, Address>;

/// -1, 0 or 1; nothing where the two cannot be compared. Names can only be equal or not.
std::optional<int> order(const Operand& operand, const Json& value) {
    const auto sign = [](const auto& a, const auto& b) { return a < b ? -1 : a == b ? 0 : 1; };
    if (const auto* port = std::get_if<std::uint16_t>(&operand); port && value.is_number_integer())
        return sign(std::int64_t{*port}, value.get<std::int64_t>());
    if (!value.is_string()) return std::nullopt;
    const std::string& written = value.get_ref<const std::string&>();
    if (const auto* name = std::get_if<std::string>(&operand)) {
        if (!written.ends_with('*')) return *name == written ? 0 : 1;
        return name->starts_with(std::string_view{written}.substr(0, written.size() - 1)) ? 0 : 1;
    }
    const auto address = parse_address(written);
    if (!address || !std::holds_alternative<Address>(operand)) return std::nullopt;
    return sign(std::get<Address>(operand), *address);
}

/// `element` is a value, a prefix or a range, alone or in a set.
Answer equals(const Operand& operand, const Json& element) {
    // In a set, an element with a comment, a counter or a timeout is wrapped.
    const Json& bare = element.contains("elem") ? element.at("elem").at("val") : element;
    if (std::holds_alternative<Unknown>(operand)) return Answer::perhaps;
    if (bare.contains("prefix")) {
        const auto first = parse_address(bare.at("prefix").at("addr").get<std::string>());
        const std::int64_t bits = integer_of(bare.at("prefix").at("len"));
        if (!first || bits < 0 || bits > (first->is_ipv4() ? 32 : 128) ||
            !std::holds_alternative<Address>(operand))
            return Answer::perhaps;
        const Prefix prefix{*first, static_cast<std::uint8_t>(bits)};
        return answer_of(prefix.contains(std::get<Address>(operand)));
    }
    if (bare.contains("range")) {
        const auto low = order(operand, bare.at("range").at(0));
        const auto high = order(operand, bare.at("range").at(1));
        return low && high ? answer_of(*low >= 0 && *high <= 0) : Answer::perhaps;
    }
    const auto sign = order(operand, bare);
    return sign ? answer_of(*sign == 0) : Answer::perhaps;
}

}  // namespace

struct PacketFilter::Rules {
    Json document;                              // the members below point into it
    std::vector<Chain> chains;                  // by priority
    std::map<std::string, std::size_t> places;  // in `chains`, by title
    std::map<std::string, const Json*> sets;    // elements by `family table @name`
};

namespace {

/// Walks the chains of some hooks with one datagram.
class Walk {
public:
    Walk(const PacketFilter::Rules& rules, const FilteredDatagram& datagram)
        : rules_(rules), datagram_(datagram), is_ipv4_(datagram.from.address.is_ipv4()) {}

    void through(FilterHook hook) {
        constexpr const char* names[] = {"prerouting", "input", "output", "postrouting"};
        comes_in_ = hook == FilterHook::prerouting || hook == FilterHook::input;
        for (const Chain& chain : rules_.chains) {
            const bool has_family = chain.family == "inet" || (chain.family == "ip") == is_ipv4_;
            if (!has_family || chain.hook != names[static_cast<std::size_t>(hook)]) continue;
            const Answer ends = through(chain, Answer::yes, 0);
            if (chain.drops_by_policy) drop(chain.title + ": policy drop", ends);
        }
    }
    [[nodiscard]] FilterOutcome outcome() const { return outcome_; }

private:
    static constexpr std::uint16_t udp = IPPROTO_UDP;
    static constexpr int depth_max = 16;           // NFT_JUMP_STACK_SIZE
    static constexpr unsigned steps_max = 500000;  // rules and elements: jumps can multiply them

    /// A rule that the walk reaches.
    struct Visit {
        const Chain& chain;
        const Rule& rule;
        Answer is_reached;  // by the datagram, unless it was dropped before
        int depth;

        [[nodiscard]] std::string name() const {
            return fmt::format("{}: rule {}", chain.title, rule.handle);
        }
    };
    /// Where the datagram goes after a rule that does not drop it.
    struct Fate {
        Answer goes_on = Answer::yes;  // to the next rule
        Answer returns = Answer::no;   // to the chain that jumped here
    };

    bool is_exhausted() {
        if (++steps_ <= steps_max) return false;
        drop("more rules than are looked through", Answer::perhaps);
        return true;
    }

    void drop(const std::string& by, Answer is_reached) {
        using Verdict = FilterOutcome::Verdict;
        if (is_reached == Answer::no || outcome_.verdict == Verdict::is_dropped) return;
        const bool is_sure = is_reached == Answer::yes;
        if (outcome_.verdict == Verdict::passes || is_sure) outcome_.by = by;
        outcome_.verdict = is_sure ? Verdict::is_dropped : Verdict::may_be_dropped;
    }

    /// Whether a datagram that enters the chain leaves it at its end.
    Answer through(const Chain& chain, Answer is_reached, int depth) {
        Fate all;
        for (const Rule& rule : chain.rules) {
            if (all.goes_on == Answer::no || is_exhausted()) break;
            const Fate one = at({chain, rule, std::min(is_reached, all.goes_on), depth});
            all.returns = std::max(all.returns, std::min(all.goes_on, one.returns));
            all.goes_on = std::min(all.goes_on, one.goes_on);
        }
        return std::max(all.returns, all.goes_on);
    }

    Fate at(const Visit& visit) {
        Answer matches = Answer::yes;
        for (const Json& statement : *visit.rule.statements) {
            if (matches == Answer::no) break;
            try {
                const std::string key = kind_of(statement);
                const Json& body = statement.at(key);
                const std::string kind = key == "xt" ? kind_of_xt(body.at("name")) : key;
                if (kind == "match") {
                    matches = std::min(matches, holds(visit.chain, body));
                } else if (kind == "vmap") {
                    return mapped(visit, body, matches);
                } else if (is_any(kind, {"accept", "drop", "reject", "queue", "return", "jump",
                                         "goto"})) {
                    return decided(visit, kind, body, matches);
                } else if (is_any(kind, {"masquerade", "snat", "dnat", "redirect"})) {
                    outcome_.may_be_translated = true;
                    outcome_.translated_by = visit.name();
                    return {};
                } else if (kind == "notrack") {
                    is_tracked_ = false;
                } else if (!is_any(kind, {"counter", "log", "mangle", "continue"})) {
                    matches = Answer::perhaps;
                }
            } catch (const Json::exception&) {
                matches = std::min(matches, Answer::perhaps);
            }
        }
        return {};
    }

    /// The matches and targets of iptables are listed under nftables' names for them.
    static std::string kind_of_xt(const std::string& name) {
        if (is_any(name, {"comment", "LOG"})) return "log";
        if (is_any(name, {"MASQUERADE", "SNAT", "DNAT", "REDIRECT"})) return "masquerade";
        return name == "REJECT" ? "reject" : "xt";
    }

    Fate decided(const Visit& visit, const std::string& verdict, const Json& body, Answer matches) {
        Fate fate{Answer::no, Answer::no};
        const Answer is_met = std::min(visit.is_reached, matches);
        if (is_any(verdict, {"drop", "reject"})) {
            drop(visit.name(), is_met);
            // All other outcomes of the rule assume that it does not drop the datagram.
            if (matches == Answer::perhaps) return {};
        } else if (is_any(verdict, {"jump", "goto"})) {
            const auto place =
                rules_.places.find(visit.chain.table + ' ' + body.at("target").get<std::string>());
            const bool is_known = place != rules_.places.end() && visit.depth < depth_max;
            const Answer ends = is_known
                                    ? through(rules_.chains[place->second], is_met, visit.depth + 1)
                                    : Answer::perhaps;
            (verdict == "jump" ? fate.goes_on : fate.returns) = ends;
        } else if (verdict == "return") {
            fate.returns = Answer::yes;
        }
        if (matches == Answer::yes) return fate;
        fate.goes_on = std::max(fate.goes_on, Answer::perhaps);
        fate.returns = std::min(fate.returns, Answer::perhaps);
        return fate;
    }

    /// Looks up a map of verdicts. The first element that surely matches ends the search.
    Fate mapped(const Visit& visit, const Json& map, Answer matches) {
        const Json* const elements = elements_of(visit.chain, map.at("data"));
        const Operand key = operand_of(map.at("key"));
        Fate fate;
        if (elements == nullptr) fate.goes_on = Answer::perhaps;
        if (elements == nullptr) return fate;
        for (const Json& element : *elements) {
            if (is_exhausted()) break;
            const Answer answer = std::min(matches, equals(key, element.at(0)));
            if (answer == Answer::no) continue;
            const std::string verdict = kind_of(element.at(1));
            const Fate one = decided(visit, verdict, element.at(1).at(verdict), answer);
            if (answer == Answer::yes) return one;
            fate = {std::min(fate.goes_on, one.goes_on), std::max(fate.returns, one.returns)};
        }
        return fate;
    }

    Answer holds(const Chain& chain, const Json& match) {
        const Operand left = operand_of(match.at("left"));
        const Json& right = match.at("right");
        const std::string op = match.at("op");
        if (std::holds_alternative<Foreign>(left)) return Answer::no;
        if (is_any(op, {"==", "in"})) return is_in(chain, left, right);
        if (is_any(op, {"!=", "!"})) return negated(is_in(chain, left, right));
        const std::optional<int> sign = order(left, right);
        if (!sign || std::holds_alternative<std::string>(left)) return Answer::perhaps;
        if (op == "<") return answer_of(*sign < 0);
        if (op == "<=") return answer_of(*sign <= 0);
        if (op == ">") return answer_of(*sign > 0);
        return op == ">=" ? answer_of(*sign >= 0) : Answer::perhaps;
    }

    Answer is_in(const Chain& chain, const Operand& operand, const Json& right) {
        const bool is_named =
            right.is_string() && right.get_ref<const std::string&>().starts_with('@');
        if (!right.is_array() && !right.contains("set") && !is_named) return equals(operand, right);
        const Json* const elements = elements_of(chain, right);
        if (elements == nullptr) return Answer::perhaps;
        if (std::holds_alternative<Unknown>(operand) && !elements->empty()) return Answer::perhaps;
        Answer answer = Answer::no;
        for (const Json& element : *elements) {
            if (answer == Answer::yes || is_exhausted()) break;
            answer = std::max(answer, equals(operand, element));
        }
        return answer;
    }

    /// The elements of an anonymous set, of a named set (`@name`), or of a list of flags.
    [[nodiscard]] const Json* elements_of(const Chain& chain, const Json& set) const {
        if (!set.is_string()) return set.is_array() ? &set : &set.at("set");
        const auto found = rules_.sets.find(chain.table + ' ' + set.get<std::string>());
        return found != rules_.sets.end() ? found->second : nullptr;
    }

    [[nodiscard]] Operand operand_of(const Json& left) const {
        if (left.contains("meta")) return meta_of(left.at("meta").at("key").get<std::string>());
        if (left.contains("payload")) return payload_of(left.at("payload"));
        if (!left.contains("ct") || left.at("ct").at("key") != "state" || !is_tracked_)
            return Unknown{};
        return std::string{datagram_.is_of_known_flow ? "established" : "new"};
    }

    [[nodiscard]] Operand meta_of(const std::string& key) const {
        if (key == "l4proto") return udp;
        if (key == "nfproto") return std::string{is_ipv4_ ? "ipv4" : "ipv6"};
        if (key == "protocol") return std::string{is_ipv4_ ? "ip" : "ip6"};
        if (!is_any(key, {"iif", "iifname", "oif", "oifname"})) return Unknown{};
        // The datagram comes in or goes out by one interface; the other direction has none.
        if ((key.front() == 'i') != comes_in_) return std::string{};
        if (datagram_.interface_name.empty()) return Unknown{};
        return datagram_.interface_name;
    }

    [[nodiscard]] Operand payload_of(const Json& payload) const {
        const std::string protocol = payload.value("protocol", "");
        const std::string field = payload.value("field", "");
        const Endpoint& end = is_any(field, {"saddr", "sport"}) ? datagram_.from : datagram_.to;
        if (is_any(protocol, {"ip", "ip6"})) {
            if ((protocol == "ip") != is_ipv4_) return Foreign{};
            if (is_any(field, {"protocol", "nexthdr"})) return udp;
            if (!is_any(field, {"saddr", "daddr"}) || end.address.is_unspecified())
                return Unknown{};
            return end.address;
        }
        if (is_any(protocol, {"tcp", "sctp", "dccp", "icmp", "icmpv6", "igmp", "esp", "ah"}))
            return Foreign{};
        if (!is_any(protocol, {"udp", "th"}) || !is_any(field, {"sport", "dport"}) || end.port == 0)
            return Unknown{};
        return end.port;
    }

    const PacketFilter::Rules& rules_;
    const FilteredDatagram& datagram_;
    bool is_ipv4_;
    bool comes_in_ = false;
    bool is_tracked_ = true;
    unsigned steps_ = 0;
    FilterOutcome outcome_;
};

/// Adds a chain, or a named set or map, of a family that the proxy's datagrams can meet.
void add_chain_or_set(const Json& entry, PacketFilter::Rules& rules) {
    static const Json none = Json::array();
    const std::string kind = kind_of(entry);
    const Json& object = entry.at(kind);
    const std::string family = object.value("family", "");
    if (!is_any(family, {"ip", "ip6", "inet"}) || !is_any(kind, {"chain", "set", "map"})) return;
    const std::string table = family + ' ' + object.at("table").get<std::string>();
    const std::string name = object.at("name");
    if (kind == "chain")
        rules.chains.push_back({family,
                                table,
                                table + ' ' + name,
                                object.value("hook", ""),
                                object.contains("prio") ? integer_of(object.at("prio")) : 0,
                                object.value("policy", "") == "drop",
                                {}});
    else
        rules.sets[table + " @" + name] = object.contains("elem") ? &object.at("elem") : &none;
}

void add_rule(const Json& rule, PacketFilter::Rules& rules) {
    const auto place = rules.places.find(
        fmt::format("{} {} {}", rule.at("family").get<std::string>(),
                    rule.at("table").get<std::string>(), rule.at("chain").get<std::string>()));
    if (place == rules.places.end()) return;
    rules.chains[place->second].rules.push_back({integer_of(rule.at("handle")), &rule.at("expr")});
}

}  // namespace

PacketFilter::PacketFilter() : rules_(std::make_shared<const Rules>()) {}

Result<PacketFilter> PacketFilter::parse(std::string_view json) try {
    const auto rules = std::make_shared<Rules>();
    rules->document = Json::parse(json);
    const Json& list = rules->document.at("nftables");
    for (const Json& entry : list) add_chain_or_set(entry, *rules);
    std::stable_sort(rules->chains.begin(), rules->chains.end(),
                     [](const Chain& a, const Chain& b) { return a.priority < b.priority; });
    for (std::size_t i = 0; i < rules->chains.size(); ++i)
        rules->places[rules->chains[i].title] = i;
    for (const Json& entry : list)
        if (entry.contains("rule")) add_rule(entry.at("rule"), *rules);
    return PacketFilter{rules};
} catch (const Json::exception& error) {
    constexpr std::size_t shown_max = 200;  // what() quotes the input that was not understood
    return Error{"nftables: the list of rules: " + std::string{error.what()}.substr(0, shown_max)};
}

std::size_t PacketFilter::chains() const { return rules_->chains.size(); }

FilterOutcome PacketFilter::decide(const std::vector<FilterHook>& hooks,
                                   const FilteredDatagram& datagram) const {
    Walk walk{*rules_, datagram};
    for (const FilterHook hook : hooks) walk.through(hook);
    return walk.outcome();
}

}  // namespace udpproxy
