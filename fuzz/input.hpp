// Reads values from a fuzzer's bytes. What is read behind the end is zero, so that every input
// means something and a short one is not thrown away.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>

#include "fuzz/targets.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy::fuzz {

class Input {
public:
    explicit Input(Bytes bytes) : bytes_(bytes) {}

    [[nodiscard]] bool is_over() const { return bytes_.empty(); }

    template <class Number>
    Number number() {
        static_assert(std::is_integral_v<Number>);
        Number value{};
        const Bytes taken = take(sizeof value);
        if (!taken.empty()) std::memcpy(&value, taken.data(), taken.size());
        return value;
    }
    /// 0 to count - 1.
    // Requires: count > 0.
    std::uint32_t below(std::uint32_t count) {
        return count <= 256 ? number<std::uint8_t>() % count : number<std::uint32_t>() % count;
    }
    bool flag() { return (number<std::uint8_t>() & 1U) != 0; }
    /// At most so many bytes.
    Bytes take(std::size_t bytes_max) {
        const Bytes taken = bytes_.first(std::min(bytes_max, bytes_.size()));
        bytes_ = bytes_.subspan(taken.size());
        return taken;
    }
    /// Up to the next end of a line, which is skipped.
    std::string_view line() {
        const auto end = std::find(bytes_.begin(), bytes_.end(), '\n');
        const Bytes taken = take(static_cast<std::size_t>(end - bytes_.begin()));
        (void)take(1);
        return text_of(taken);
    }
    std::string_view rest() { return text_of(take(bytes_.size())); }
    /// Of either family, mapped addresses of IPv6 becoming IPv4.
    Address address() {
        Address address;
        if (flag()) return Address::ipv4(number<std::uint32_t>());
        const Bytes taken = take(address.bytes.size());
        std::copy(taken.begin(), taken.end(), address.bytes.begin());
        return address;
    }
    Address address(Family family) {
        if (family == Family::ipv4) return Address::ipv4(number<std::uint32_t>());
        Address address;
        const Bytes taken = take(address.bytes.size());
        std::copy(taken.begin(), taken.end(), address.bytes.begin());
        if (address.is_ipv4()) address.bytes[0] = 0x20;
        return address;
    }

    [[nodiscard]] static std::string_view text_of(Bytes bytes) {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

private:
    Bytes bytes_;
};

/// Whether the text is one line without control characters, as complaints and errors are.
inline bool is_one_line(std::string_view text) {
    return std::none_of(text.begin(), text.end(), [](char letter) {
        const auto byte = static_cast<unsigned char>(letter);
        return byte < 0x20 || byte == 0x7f;
    });
}

}  // namespace udpproxy::fuzz
