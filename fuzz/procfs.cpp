// Files of /proc: what cannot be read is left out, and what was written of facts is read as these
// facts. The first byte chooses.
#include "udpproxy/host/procfs.hpp"

#include <fmt/format.h>

#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

namespace {

void read_any(std::string_view text) {
    for (const PortRange& range : parse_port_list(text)) UDPPROXY_ASSERT(range.first <= range.last);
    const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
    UDPPROXY_ASSERT(parse_sockets(text).size() <= lines);
    (void)find_counter(text, "Udp", "RcvbufErrors");
    (void)find_counter6(text, "Udp6RcvbufErrors");
    (void)find_mask(text, "CapEff:");
}

void read_written(Input& input) {
    std::vector<PortRange> ranges;
    std::string list;
    for (std::uint32_t i = input.below(8); i > 0; --i) {
        PortRange range{input.number<std::uint16_t>(), input.number<std::uint16_t>()};
        if (range.first > range.last) std::swap(range.first, range.last);
        list += fmt::format("{}{}", ranges.empty() ? "" : ",", range.first);
        if (range.first != range.last) list += fmt::format("-{}", range.last);
        ranges.push_back(range);
    }
    UDPPROXY_ASSERT(parse_port_list(list) == ranges);

    const auto value = input.number<std::uint64_t>();
    const auto other = input.number<std::uint64_t>();
    UDPPROXY_ASSERT(find_mask(fmt::format("Name:\tx\nCapEff:\t{:016x}\n", value), "CapEff:") ==
                    value);
    UDPPROXY_ASSERT(find_counter6(fmt::format("A {}\nB {}\n", other, value), "B") == value);
    UDPPROXY_ASSERT(find_counter(fmt::format("Ip: X\nIp: 1\nUdp: A B\nUdp: {} {}\n", other, value),
                                 "Udp", "B") == value);

    // As net/ipv4/udp.c and net/ipv6/udp.c print them on this machine.
    const Endpoint local{input.address(), 0, input.number<std::uint16_t>()};
    std::string address;
    for (std::size_t at = local.address.is_ipv4() ? 12 : 0; at < 16; at += 4) {
        std::uint32_t group = 0;
        std::memcpy(&group, local.address.bytes.data() + at, sizeof group);
        address += fmt::format("{:08X}", group);
    }
    const auto sockets = parse_sockets(
        fmt::format("  sl  local_address\n  1: {}:{:04X} 0:0 07 0:0 00:0 0 0 0 {} 2 0 {}\n",
                    address, local.port, value, other));
    UDPPROXY_ASSERT(sockets.size() == 1 && sockets[0].local == local);
    UDPPROXY_ASSERT(sockets[0].inode == value && sockets[0].drops == other);
}

}  // namespace

void procfs(Bytes bytes) {
    Input input(bytes);
    if (input.flag())
        read_written(input);
    else
        read_any(input.rest());
}

}  // namespace udpproxy::fuzz
