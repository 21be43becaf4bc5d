// Which control messages are read and written. No other file of the program uses the CMSG macros.
#include "udpproxy/net/cmsg.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cstring>
#include <optional>

namespace udpproxy {

namespace {

/// Nothing when the message is too short for the value.
template <class T>
std::optional<T> read_value(const cmsghdr* message) noexcept {
    T value{};
    if (message->cmsg_len < CMSG_LEN(sizeof value)) return std::nullopt;
    std::memcpy(&value, CMSG_DATA(message), sizeof value);
    return value;
}

template <class T>
cmsghdr* write_message(cmsghdr* message, int level, int type, const T& value) noexcept {
    message->cmsg_level = level;
    message->cmsg_type = type;
    message->cmsg_len = CMSG_LEN(sizeof value);
    std::memcpy(CMSG_DATA(message), &value, sizeof value);
    return reinterpret_cast<cmsghdr*>(reinterpret_cast<char*>(message) + CMSG_SPACE(sizeof value));
}

}  // namespace

ControlIn read_control(const void* control, std::size_t bytes) noexcept {
    ControlIn found;
    msghdr header{};
    header.msg_control = const_cast<void*>(control);
    header.msg_controllen = bytes;
    const char* const end = static_cast<const char*>(control) + bytes;
    for (cmsghdr* message = CMSG_FIRSTHDR(&header); message != nullptr;
         message = CMSG_NXTHDR(&header, message)) {
        // The kernel cuts the last message short where the buffer ends (MSG_CTRUNC).
        if (message->cmsg_len > static_cast<std::size_t>(end - reinterpret_cast<char*>(message)))
            break;
        if (message->cmsg_level == IPPROTO_IP) {
            if (message->cmsg_type == IP_TOS) {
                if (const auto tos = read_value<std::uint8_t>(message))
                    found.tos = *tos;  // one byte on the way in
            } else if (message->cmsg_type == IP_PKTINFO) {
                if (const auto info = read_value<in_pktinfo>(message)) {
                    // For a unicast datagram, both are the address the datagram was sent to; for
                    // any other, ipi_spec_dst is the address to answer from.
                    found.local = Address::ipv4(info->ipi_spec_dst.s_addr);
                    found.is_copied = info->ipi_addr.s_addr != info->ipi_spec_dst.s_addr;
                    if (info->ipi_ifindex == 0 && info->ipi_spec_dst.s_addr == 0) {
                        // It came before the socket asked (net/ipv4/ip_sockglue.c,
                        // ipv4_pktinfo_prepare), as it may to one that was handed over.
                        found.local = Address::ipv4(info->ipi_addr.s_addr);
                        found.is_copied = found.local.is_multicast() || found.local.is_broadcast();
                        if (found.is_copied) found.local = Address{};
                    }
                    found.interface_index = static_cast<std::uint32_t>(info->ipi_ifindex);
                }
            }
        } else if (message->cmsg_level == IPPROTO_IPV6) {
            if (message->cmsg_type == IPV6_TCLASS) {
                if (const auto traffic_class = read_value<int>(message))
                    found.tos = static_cast<std::uint8_t>(*traffic_class);
            } else if (message->cmsg_type == IPV6_PKTINFO) {
                if (const auto info = read_value<in6_pktinfo>(message)) {
                    found.local = Address::ipv6(info->ipi6_addr);
                    found.is_copied = found.local.is_multicast();
                    if (found.is_copied) found.local = Address{};
                    found.interface_index = info->ipi6_ifindex;
                }
            }
        } else if (message->cmsg_level == IPPROTO_UDP && message->cmsg_type == UDP_GRO) {
            if (const auto segment_bytes = read_value<int>(message))
                found.segment_bytes = static_cast<std::uint32_t>(*segment_bytes);
        }
    }
    return found;
}

std::size_t write_control(const ControlOut& control, void* buffer) noexcept {
    auto* message = static_cast<cmsghdr*>(buffer);
    const bool ipv4 = control.family == Family::ipv4;
    if (!control.from.is_unspecified()) {
        if (ipv4) {
            in_pktinfo info{};
            info.ipi_spec_dst.s_addr = control.from.ipv4_network_order();
            message = write_message(message, IPPROTO_IP, IP_PKTINFO, info);
        } else {
            in6_pktinfo info{};
            std::memcpy(&info.ipi6_addr, control.from.bytes.data(), sizeof info.ipi6_addr);
            info.ipi6_ifindex = control.interface_index;
            message = write_message(message, IPPROTO_IPV6, IPV6_PKTINFO, info);
        }
    }
    if (control.tos != 0) {
        const int tos = control.tos;
        message = ipv4 ? write_message(message, IPPROTO_IP, IP_TOS, tos)
                       : write_message(message, IPPROTO_IPV6, IPV6_TCLASS, tos);
    }
    if (control.segment_bytes != 0)
        message = write_message(message, IPPROTO_UDP, UDP_SEGMENT, control.segment_bytes);
    return static_cast<std::size_t>(reinterpret_cast<char*>(message) - static_cast<char*>(buffer));
}

}  // namespace udpproxy
