// RFC 791, 768, 792, 8200, 4443: headers and checksums.
#include "packet.hpp"

#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>

#include <array>
#include <cstring>

#include "udpproxy/base/assert.hpp"

namespace udpproxy::traffic {

namespace {

constexpr std::uint8_t hops = 64;
constexpr std::size_t icmp_header_bytes = 8;

}  // namespace

std::uint32_t add_words(std::uint32_t sum, std::span<const std::byte> bytes) {
    for (std::size_t i = 0; i + 1 < bytes.size(); i += 2)
        sum += (std::to_integer<std::uint32_t>(bytes[i]) << 8U) |
               std::to_integer<std::uint32_t>(bytes[i + 1]);
    if (bytes.size() % 2 != 0) sum += std::to_integer<std::uint32_t>(bytes.back()) << 8U;
    return sum;
}

std::uint16_t fold(std::uint32_t sum) {
    while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
    return static_cast<std::uint16_t>(sum);
}

std::uint32_t pseudo_header(const Address& from, const Address& to, std::uint8_t protocol,
                            std::size_t bytes) {
    const std::size_t skip = to.is_ipv4() ? 12 : 0;
    std::uint32_t sum = protocol + static_cast<std::uint32_t>(bytes);
    sum = add_words(sum, std::as_bytes(std::span{from.bytes}).subspan(skip));
    return add_words(sum, std::as_bytes(std::span{to.bytes}).subspan(skip));
}

namespace {

std::uint16_t checksum(std::uint32_t sum) {
    return static_cast<std::uint16_t>(~std::uint32_t{fold(sum)});
}

std::size_t write_ip_header(std::span<std::byte> packet, const Address& from, const Address& to,
                            std::uint8_t protocol, std::size_t payload_bytes) {
    if (to.is_ipv4()) {
        iphdr header{};
        header.version = 4;
        header.ihl = sizeof(header) / 4;
        header.frag_off = htons(IP_DF);  // as Linux sends UDP
        header.ttl = hops;
        header.protocol = protocol;
        header.tot_len = htons(static_cast<std::uint16_t>(sizeof(header) + payload_bytes));
        header.saddr = from.ipv4_network_order();
        header.daddr = to.ipv4_network_order();
        // A quoted header must be right as well; the outer one's the kernel writes itself (raw(7)).
        header.check = htons(checksum(add_words(0, std::as_bytes(std::span{&header, 1}))));
        std::memcpy(packet.data(), &header, sizeof(header));
        return sizeof(header);
    }
    ip6_hdr header{};
    header.ip6_ctlun.ip6_un1.ip6_un1_flow = htonl(6U << 28U);
    header.ip6_ctlun.ip6_un1.ip6_un1_plen = htons(static_cast<std::uint16_t>(payload_bytes));
    header.ip6_ctlun.ip6_un1.ip6_un1_nxt = protocol;
    header.ip6_ctlun.ip6_un1.ip6_un1_hlim = hops;
    std::memcpy(&header.ip6_src, from.bytes.data(), sizeof(header.ip6_src));
    std::memcpy(&header.ip6_dst, to.bytes.data(), sizeof(header.ip6_dst));
    std::memcpy(packet.data(), &header, sizeof(header));
    return sizeof(header);
}

}  // namespace

std::size_t write_udp_packet(std::span<std::byte> packet, const Endpoint& from, const Endpoint& to,
                             std::span<const std::byte> payload) {
    UDPPROXY_ASSERT((to.address.is_ipv4() ? sizeof(iphdr) : sizeof(ip6_hdr)) + sizeof(udphdr) +
                        payload.size() <=
                    packet.size());
    const std::size_t udp_bytes = sizeof(udphdr) + payload.size();
    const std::size_t at =
        write_ip_header(packet, from.address, to.address, IPPROTO_UDP, udp_bytes);
    udphdr header{};
    header.source = htons(from.port);
    header.dest = htons(to.port);
    header.len = htons(static_cast<std::uint16_t>(udp_bytes));
    const std::uint32_t sum =
        add_words(pseudo_header(from.address, to.address, IPPROTO_UDP, udp_bytes),
                  std::as_bytes(std::span{&header, 1}));
    const std::uint16_t check = checksum(add_words(sum, payload));
    header.check = htons(check == 0 ? 0xffff : check);
    std::memcpy(packet.data() + at, &header, sizeof(header));
    if (!payload.empty())
        std::memcpy(packet.data() + at + sizeof(header), payload.data(), payload.size());
    return at + udp_bytes;
}

std::size_t write_icmp_packet(std::span<std::byte> packet, const Address& teller,
                              const IcmpError& error, const Endpoint& from, const Endpoint& to) {
    std::array<std::byte, packet_bytes_max> quoted{};
    const std::array<std::byte, 24> payload{};
    const std::size_t quoted_bytes = write_udp_packet(quoted, from, to, payload);
    const std::size_t icmp_bytes = icmp_header_bytes + quoted_bytes;
    const bool ipv4 = from.address.is_ipv4();
    const auto protocol = static_cast<std::uint8_t>(ipv4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
    const std::size_t at = write_ip_header(packet, teller, from.address, protocol, icmp_bytes);
    const std::span<std::byte> message = packet.subspan(at, icmp_bytes);
    message[0] = std::byte{error.type};
    message[1] = std::byte{error.code};
    message[2] = message[3] = std::byte{0};
    const std::uint32_t word = htonl(error.word);
    std::memcpy(message.data() + 4, &word, sizeof(word));
    std::memcpy(message.data() + icmp_header_bytes, quoted.data(), quoted_bytes);
    const std::uint32_t start =
        ipv4 ? 0 : pseudo_header(teller, from.address, protocol, icmp_bytes);
    const std::uint16_t check = htons(checksum(add_words(start, message)));
    std::memcpy(message.data() + 2, &check, sizeof(check));
    return at + icmp_bytes;
}

}  // namespace udpproxy::traffic
