// Ethernet frames with one UDP datagram each, as a network card hands them to the kernel: what lets
// one process be any number of clients, each with an address of its own and none with a socket.
// Built once and changed in place; checksums of UDP are left to the kernel
// (VIRTIO_NET_HDR_F_NEEDS_CSUM), which does not compute them on veth either, as no sender on the
// same host does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace udpproxy::traffic {

using Mac = std::array<std::uint8_t, 6>;

// Addresses and ports in host byte order.
struct FrameEnds {
    Mac source_mac{};
    Mac target_mac{};
    std::uint32_t target = 0;
    std::uint16_t target_port = 0;
};

class Frame {
public:
    Frame(const FrameEnds& ends, std::size_t payload_bytes);

    void set_source(std::uint32_t address, std::uint16_t port);
    std::span<std::byte> payload() { return std::span(bytes_).subspan(headers_bytes); }
    std::span<std::byte> bytes() { return bytes_; }

    // A virtio_net_hdr, Ethernet, IPv4, UDP.
    static constexpr std::size_t virtio_bytes = 10;
    static constexpr std::size_t headers_bytes = virtio_bytes + 14 + 20 + 8;

private:
    std::vector<std::byte> bytes_;
    // Sums of everything that does not change, for the header's checksum and for the pseudo
    // header's.
    std::uint32_t header_sum_ = 0;
    std::uint32_t pseudo_sum_ = 0;
};

struct ParsedFrame {
    std::uint32_t source = 0;
    std::uint16_t source_port = 0;
    std::uint32_t target = 0;
    std::uint16_t target_port = 0;
    std::span<const std::byte> payload;
};

// Nothing unless the frame (without a virtio_net_hdr) is Ethernet, IPv4, a whole UDP datagram.
std::optional<ParsedFrame> parse_frame(std::span<const std::byte> frame);

}  // namespace udpproxy::traffic
