// Control messages: what is written can be read, in both families and for every TOS; and the
// kernel's own forms are understood.
#include "udpproxy/net/cmsg.hpp"

#include <doctest/doctest.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>

namespace udpproxy {
namespace {

constexpr std::byte untouched{0xa5};

struct ControlBuffer {
    alignas(cmsghdr) std::array<std::byte, control_bytes_max + 64> bytes{};
    ControlBuffer() { bytes.fill(untouched); }
};

/// The messages in a buffer, one after the other, as the kernel lays them out.
class Composer {
public:
    template <class T>
    Composer& add(int level, int type, const T& value) {
        cmsghdr header{};
        header.cmsg_len = CMSG_LEN(sizeof value);
        header.cmsg_level = level;
        header.cmsg_type = type;
        std::memcpy(buffer_.bytes.data() + used_, &header, sizeof header);
        std::memcpy(buffer_.bytes.data() + used_ + CMSG_LEN(0), &value, sizeof value);
        used_ += CMSG_SPACE(sizeof value);
        return *this;
    }
    [[nodiscard]] ControlIn read() const { return read_first(used_); }
    [[nodiscard]] ControlIn read_first(std::size_t bytes) const {
        return read_control(buffer_.bytes.data(), bytes);
    }

private:
    ControlBuffer buffer_;
    std::size_t used_ = 0;
};

const Address ipv4 = parse_address("192.0.2.1").value();
const Address ipv6 = parse_address("2001:db8::1").value();
const Address link_local = parse_address("fe80::1").value();

in_pktinfo packet_info(const Address& to, const Address& answer_from, int interface_index) {
    in_pktinfo info{};
    info.ipi_ifindex = interface_index;
    info.ipi_addr.s_addr = to.ipv4_network_order();
    info.ipi_spec_dst.s_addr = answer_from.ipv4_network_order();
    return info;
}

in6_pktinfo packet_info(const Address& to, unsigned interface_index) {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, to.bytes.data(), sizeof info.ipi6_addr);
    info.ipi6_ifindex = interface_index;
    return info;
}

TEST_CASE(
    "what is written for a departure is read again, for every TOS, with and without an address") {
    for (const Address& from :
         {Address::any(Family::ipv4), Address::any(Family::ipv6), ipv4, ipv6, link_local}) {
        for (const Family family : {Family::ipv4, Family::ipv6}) {
            if (!from.is_unspecified() && from.family() != family) continue;
            for (unsigned tos = 0; tos < 256; ++tos) {
                CAPTURE(format(from));
                CAPTURE(tos);
                ControlOut out;
                out.from = from;
                out.interface_index = from.is_link_local() ? 7 : 0;
                out.tos = static_cast<std::uint8_t>(tos);
                out.family = family;
                ControlBuffer buffer;
                const std::size_t bytes = write_control(out, buffer.bytes.data());
                REQUIRE(bytes <= control_bytes_max);
                REQUIRE((bytes == 0) == (from.is_unspecified() && tos == 0));
                REQUIRE(std::all_of(buffer.bytes.begin() + static_cast<std::ptrdiff_t>(bytes),
                                    buffer.bytes.end(),
                                    [](std::byte byte) { return byte == untouched; }));
                const ControlIn in = read_control(buffer.bytes.data(), bytes);
                REQUIRE(in.tos == tos);
                REQUIRE(in.local == (from.is_unspecified() ? Address{} : from));
                REQUIRE(in.interface_index == out.interface_index);
            }
        }
    }
}

TEST_CASE("no control is written when there is nothing to say") {
    ControlBuffer buffer;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        for (const Address& from : {Address{}, Address::any(Family::ipv4)})
            CHECK(write_control({from, 0, 0, family, 0}, buffer.bytes.data()) == 0);
    }
    CHECK(std::all_of(buffer.bytes.begin(), buffer.bytes.end(),
                      [](std::byte byte) { return byte == untouched; }));
}

TEST_CASE("control is written in the types and sizes the kernel takes") {
    // ip(7): IP_PKTINFO takes a struct in_pktinfo, IP_TOS an int or a byte; ipv6(7): IPV6_PKTINFO a
    // struct in6_pktinfo, IPV6_TCLASS an int.
    ControlBuffer buffer;
    CHECK(write_control({ipv4, 0, 0x2e, Family::ipv4, 0}, buffer.bytes.data()) ==
          CMSG_SPACE(sizeof(in_pktinfo)) + CMSG_SPACE(sizeof(int)));
    cmsghdr header{};
    std::memcpy(&header, buffer.bytes.data(), sizeof header);
    CHECK(header.cmsg_level == IPPROTO_IP);
    CHECK(header.cmsg_type == IP_PKTINFO);
    CHECK(header.cmsg_len == CMSG_LEN(sizeof(in_pktinfo)));
    in_pktinfo info{};
    std::memcpy(&info, buffer.bytes.data() + CMSG_LEN(0), sizeof info);
    CHECK(info.ipi_spec_dst.s_addr == ipv4.ipv4_network_order());
    CHECK(info.ipi_ifindex == 0);  // routing decides
    std::memcpy(&header, buffer.bytes.data() + CMSG_SPACE(sizeof(in_pktinfo)), sizeof header);
    CHECK(header.cmsg_level == IPPROTO_IP);
    CHECK(header.cmsg_type == IP_TOS);

    CHECK(write_control({link_local, 7, 0x2e, Family::ipv6, 0}, buffer.bytes.data()) ==
          CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(int)));
    std::memcpy(&header, buffer.bytes.data(), sizeof header);
    CHECK(header.cmsg_level == IPPROTO_IPV6);
    CHECK(header.cmsg_type == IPV6_PKTINFO);
    std::memcpy(&header, buffer.bytes.data() + CMSG_SPACE(sizeof(in6_pktinfo)), sizeof header);
    CHECK(header.cmsg_level == IPPROTO_IPV6);
    CHECK(header.cmsg_type == IPV6_TCLASS);
    CHECK(header.cmsg_len == CMSG_LEN(sizeof(int)));
}

TEST_CASE("a datagram that came before the socket asked is answered from where it was sent to") {
    // Of a socket that was handed over: the kernel fills in ipi_addr alone (ipv4_pktinfo_prepare).
    const auto read = [](const char* to) {
        return Composer{}
            .add(IPPROTO_IP, IP_PKTINFO,
                 packet_info(parse_address(to).value(), Address::any(Family::ipv4), 0))
            .read();
    };
    CHECK(read("192.0.2.1").local == ipv4);
    CHECK_FALSE(read("192.0.2.1").is_copied);
    for (const char* copied : {"224.0.0.251", "255.255.255.255"}) {
        CHECK(read(copied).local == Address{});
        CHECK(read(copied).is_copied);
    }
}

TEST_CASE("an arrival without control says nothing") {
    const ControlIn in = read_control(nullptr, 0);
    CHECK(in.local == Address{});
    CHECK(in.interface_index == 0);
    CHECK(in.tos == 0);
}

TEST_CASE(
    "the kernel's IPv4 control is understood: TOS as one byte, the address to answer from, the "
    "interface") {
    for (const std::uint8_t tos : std::initializer_list<std::uint8_t>{0, 1, 0x2e, 0xb8, 0xff}) {
        const ControlIn in = Composer{}
                                 .add(IPPROTO_IP, IP_TOS, tos)
                                 .add(IPPROTO_IP, IP_PKTINFO, packet_info(ipv4, ipv4, 5))
                                 .read();
        CHECK(in.tos == tos);
        CHECK(in.local == ipv4);
        CHECK(in.interface_index == 5);
    }
}

TEST_CASE("a broadcast is answered from the host's own address") {
    const Address broadcast = parse_address("192.0.2.255").value();
    const ControlIn in =
        Composer{}.add(IPPROTO_IP, IP_PKTINFO, packet_info(broadcast, ipv4, 5)).read();
    CHECK(in.local == ipv4);
    CHECK(in.is_copied);
    CHECK_FALSE(
        Composer{}.add(IPPROTO_IP, IP_PKTINFO, packet_info(ipv4, ipv4, 5)).read().is_copied);
}

TEST_CASE("IPv6 multicast is answered from an address that the kernel chooses") {
    const Address all_nodes = parse_address("ff02::1").value();
    const ControlIn in =
        Composer{}.add(IPPROTO_IPV6, IPV6_PKTINFO, packet_info(all_nodes, 9)).read();
    CHECK(in.local.is_unspecified());
    CHECK(in.interface_index == 9);
    CHECK(in.is_copied);
    CHECK_FALSE(Composer{}.add(IPPROTO_IPV6, IPV6_PKTINFO, packet_info(ipv6, 9)).read().is_copied);
}

TEST_CASE("the kernel's IPv6 control is understood, in either order") {
    const auto info = packet_info(link_local, 9);
    for (const int tos : {0, 1, 0xb8, 0xff}) {
        for (const ControlIn& in : {Composer{}
                                        .add(IPPROTO_IPV6, IPV6_PKTINFO, info)
                                        .add(IPPROTO_IPV6, IPV6_TCLASS, tos)
                                        .read(),
                                    Composer{}
                                        .add(IPPROTO_IPV6, IPV6_TCLASS, tos)
                                        .add(IPPROTO_IPV6, IPV6_PKTINFO, info)
                                        .read()}) {
            CHECK(in.tos == tos);
            CHECK(in.local == link_local);
            CHECK(in.interface_index == 9);
        }
    }
}

TEST_CASE("the segment size of a train is read beside address and TOS, and written beside them") {
    const in6_pktinfo info = packet_info(ipv6, 3);
    const ControlIn in = Composer{}
                             .add(IPPROTO_IPV6, IPV6_PKTINFO, info)
                             .add(IPPROTO_IPV6, IPV6_TCLASS, 0x2e)
                             .add(IPPROTO_UDP, UDP_GRO, 1200)
                             .read();
    CHECK(in.segment_bytes == 1200);
    CHECK(in.tos == 0x2e);
    CHECK(in.local == ipv6);
    CHECK(Composer{}.add(IPPROTO_IP, IP_TOS, std::uint8_t{1}).read().segment_bytes == 0);

    for (const Family family : {Family::ipv4, Family::ipv6}) {
        ControlOut out;
        out.from = family == Family::ipv4 ? ipv4 : ipv6;
        out.tos = 0x2e;
        out.family = family;
        ControlBuffer without;
        const std::size_t bytes = write_control(out, without.bytes.data());
        out.segment_bytes = 1472;
        ControlBuffer with;
        REQUIRE(write_control(out, with.bytes.data()) == bytes + CMSG_SPACE(sizeof(std::uint16_t)));
        REQUIRE(bytes + CMSG_SPACE(sizeof(std::uint16_t)) <= control_bytes_max);
        cmsghdr header{};
        std::memcpy(&header, with.bytes.data() + bytes, sizeof header);
        CHECK(header.cmsg_level == IPPROTO_UDP);
        CHECK(header.cmsg_type == UDP_SEGMENT);
        CHECK(header.cmsg_len == CMSG_LEN(sizeof(std::uint16_t)));
        std::uint16_t segment_bytes = 0;
        std::memcpy(&segment_bytes, with.bytes.data() + bytes + CMSG_LEN(0), sizeof segment_bytes);
        CHECK(segment_bytes == 1472);
    }
}

TEST_CASE("control messages that were not asked for are passed over") {
    const ControlIn in = Composer{}
                             .add(SOL_SOCKET, SO_TIMESTAMP, timeval{1, 2})
                             .add(IPPROTO_IP, IP_TTL, 64)
                             .add(IPPROTO_IPV6, IPV6_TCLASS, 0x2e)
                             .add(IPPROTO_IPV6, IPV6_HOPLIMIT, 64)
                             .read();
    CHECK(in.tos == 0x2e);
    CHECK(in.local == Address{});
}

// The kernel writes the last message as far as the buffer goes (put_cmsg in net/core/scm.c). Its
// rest would be read from behind the buffer.
TEST_CASE("a message that is too short for its value, or longer than the buffer, is left out") {
    Composer composer;
    composer.add(IPPROTO_IP, IP_TOS, std::uint8_t{0xb8});
    composer.add(IPPROTO_IP, IP_PKTINFO, std::uint32_t{0x01020304});
    composer.add(IPPROTO_UDP, UDP_GRO, std::uint16_t{1200});
    CHECK(composer.read().tos == 0xb8);
    CHECK(composer.read().local == Address{});
    CHECK(composer.read().segment_bytes == 0);

    Composer whole;
    whole.add(IPPROTO_IP, IP_TOS, std::uint8_t{0xb8});
    whole.add(IPPROTO_IP, IP_PKTINFO, packet_info(ipv4, ipv4, 2));
    const ControlIn cut = whole.read_first(CMSG_SPACE(1) + CMSG_LEN(4));
    CHECK(cut.tos == 0xb8);
    CHECK(cut.local == Address{});
    CHECK(cut.interface_index == 0);
}

}  // namespace
}  // namespace udpproxy
