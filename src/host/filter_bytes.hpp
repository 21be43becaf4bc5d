// Bytes of which some are not known, and tests of them that may have no answer: what
// packet_filter.cpp's registers hold.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "udpproxy/host/packet_filter.hpp"

namespace udpproxy {

using FilterBytes = std::vector<std::optional<std::uint8_t>>;
enum class FilterAnswer : std::uint8_t { no, perhaps, yes };

[[nodiscard]] inline FilterAnswer answer_of(bool truth) {
    return truth ? FilterAnswer::yes : FilterAnswer::no;
}
[[nodiscard]] inline FilterAnswer negated(FilterAnswer answer) {
    return answer == FilterAnswer::yes  ? FilterAnswer::no
           : answer == FilterAnswer::no ? FilterAnswer::yes
                                        : answer;
}

/// A number as it lies in memory.
template <class T>
[[nodiscard]] FilterBytes filter_bytes(T number) {
    std::vector<std::uint8_t> bytes(sizeof number);
    std::memcpy(bytes.data(), &number, sizeof number);
    return {bytes.begin(), bytes.end()};
}

/// The headers as far as the datagram decides them; an unspecified address and port 0 are not
/// known.
[[nodiscard]] FilterBytes network_header(const FilteredDatagram& datagram);
[[nodiscard]] FilterBytes transport_header(const FilteredDatagram& datagram);

/// -1, 0, 1 as memcmp, where the known bytes decide.
[[nodiscard]] std::optional<int> order(const FilterBytes& bytes,
                                       const std::vector<std::uint8_t>& data);
[[nodiscard]] FilterAnswer equals(const FilterBytes& bytes, const std::vector<std::uint8_t>& data);
/// `first` <= bytes <= `last`
[[nodiscard]] FilterAnswer is_between(const FilterBytes& bytes,
                                      const std::vector<std::uint8_t>& first,
                                      const std::vector<std::uint8_t>& last);

}  // namespace udpproxy
