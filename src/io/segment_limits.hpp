// SegmentLimits: which paths refuse trains of which segment size, so that the engine does not try
// again with every batch what the kernel has refused once. The table is small, of fixed size, and
// forgets. A path is tried again after a minute, because it may have changed. A path that another
// path pushed out is learned anew.
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

    /// From now on segments in trains on `slot` towards `to` are at most `segment_bytes` long. `to`
    /// is unspecified when the slot is connected.
    void learn(Slot slot, const Address& to, std::uint32_t segment_bytes, Instant now);
    /// Returns nothing when no limit is known.
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
