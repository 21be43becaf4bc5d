// One datagram through the rules. Every byte of a register is known or not; a test of bytes that
// are not known is "perhaps", and so is all that follows from it.
#include "udpproxy/host/packet_filter.hpp"

// Before the kernel's headers, which give way to it.
#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <array>
#include <optional>

#include "filter_bytes.hpp"

namespace udpproxy {

namespace {

using Bytes = FilterBytes;
using Answer = FilterAnswer;
using Kind = FilterStep::Kind;

constexpr std::size_t register_bytes = 80;  // 16 four-byte registers behind the verdict's 16 bytes
constexpr std::uint32_t rules_max =
    200000;                    // jumps in doubt can multiply the way through a large set of rules
constexpr int depth_max = 16;  // NFT_JUMP_STACK_SIZE

/// Walks one hook's chains with one datagram.
class Walk {
public:
    Walk(const PacketFilter& filter, FilterHook hook, const FilteredDatagram& datagram)
        : filter_(filter),
          hook_(hook),
          datagram_(datagram),
          network_(network_header(datagram)),
          transport_(transport_header(datagram)) {}

    void through_all(FilterOutcome& outcome) {
        for (const FilterChain& chain : filter_.chains) {
            const bool is_asked = chain.is_base &&
                                  chain.hook == static_cast<std::uint32_t>(hook_) &&
                                  has_family(chain);
            if (!is_asked || outcome.verdict == FilterOutcome::Verdict::is_dropped) continue;
            outcome_ = &outcome;
            certain_ = true;
            const End end = through(chain, 0);
            if (end != End::decided && chain.drops_by_policy) drop(chain.title() + ": policy drop");
        }
    }

private:
    enum class End : std::uint8_t { fell_through, returned, decided };

    [[nodiscard]] bool has_family(const FilterChain& chain) const {
        return chain.family == "inet" || (chain.family == "ip") == datagram_.from.address.is_ipv4();
    }

    /// From here on nothing is certain: what came before may have ended the walk, or may not.
    void drop(const std::string& by) {
        using Verdict = FilterOutcome::Verdict;
        if (outcome_->verdict == Verdict::is_dropped) return;
        const Verdict verdict = certain_ ? Verdict::is_dropped : Verdict::may_be_dropped;
        if (outcome_->verdict == Verdict::passes || verdict == Verdict::is_dropped)
            outcome_->by = by;
        outcome_->verdict = verdict;
    }

    End through(const FilterChain& chain, int depth) {
        for (const FilterRule& rule : chain.rules) {
            const End end = through(chain, rule, depth);
            if (end != End::fell_through) return end;
        }
        return End::fell_through;
    }

    End through(const FilterChain& chain, const FilterRule& rule, int depth) {
        if (++rules_seen_ > rules_max) {
            certain_ = false;
            drop("more rules than are looked through");
            return End::decided;
        }
        registers_.fill(std::nullopt);
        Answer matches = Answer::yes;
        for (const FilterStep& step : rule.steps) {
            std::int32_t verdict = step.verdict;
            std::string target = step.name;
            bool decides = step.kind == Kind::verdict;
            const Answer answer = ask(chain, step, verdict, target, decides);
            if (answer == Answer::no) return End::fell_through;
            matches = std::min(matches, answer);
            const std::string by = chain.title() + ": rule " + std::to_string(rule.handle);
            if (step.kind == Kind::translate) {
                outcome_->may_be_translated = true;
                outcome_->translated_by = by;
                return End::fell_through;
            }
            if (step.kind == Kind::reject) {
                verdict = NF_DROP;
                decides = true;
            }
            if (decides) return decide(chain, by, verdict, target, matches, depth);
        }
        return End::fell_through;
    }

    End decide(const FilterChain& chain, const std::string& by, std::int32_t verdict,
               const std::string& target, Answer matches, int depth) {
        const bool was_certain = certain_;
        certain_ = certain_ && matches == Answer::yes;
        End end = End::fell_through;
        if (verdict == NF_DROP) {
            drop(by);
            end = End::decided;
        } else if (verdict == NF_ACCEPT || verdict == NF_QUEUE || verdict == NF_STOLEN) {
            end = End::decided;
        } else if (verdict == NFT_RETURN) {
            end = End::returned;
        } else if ((verdict == NFT_JUMP || verdict == NFT_GOTO) && depth < depth_max) {
            for (const FilterChain& next : filter_.chains) {
                if (next.family != chain.family || next.table != chain.table || next.name != target)
                    continue;
                end = through(next, depth + 1);
                if (end == End::returned) end = End::fell_through;
                // The end of a chain that was gone to is the end of this one as well.
                if (end == End::fell_through && verdict == NFT_GOTO) end = End::returned;
            }
        }
        if (matches == Answer::yes) return end;
        // The rule may not match: the walk goes on, and no longer knows whether the datagram comes
        // that far.
        certain_ = was_certain && end == End::fell_through && verdict != NFT_JUMP;
        return End::fell_through;
    }

    Answer ask(const FilterChain& chain, const FilterStep& step, std::int32_t& verdict,
               std::string& target, bool& decides) {
        switch (step.kind) {
            case Kind::load_meta:
                load(step.to, meta(step.key));
                return Answer::yes;
            case Kind::load_ct:
                load(step.to,
                     step.key == NFT_CT_STATE ? filter_bytes(conntrack_state()) : Bytes(16));
                return Answer::yes;
            case Kind::load_payload:
                load(step.to, payload(step));
                return Answer::yes;
            case Kind::bitwise:
                return mask(step);
            case Kind::compare:
                return compare(step);
            case Kind::range:
                return in_range(step);
            case Kind::lookup:
                return look_up(chain, step, verdict, target, decides);
            case Kind::unknown:
                return Answer::perhaps;
            case Kind::verdict:
            case Kind::reject:
            case Kind::translate:
            case Kind::neutral:
                break;
        }
        return Answer::yes;
    }

    /// NFT_REG_1 to 4 are 16 bytes each, the 32-bit ones count from 8 on and share their room.
    static std::size_t place_of(std::uint32_t number) {
        if (number >= NFT_REG_1 && number <= NFT_REG_4) return (number - NFT_REG_1) * 16;
        return number >= NFT_REG32_00 && number <= NFT_REG32_15 ? (number - NFT_REG32_00) * 4
                                                                : register_bytes;
    }

    void load(std::uint32_t number, const Bytes& bytes) {
        const std::size_t place = place_of(number);
        for (std::size_t i = 0; i < bytes.size() && place + i < registers_.size(); ++i)
            registers_[place + i] = bytes[i];
    }

    [[nodiscard]] Bytes read(std::uint32_t number, std::size_t length) const {
        Bytes bytes(length);
        const std::size_t place = place_of(number);
        for (std::size_t i = 0; i < length && place + i < registers_.size(); ++i)
            bytes[i] = registers_[place + i];
        return bytes;
    }

    [[nodiscard]] std::uint32_t conntrack_state() const {
        return datagram_.is_of_known_flow ? 2 : 8;
    }  // NF_CT_STATE_BIT of established, new

    /// The one that the datagram comes in or goes out by; the other is none.
    static bool is_interface(std::uint32_t key, bool comes_in) {
        return key == (comes_in ? NFT_META_IIF : NFT_META_OIF) ||
               key == (comes_in ? NFT_META_IIFNAME : NFT_META_OIFNAME);
    }

    [[nodiscard]] Bytes meta(std::uint32_t key) const {
        const bool comes_in = hook_ == FilterHook::prerouting || hook_ == FilterHook::input;
        const bool is_ipv4 = datagram_.from.address.is_ipv4();
        if (is_interface(key, comes_in) && datagram_.interface_name.empty()) return Bytes(16);
        std::array<char, 16> name{};
        switch (key) {
            case NFT_META_L4PROTO:
                return filter_bytes(std::uint8_t{IPPROTO_UDP});
            case NFT_META_NFPROTO:
                return filter_bytes(
                    static_cast<std::uint8_t>(is_ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6));
            case NFT_META_PROTOCOL:
                return filter_bytes(htons(is_ipv4 ? 0x0800 : 0x86dd));
            case NFT_META_IIF:
            case NFT_META_OIF:
                return filter_bytes(is_interface(key, comes_in) ? datagram_.interface_index : 0U);
            case NFT_META_IIFNAME:
            case NFT_META_OIFNAME: {
                if (is_interface(key, comes_in))
                    datagram_.interface_name.copy(name.data(), name.size() - 1);
                return filter_bytes(name);
            }
            default:
                return Bytes(16);
        }
    }

    [[nodiscard]] Bytes payload(const FilterStep& step) const {
        Bytes bytes(std::min<std::size_t>(step.length, 64));
        const Bytes* header = step.base == NFT_PAYLOAD_NETWORK_HEADER     ? &network_
                              : step.base == NFT_PAYLOAD_TRANSPORT_HEADER ? &transport_
                                                                          : nullptr;
        for (std::size_t i = 0;
             header != nullptr && i < bytes.size() && step.offset + i < header->size(); ++i)
            bytes[i] = (*header)[step.offset + i];
        return bytes;
    }

    Answer mask(const FilterStep& step) {
        Bytes bytes = read(step.from, step.data.size());
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            const std::uint8_t flips = i < step.data2.size() ? step.data2[i] : std::uint8_t{0};
            if (step.data[i] == 0)
                bytes[i] = flips;
            else if (bytes[i])
                bytes[i] = static_cast<std::uint8_t>((*bytes[i] & step.data[i]) ^ flips);
        }
        load(step.to, bytes);
        return Answer::yes;
    }

    Answer compare(const FilterStep& step) const {
        const Bytes bytes = read(step.from, step.data.size());
        if (step.op == NFT_CMP_EQ) return equals(bytes, step.data);
        if (step.op == NFT_CMP_NEQ) return negated(equals(bytes, step.data));
        const std::optional<int> sign = order(bytes, step.data);
        if (!sign) return Answer::perhaps;
        return answer_of(step.op == NFT_CMP_LT    ? *sign < 0
                         : step.op == NFT_CMP_LTE ? *sign <= 0
                         : step.op == NFT_CMP_GT  ? *sign > 0
                                                  : *sign >= 0);
    }

    Answer in_range(const FilterStep& step) const {
        const Answer answer = is_between(read(step.from, step.data.size()), step.data, step.data2);
        return step.op == NFT_RANGE_NEQ ? negated(answer) : answer;
    }

    Answer look_up(const FilterChain& chain, const FilterStep& step, std::int32_t& verdict,
                   std::string& target, bool& decides) const {
        const bool is_map = step.op != 0;
        const auto found = filter_.sets.find(chain.family + ' ' + chain.table + ' ' + step.name);
        if (found == filter_.sets.end() || (is_map && step.to != NFT_REG_VERDICT))
            return Answer::perhaps;
        const auto [answer, element] = find(found->second, step.from);
        if (is_map && answer == Answer::yes && element != nullptr) {
            verdict = element->verdict;
            target = element->chain;
            decides = true;
        }
        return step.is_negated ? negated(answer) : answer;
    }

    /// In a set of intervals each start holds until the next element, which is another start or an
    /// end.
    [[nodiscard]] std::pair<Answer, const FilterSet::Element*> find(const FilterSet& set,
                                                                    std::uint32_t from) const {
        const FilterSet::Element* holder = nullptr;
        Answer answer = Answer::no;
        std::vector<const FilterSet::Element*> sorted;
        for (const FilterSet::Element& element : set.elements) sorted.push_back(&element);
        std::stable_sort(sorted.begin(), sorted.end(),
                         [](const auto* a, const auto* b) { return a->key < b->key; });
        for (const FilterSet::Element* element : sorted) {
            const Bytes bytes = read(from, element->key.size());
            if (!set.is_interval) {
                const Answer equal = equals(bytes, element->key);
                if (equal > answer) holder = element;
                answer = std::max(answer, equal);
                continue;
            }
            const std::optional<int> sign = order(bytes, element->key);
            if (!sign) return {Answer::perhaps, nullptr};
            if (*sign >= 0) holder = element;
        }
        if (!set.is_interval) return {answer, holder};
        if (holder == nullptr || holder->ends_interval) return {Answer::no, nullptr};
        return {Answer::yes, holder};
    }

    const PacketFilter& filter_;
    FilterHook hook_;
    const FilteredDatagram& datagram_;
    Bytes network_;
    Bytes transport_;
    std::array<std::optional<std::uint8_t>, register_bytes> registers_{};  // of the rule at hand
    FilterOutcome* outcome_ = nullptr;
    bool certain_ = true;
    std::uint32_t rules_seen_ = 0;
};

}  // namespace

FilterOutcome judge(const PacketFilter& filter, const std::vector<FilterHook>& hooks,
                    const FilteredDatagram& datagram) {
    FilterOutcome outcome;
    for (const FilterHook hook : hooks) Walk{filter, hook, datagram}.through_all(outcome);
    return outcome;
}

}  // namespace udpproxy
