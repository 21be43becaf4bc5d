// Which segment sizes paths refused, and how long a refusal is remembered.
#include "segment_limits.hpp"

#include <cstring>

namespace udpproxy {

SegmentLimits::SegmentLimits() : entries_(std::make_unique<Entry[]>(places)) {}

void SegmentLimits::learn(Slot slot, const Address& to, std::uint32_t segment_bytes, Instant now) {
    entries_[place_of(slot, to)] = Entry{slot, segment_bytes, to, now + remembered_for};
}

std::optional<std::uint32_t> SegmentLimits::find(Slot slot, const Address& to, Instant now) const {
    const Entry& entry = entries_[place_of(slot, to)];
    if (entry.slot != slot || entry.to != to || now >= entry.forgotten_at) return std::nullopt;
    return entry.segment_bytes;
}

/// The hash has no secret key: a sender that makes two paths share a place only makes one path be
/// learned again, at the price of one refused send.
std::size_t SegmentLimits::place_of(Slot slot, const Address& to) noexcept {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    std::memcpy(&high, to.bytes.data(), sizeof high);
    std::memcpy(&low, to.bytes.data() + sizeof high, sizeof low);
    constexpr std::uint64_t odd = 0x9e3779b97f4a7c15U;  // 2^64 / golden ratio: spreads neighbours
    return static_cast<std::size_t>((((high * odd) ^ low ^ index_of(slot)) * odd) >> 54) % places;
}

}  // namespace udpproxy
