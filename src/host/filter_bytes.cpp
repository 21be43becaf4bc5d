// Headers of a datagram that is not there, and three-valued comparisons.
#include "filter_bytes.hpp"

#include <netinet/in.h>

namespace udpproxy {

namespace {

void append(FilterBytes& bytes, const std::uint8_t* data, std::size_t length) {
    bytes.insert(bytes.end(), data, data + length);
}
void append_unknown(FilterBytes& bytes, std::size_t length) { bytes.resize(bytes.size() + length); }

void append_address(FilterBytes& bytes, const Address& address) {
    const std::size_t skipped = address.is_ipv4() ? 12 : 0;
    if (address.is_unspecified()) return append_unknown(bytes, 16 - skipped);
    append(bytes, address.bytes.data() + skipped, 16 - skipped);
}

void append_port(FilterBytes& bytes, std::uint16_t port) {
    if (port == 0) return append_unknown(bytes, 2);
    bytes.emplace_back(static_cast<std::uint8_t>(port >> 8));
    bytes.emplace_back(static_cast<std::uint8_t>(port & 0xff));
}

}  // namespace

FilterBytes network_header(const FilteredDatagram& datagram) {
    FilterBytes bytes;
    if (datagram.from.address.is_ipv4()) {
        bytes.emplace_back(std::uint8_t{0x45});
        append_unknown(bytes, 8);  // TOS to TTL
        bytes.emplace_back(std::uint8_t{IPPROTO_UDP});
        append_unknown(bytes, 2);
    } else {
        append_unknown(bytes, 6);
        bytes.emplace_back(std::uint8_t{IPPROTO_UDP});
        append_unknown(bytes, 1);
    }
    append_address(bytes, datagram.from.address);
    append_address(bytes, datagram.to.address);
    return bytes;
}

FilterBytes transport_header(const FilteredDatagram& datagram) {
    FilterBytes bytes;
    append_port(bytes, datagram.from.port);
    append_port(bytes, datagram.to.port);
    return bytes;
}

std::optional<int> order(const FilterBytes& bytes, const std::vector<std::uint8_t>& data) {
    for (std::size_t i = 0; i < data.size() && i < bytes.size(); ++i) {
        if (!bytes[i]) return std::nullopt;
        if (*bytes[i] != data[i]) return *bytes[i] < data[i] ? -1 : 1;
    }
    return 0;
}

FilterAnswer equals(const FilterBytes& bytes, const std::vector<std::uint8_t>& data) {
    FilterAnswer answer = FilterAnswer::yes;
    for (std::size_t i = 0; i < data.size() && i < bytes.size(); ++i) {
        if (bytes[i] && *bytes[i] != data[i]) return FilterAnswer::no;
        if (!bytes[i]) answer = FilterAnswer::perhaps;
    }
    return answer;
}

FilterAnswer is_between(const FilterBytes& bytes, const std::vector<std::uint8_t>& first,
                        const std::vector<std::uint8_t>& last) {
    const std::optional<int> low = order(bytes, first);
    const std::optional<int> high = order(bytes, last);
    if ((low && *low < 0) || (high && *high > 0)) return FilterAnswer::no;
    return low && high ? FilterAnswer::yes : FilterAnswer::perhaps;
}

}  // namespace udpproxy
