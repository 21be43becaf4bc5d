// A capture file of any datagrams, read back by a reader of its own: every block is whole, and the
// packets are the datagrams, with checksums that are right.
#include "ctl/pcapng.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy::fuzz {

namespace {

using ctl::CapturedDatagram;

constexpr std::size_t datagrams_max = 16;

CapturedDatagram datagram_of(Input& input) {
    CapturedDatagram datagram;
    const Family family = input.flag() ? Family::ipv4 : Family::ipv6;
    datagram.side = input.flag() ? ctl::Side::client : ctl::Side::upstream;
    datagram.at_ns = input.number<std::uint64_t>();
    datagram.from = {input.address(family), 0, input.number<std::uint16_t>()};
    datagram.to = {input.address(family), 0, input.number<std::uint16_t>()};
    datagram.tos = input.number<std::uint8_t>();
    const Bytes kept = input.take(input.below(65));
    datagram.kept.assign(kept.begin(), kept.end());
    const std::uint32_t payload_max = family == Family::ipv4 ? 65507 : 65527;
    datagram.bytes = static_cast<std::uint32_t>(kept.size());
    if (input.flag())
        datagram.bytes = std::min(datagram.bytes + input.number<std::uint16_t>(), payload_max);
    if (input.flag()) datagram.comment = Input::text_of(input.take(input.below(40)));
    return datagram;
}

/// Reads numbers off the file's bytes; little-endian, as the file says it is.
class Reader {
public:
    explicit Reader(Bytes bytes) : bytes_(bytes) {}
    [[nodiscard]] bool is_over() const { return bytes_.empty(); }
    [[nodiscard]] std::size_t left() const { return bytes_.size(); }
    Bytes take(std::size_t count) {
        UDPPROXY_ASSERT(count <= bytes_.size());
        const Bytes taken = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return taken;
    }
    std::uint32_t word() {
        const Bytes four = take(4);
        return four[0] | std::uint32_t{four[1]} << 8U | std::uint32_t{four[2]} << 16U |
               std::uint32_t{four[3]} << 24U;
    }

private:
    Bytes bytes_;
};

std::uint32_t big(Bytes packet, std::size_t at) {
    return std::uint32_t{packet[at]} << 8U | packet[at + 1];
}

/// The sum of RFC 1071; 0xffff over data that has its checksum inside.
std::uint32_t sum_of(Bytes bytes, std::uint32_t sum = 0) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
        sum += i % 2 == 0 ? std::uint32_t{bytes[i]} << 8U : bytes[i];
    while (sum > 0xffff) sum = (sum & 0xffffU) + (sum >> 16U);
    return sum;
}

void check_packet(Bytes packet, const CapturedDatagram& datagram) {
    const bool ipv4 = datagram.from.address.is_ipv4();
    const std::size_t header = ipv4 ? 20 : 40;
    UDPPROXY_ASSERT(packet.size() == header + 8 + datagram.kept.size());
    const std::uint32_t udp_length = datagram.bytes + 8;
    if (ipv4) {
        UDPPROXY_ASSERT(packet[0] == 0x45 && packet[1] == datagram.tos && packet[9] == 17);
        UDPPROXY_ASSERT(big(packet, 2) == 20 + udp_length && sum_of(packet.first(20)) == 0xffff);
    } else {
        UDPPROXY_ASSERT(packet[0] >> 4 == 6 && packet[6] == 17);
        UDPPROXY_ASSERT(static_cast<std::uint8_t>(big(packet, 0) >> 4) == datagram.tos);
        UDPPROXY_ASSERT(big(packet, 4) == udp_length);
    }
    const std::size_t address_bytes = ipv4 ? 4 : 16;
    const Bytes addresses = packet.subspan(header - 2 * address_bytes, 2 * address_bytes);
    for (std::size_t i = 0; i < address_bytes; ++i) {
        UDPPROXY_ASSERT(addresses[i] == datagram.from.address.bytes[16 - address_bytes + i]);
        UDPPROXY_ASSERT(addresses[address_bytes + i] ==
                        datagram.to.address.bytes[16 - address_bytes + i]);
    }
    const Bytes udp = packet.subspan(header);
    UDPPROXY_ASSERT(big(udp, 0) == datagram.from.port && big(udp, 2) == datagram.to.port);
    UDPPROXY_ASSERT(big(udp, 4) == udp_length);
    UDPPROXY_ASSERT(std::equal(datagram.kept.begin(), datagram.kept.end(), udp.begin() + 8));
    if (datagram.kept.size() == datagram.bytes)
        UDPPROXY_ASSERT(big(udp, 6) != 0 &&
                        sum_of(udp, sum_of(addresses, 17 + udp_length)) == 0xffff);
    else
        UDPPROXY_ASSERT(big(udp, 6) == 0);
}

void check_datagram(Reader block, const CapturedDatagram& datagram) {
    UDPPROXY_ASSERT(block.word() == static_cast<std::uint32_t>(datagram.side));
    UDPPROXY_ASSERT(block.word() == datagram.at_ns >> 32);
    UDPPROXY_ASSERT(block.word() == (datagram.at_ns & 0xffffffffU));
    const std::uint32_t captured = block.word();
    UDPPROXY_ASSERT(block.word() == captured + datagram.bytes - datagram.kept.size());
    check_packet(block.take(captured), datagram);
    for (const std::uint8_t padding : block.take((4 - captured % 4) % 4))
        UDPPROXY_ASSERT(padding == 0);
    if (datagram.comment.empty()) {
        UDPPROXY_ASSERT(block.is_over());
        return;
    }
    const std::uint32_t option = block.word();
    UDPPROXY_ASSERT((option & 0xffffU) == 1 && option >> 16 == datagram.comment.size());
    UDPPROXY_ASSERT(Input::text_of(block.take(datagram.comment.size())) == datagram.comment);
    (void)block.take((4 - datagram.comment.size() % 4) % 4);
    UDPPROXY_ASSERT(block.word() == 0 && block.is_over());
}

std::vector<std::uint8_t> written(const std::vector<CapturedDatagram>& datagrams) {
    const Socket memory{::memfd_create("capture", MFD_CLOEXEC)};
    UDPPROXY_ASSERT(static_cast<bool>(memory));
    auto file = ctl::PcapngFile::create("/proc/self/fd/" + std::to_string(memory.descriptor()));
    UDPPROXY_ASSERT(file.has_value());
    for (const CapturedDatagram& datagram : datagrams) file->write(datagram);
    UDPPROXY_ASSERT(file->close().has_value());
    std::vector<std::uint8_t> bytes(
        static_cast<std::size_t>(::lseek(memory.descriptor(), 0, SEEK_END)));
    UDPPROXY_ASSERT(::pread(memory.descriptor(), bytes.data(), bytes.size(), 0) ==
                    static_cast<ssize_t>(bytes.size()));
    return bytes;
}

}  // namespace

void pcapng(Bytes bytes) {
    Input input(bytes);
    std::vector<CapturedDatagram> datagrams;
    while (!input.is_over() && datagrams.size() < datagrams_max)
        datagrams.push_back(datagram_of(input));
    const std::vector<std::uint8_t> file = written(datagrams);
    Reader reader(file);
    for (std::size_t number = 0; !reader.is_over(); ++number) {
        const std::uint32_t type = reader.word();
        const std::uint32_t length = reader.word();
        UDPPROXY_ASSERT(length % 4 == 0 && length >= 12 && length - 8 <= reader.left());
        const Bytes body = reader.take(length - 12);
        UDPPROXY_ASSERT(reader.word() == length);
        // A section, the interfaces of both sides, then the datagrams.
        UDPPROXY_ASSERT(number < 3 + datagrams.size());
        UDPPROXY_ASSERT(type == (number == 0 ? 0x0A0D0D0AU : number < 3 ? 1U : 6U));
        if (number >= 3) check_datagram(Reader(body), datagrams[number - 3]);
        UDPPROXY_ASSERT(!reader.is_over() || number == 2 + datagrams.size());
    }
}

}  // namespace udpproxy::fuzz
