// The bytes of a pcapng file. Blocks are little-endian, as their byte-order magic says; the packets
// inside are big-endian.
#include "pcapng.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

namespace udpproxy::ctl {

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint32_t section_header = 0x0A0D0D0A;
constexpr std::uint32_t interface_description = 1;
constexpr std::uint32_t enhanced_packet = 6;
constexpr std::uint16_t link_type_raw = 101;  // LINKTYPE_RAW: the packet begins with its IP header
constexpr std::uint16_t option_comment = 1;
constexpr std::uint16_t option_name = 2;        // of an interface
constexpr std::uint16_t option_resolution = 9;  // of an interface's time stamps
constexpr std::uint8_t protocol_udp = 17;

template <class Number>
void put_little(Bytes& to, Number number) {
    for (std::size_t i = 0; i < sizeof number; ++i)
        to.push_back(static_cast<std::uint8_t>(number >> (8 * i)));
}
void put_big(Bytes& to, std::uint16_t number) {
    to.push_back(static_cast<std::uint8_t>(number >> 8U));
    to.push_back(static_cast<std::uint8_t>(number));
}
void pad(Bytes& to) {
    while (to.size() % 4 != 0) to.push_back(0);
}

void put_option(Bytes& to, std::uint16_t code, const std::string& value) {
    put_little(to, code);
    put_little(to, static_cast<std::uint16_t>(value.size()));
    to.insert(to.end(), value.begin(), value.end());
    pad(to);
}

void write_block(std::ofstream& file, std::uint32_t type, const Bytes& body) {
    Bytes block;
    const auto length = static_cast<std::uint32_t>(body.size() + 12);
    put_little(block, type);
    put_little(block, length);
    block.insert(block.end(), body.begin(), body.end());
    put_little(block, length);
    file.write(reinterpret_cast<const char*>(block.data()),
               static_cast<std::streamsize>(block.size()));
}

void write_interface(std::ofstream& file, const std::string& name) {
    Bytes body;
    put_little(body, link_type_raw);
    put_little(body, std::uint16_t{0});
    put_little(body, std::uint32_t{0});  // no limit
    put_option(body, option_name, name);
    put_option(body, option_resolution, std::string{'\x09'});  // 10^-9 s
    put_little(body, std::uint32_t{0});                        // end of options
    write_block(file, interface_description, body);
}

std::uint32_t sum_of(const Bytes& bytes, std::uint32_t sum) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
        sum += i % 2 == 0 ? static_cast<std::uint32_t>(bytes[i]) << 8U : bytes[i];
    return sum;
}
std::uint16_t folded(std::uint32_t sum) {
    while (sum > 0xffffU) sum = (sum & 0xffffU) + (sum >> 16U);
    return static_cast<std::uint16_t>(~sum);
}

void put_address(Bytes& to, const Address& address) {
    to.insert(to.end(), address.bytes.begin() + (address.is_ipv4() ? 12 : 0), address.bytes.end());
}

Bytes udp_of(const CapturedDatagram& datagram, std::uint16_t length) {
    Bytes udp;
    put_big(udp, datagram.from.port);
    put_big(udp, datagram.to.port);
    put_big(udp, length);
    put_big(udp, 0);
    udp.insert(udp.end(), datagram.kept.begin(), datagram.kept.end());
    if (datagram.kept.size() != datagram.bytes) return udp;  // a truncated payload has no checksum
    Bytes pseudo_header;
    put_address(pseudo_header, datagram.from.address);
    put_address(pseudo_header, datagram.to.address);
    const std::uint16_t checksum =
        folded(sum_of(udp, sum_of(pseudo_header, std::uint32_t{protocol_udp} + length)));
    const std::uint16_t sent = checksum == 0 ? 0xffff : checksum;  // 0 means no checksum (RFC 768)
    udp[6] = static_cast<std::uint8_t>(sent >> 8U);
    udp[7] = static_cast<std::uint8_t>(sent);
    return udp;
}

}  // namespace

std::vector<std::uint8_t> as_packet(const CapturedDatagram& datagram) {
    const auto udp_length =
        static_cast<std::uint16_t>(std::min<std::uint32_t>(8 + datagram.bytes, 0xffff));
    Bytes packet;
    if (datagram.from.address.is_ipv4()) {
        packet = {0x45, datagram.tos};
        put_big(packet,
                static_cast<std::uint16_t>(std::min<std::uint32_t>(20U + udp_length, 0xffff)));
        packet.insert(packet.end(), {0, 0, 0x40, 0, 64, protocol_udp, 0, 0});  // no id, DF, TTL 64
        put_address(packet, datagram.from.address);
        put_address(packet, datagram.to.address);
        const std::uint16_t checksum = folded(sum_of(packet, 0));
        packet[10] = static_cast<std::uint8_t>(checksum >> 8U);
        packet[11] = static_cast<std::uint8_t>(checksum);
    } else {
        packet = {static_cast<std::uint8_t>(0x60U | (datagram.tos >> 4U)),
                  static_cast<std::uint8_t>(datagram.tos << 4U), 0, 0};
        put_big(packet, udp_length);
        packet.insert(packet.end(), {protocol_udp, 64});
        put_address(packet, datagram.from.address);
        put_address(packet, datagram.to.address);
    }
    const Bytes udp = udp_of(datagram, udp_length);
    packet.insert(packet.end(), udp.begin(), udp.end());
    return packet;
}

Result<PcapngFile> PcapngFile::create(const std::string& path) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    if (!file) return system_error(path + ": open", errno);
    Bytes section;
    put_little(section, std::uint32_t{0x1A2B3C4D});
    put_little(section, std::uint16_t{1});
    put_little(section, std::uint16_t{0});
    put_little(section, ~std::uint64_t{0});  // the section's length is not known
    write_block(file, section_header, section);
    write_interface(file, "clients");
    write_interface(file, "upstream");
    return PcapngFile{path, std::move(file)};
}

void PcapngFile::write(const CapturedDatagram& datagram) {
    const Bytes packet = as_packet(datagram);
    Bytes body;
    put_little(body, static_cast<std::uint32_t>(datagram.side));
    put_little(body, static_cast<std::uint32_t>(datagram.at_ns >> 32U));
    put_little(body, static_cast<std::uint32_t>(datagram.at_ns));
    put_little(body, static_cast<std::uint32_t>(packet.size()));
    put_little(body,
               static_cast<std::uint32_t>(packet.size() + datagram.bytes - datagram.kept.size()));
    body.insert(body.end(), packet.begin(), packet.end());
    pad(body);
    if (!datagram.comment.empty()) {
        put_option(body, option_comment, datagram.comment);
        put_little(body, std::uint32_t{0});
    }
    write_block(file_, enhanced_packet, body);
}

Result<void> PcapngFile::close() {
    file_.close();
    if (file_.fail()) return system_error(path_ + ": write", errno);
    return {};
}

}  // namespace udpproxy::ctl
