// SegmentLimits: which paths refuse trains of which segment size, so that what the kernel has
// refused once is not tried again with every batch. A small fixed table that forgets: a path that
// changes is tried again after a minute, and one that was pushed out by another is learned anew.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/slot.hpp"

namespace udpproxy {

class SegmentLimits {
public:
    static constexpr Duration remembered_for = std::chrono::seconds{60};

    SegmentLimits();

    /// Segments on `slot` towards `to` (unspecified: the slot is connected) are at most
    /// `segment_bytes` long in trains from now on.
    void learn(Slot slot, const Address& to, std::uint32_t segment_bytes, Instant now);
    /// Nothing when no limit is known.
    [[nodiscard]] std::optional<std::uint32_t> find(Slot slot, const Address& to,
                                                    Instant now) const;

private:
    static constexpr std::size_t places = 1024;  // direct-mapped

    struct Entry {
        Slot slot = no_slot;
        std::uint32_t segment_bytes = 0;
        Address to;
        Instant forgotten_at{};
    };

    [[nodiscard]] static std::size_t place_of(Slot slot, const Address& to) noexcept;

    std::unique_ptr<Entry[]> entries_;
};

}  // namespace udpproxy
