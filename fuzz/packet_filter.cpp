// nft's JSON and what its rules do to datagrams: anything is an error of one line or a filter whose
// outcomes agree with each other. The datagram is made of the first bytes, the rest is the JSON.
#include "udpproxy/host/packet_filter.hpp"

#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

void packet_filter(Bytes bytes) {
    using Verdict = FilterOutcome::Verdict;
    Input input(bytes);
    FilteredDatagram datagram;
    const Family family = input.flag() ? Family::ipv4 : Family::ipv6;
    const bool is_known = input.flag();
    datagram.from = {is_known ? input.address(family) : Address::any(family), 0,
                     static_cast<std::uint16_t>(is_known ? input.number<std::uint16_t>() : 0)};
    datagram.to = {input.address(family), 0, input.number<std::uint16_t>()};
    datagram.is_of_known_flow = input.flag();
    if (input.flag()) datagram.interface_name = "eth0";

    const auto filter = PacketFilter::parse(input.rest());
    if (!filter) {
        UDPPROXY_ASSERT(filter.error().message.starts_with("nftables: "));
        return;
    }
    const std::vector<FilterHook> hooks{FilterHook::prerouting, FilterHook::input,
                                        FilterHook::output, FilterHook::postrouting};
    auto worst = Verdict::passes;
    bool may_be_translated = false;
    for (const FilterHook hook : hooks) {
        const FilterOutcome one = filter->decide({hook}, datagram);
        worst = std::max(worst, one.verdict);
        may_be_translated = may_be_translated || one.may_be_translated;
        UDPPROXY_ASSERT((one.verdict == Verdict::passes) == one.by.empty());
        UDPPROXY_ASSERT(one.may_be_translated == !one.translated_by.empty());
        const FilterOutcome again = filter->decide({hook}, datagram);
        UDPPROXY_ASSERT(again.verdict == one.verdict && again.by == one.by);
    }
    const FilterOutcome all = filter->decide(hooks, datagram);
    UDPPROXY_ASSERT((all.verdict == Verdict::passes) == all.by.empty());
    // A hook sees only what the hooks before it let through, but none makes a drop undone.
    UDPPROXY_ASSERT(worst == Verdict::passes || all.verdict != Verdict::passes);
    UDPPROXY_ASSERT(filter->decide({}, datagram).verdict == Verdict::passes);
    if (filter->chains() == 0)
        UDPPROXY_ASSERT(all.verdict == Verdict::passes && !all.may_be_translated);
}

}  // namespace udpproxy::fuzz
