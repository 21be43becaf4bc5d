// Control messages: any bytes are read within their bounds, as an independent walk reads them; what
// is written is a well-formed row of messages that says what was asked for.
#include "udpproxy/net/cmsg.hpp"

#include <netinet/udp.h>

#include <memory>
#include <optional>
#include <vector>

#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

namespace {

constexpr std::size_t header_bytes = CMSG_LEN(0);

std::size_t aligned(std::size_t bytes) { return CMSG_ALIGN(bytes); }

/// What follows the headers, one after the other, until one does not fit.
struct Message {
    int level = 0;
    int type = 0;
    Bytes value;
};
std::vector<Message> messages_of(Bytes control) {
    std::vector<Message> messages;
    while (control.size() >= header_bytes) {
        cmsghdr header{};
        std::memcpy(&header, control.data(), sizeof header);
        if (header.cmsg_len < header_bytes || header.cmsg_len > control.size()) break;
        messages.push_back({header.cmsg_level, header.cmsg_type,
                            control.subspan(header_bytes, header.cmsg_len - header_bytes)});
        if (aligned(header.cmsg_len) > control.size()) break;
        control = control.subspan(aligned(header.cmsg_len));
    }
    return messages;
}

template <class T>
std::optional<T> value_of(const Message& message, int level, int type) {
    T value{};
    if (message.level != level || message.type != type || message.value.size() < sizeof value)
        return std::nullopt;
    std::memcpy(&value, message.value.data(), sizeof value);
    return value;
}

void read_any(Bytes control) {
    // A block of its own, so that the sanitiser sees a step beyond its end.
    const auto block = std::make_unique<std::uint8_t[]>(control.size());
    std::copy(control.begin(), control.end(), block.get());
    const ControlIn found = read_control(block.get(), control.size());
    ControlIn expected;
    for (const Message& message : messages_of(control)) {
        if (const auto info = value_of<in_pktinfo>(message, IPPROTO_IP, IP_PKTINFO)) {
            expected.local = Address::ipv4(info->ipi_spec_dst.s_addr);
            expected.is_copied = info->ipi_addr.s_addr != info->ipi_spec_dst.s_addr;
            expected.interface_index = static_cast<std::uint32_t>(info->ipi_ifindex);
        } else if (const auto info6 = value_of<in6_pktinfo>(message, IPPROTO_IPV6, IPV6_PKTINFO)) {
            // No answer can leave from a multicast address.
            const Address written_to = Address::ipv6(info6->ipi6_addr);
            expected.is_copied = written_to.is_multicast();
            expected.local = expected.is_copied ? Address{} : written_to;
            expected.interface_index = info6->ipi6_ifindex;
        } else if (const auto tos = value_of<std::uint8_t>(message, IPPROTO_IP, IP_TOS)) {
            expected.tos = *tos;
        } else if (const auto traffic_class = value_of<int>(message, IPPROTO_IPV6, IPV6_TCLASS)) {
            expected.tos = static_cast<std::uint8_t>(*traffic_class);
        } else if (const auto segment = value_of<int>(message, IPPROTO_UDP, UDP_GRO)) {
            expected.segment_bytes = static_cast<std::uint32_t>(*segment);
        }
    }
    UDPPROXY_ASSERT(found.local == expected.local && found.tos == expected.tos);
    UDPPROXY_ASSERT(found.is_copied == expected.is_copied &&
                    found.interface_index == expected.interface_index);
    UDPPROXY_ASSERT(found.segment_bytes == expected.segment_bytes);
}

void write_one(Input& input) {
    ControlOut wanted;
    wanted.family = input.flag() ? Family::ipv4 : Family::ipv6;
    wanted.from = input.flag() ? input.address(wanted.family) : Address::any(wanted.family);
    wanted.interface_index = input.number<std::uint32_t>();
    wanted.tos = input.number<std::uint8_t>();
    wanted.segment_bytes = input.number<std::uint16_t>();
    alignas(cmsghdr) std::array<std::uint8_t, control_bytes_max> buffer{};
    const std::size_t bytes = write_control(wanted, buffer.data());
    UDPPROXY_ASSERT(bytes <= buffer.size());
    const bool ipv4 = wanted.family == Family::ipv4;
    ControlOut written;
    written.from = Address::any(wanted.family);
    std::size_t used = 0;
    for (const Message& message : messages_of(Bytes{buffer}.first(bytes))) {
        used += aligned(header_bytes + message.value.size());
        if (const auto info = value_of<in_pktinfo>(message, IPPROTO_IP, IP_PKTINFO))
            written.from = Address::ipv4(info->ipi_spec_dst.s_addr);
        if (const auto info = value_of<in6_pktinfo>(message, IPPROTO_IPV6, IPV6_PKTINFO)) {
            written.from = Address::ipv6(info->ipi6_addr);
            UDPPROXY_ASSERT(info->ipi6_ifindex == wanted.interface_index);
        }
        if (const auto tos = value_of<int>(message, ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                                           ipv4 ? int{IP_TOS} : int{IPV6_TCLASS}))
            written.tos = static_cast<std::uint8_t>(*tos);
        if (const auto segment = value_of<std::uint16_t>(message, IPPROTO_UDP, UDP_SEGMENT))
            written.segment_bytes = *segment;
    }
    UDPPROXY_ASSERT(used == bytes && written.from == wanted.from && written.tos == wanted.tos &&
                    written.segment_bytes == wanted.segment_bytes);
}

}  // namespace

void control(Bytes bytes) {
    Input input(bytes);
    if (input.flag())
        write_one(input);
    else
        read_any(bytes.subspan(std::min<std::size_t>(1, bytes.size())));
}

}  // namespace udpproxy::fuzz
