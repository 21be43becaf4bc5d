// Builds and reads frames.
#include "frame.hpp"

#include <cstring>

#include "packet.hpp"

namespace udpproxy::traffic {
namespace {

constexpr std::size_t ethernet = Frame::virtio_bytes;
constexpr std::size_t ip = ethernet + 14;
constexpr std::size_t udp = ip + 20;
constexpr std::uint8_t protocol_udp = 17;

// struct virtio_net_hdr of the kernel; <linux/virtio_net.h> is no C++ (it has a member called
// class). Host byte order on this ABI.
struct Offload {
    std::uint8_t flags;
    std::uint8_t gso_type;
    std::uint16_t header_bytes;
    std::uint16_t gso_bytes;
    std::uint16_t checksum_start;
    std::uint16_t checksum_offset;
};
constexpr std::uint8_t needs_checksum = 1;

std::uint16_t get16(std::span<const std::byte> bytes, std::size_t at) {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(bytes[at]) << 8 |
                                      std::to_integer<unsigned>(bytes[at + 1]));
}

std::uint32_t get32(std::span<const std::byte> bytes, std::size_t at) {
    return std::uint32_t{get16(bytes, at)} << 16 | get16(bytes, at + 2);
}

void put16(std::byte* at, std::uint32_t value) {
    at[0] = static_cast<std::byte>(value >> 8 & 0xff);
    at[1] = static_cast<std::byte>(value & 0xff);
}

void put32(std::byte* at, std::uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value & 0xffff);
}

}  // namespace

Frame::Frame(const FrameEnds& ends, std::size_t payload_bytes)
    : bytes_(headers_bytes + payload_bytes) {
    static_assert(sizeof(Offload) == virtio_bytes);
    Offload offload{};
    offload.flags = needs_checksum;
    offload.checksum_start = udp - virtio_bytes;
    offload.checksum_offset = 6;
    std::memcpy(bytes_.data(), &offload, sizeof offload);
    std::memcpy(bytes_.data() + ethernet, ends.target_mac.data(), 6);
    std::memcpy(bytes_.data() + ethernet + 6, ends.source_mac.data(), 6);
    put16(bytes_.data() + ethernet + 12, 0x0800);
    const Endpoint nobody{Address::any(Family::ipv4)};
    const Endpoint target{Address::ipv4(htonl(ends.target)), 0, ends.target_port};
    const std::span<std::byte> packet = std::span(bytes_).subspan(ip);
    write_udp_packet(packet, nobody, target, std::vector<std::byte>(payload_bytes));
    put16(bytes_.data() + ip + 10, 0);
    header_sum_ = add_words(0, packet.first(20));
    pseudo_sum_ = pseudo_header(nobody.address, target.address, protocol_udp, 8 + payload_bytes);
    set_source(0, 0);
}

void Frame::set_source(std::uint32_t address, std::uint16_t port) {
    std::byte* const at = bytes_.data();
    const std::uint32_t address_sum = (address >> 16) + (address & 0xffff);
    put32(at + ip + 12, address);
    put16(at + udp, port);
    put16(at + ip + 10, static_cast<std::uint16_t>(~fold(header_sum_ + address_sum)));
    // The kernel expects the sum of the pseudo header here and adds the rest if anybody ever needs
    // it.
    put16(at + udp + 6, fold(pseudo_sum_ + address_sum));
}

std::optional<ParsedFrame> parse_frame(std::span<const std::byte> frame) {
    constexpr std::size_t ip_at = 14;
    if (frame.size() < ip_at + 20 + 8 || get16(frame, 12) != 0x0800) return std::nullopt;
    const unsigned version_and_length = std::to_integer<unsigned>(frame[ip_at]);
    const std::size_t udp_at = ip_at + std::size_t{4} * (version_and_length & 15);
    if (version_and_length >> 4 != 4 ||
        std::to_integer<std::uint8_t>(frame[ip_at + 9]) != protocol_udp)
        return std::nullopt;
    if (frame.size() < udp_at + 8 || get16(frame, udp_at + 4) < 8 ||
        frame.size() < udp_at + get16(frame, udp_at + 4))
        return std::nullopt;
    return ParsedFrame{get32(frame, ip_at + 12), get16(frame, udp_at), get32(frame, ip_at + 16),
                       get16(frame, udp_at + 2),
                       frame.subspan(udp_at + 8, std::size_t{get16(frame, udp_at + 4)} - 8)};
}

}  // namespace udpproxy::traffic
