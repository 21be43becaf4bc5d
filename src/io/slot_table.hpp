// SlotTable: which socket sits in which slot, for both engines. A slot's generation changes
// whenever its socket goes, so that a late completion or event of an earlier holder is recognised
// and changes nothing.
#pragma once

#include <cstdint>
#include <memory>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/batch.hpp"
#include "udpproxy/io/traffic.hpp"

namespace udpproxy {

struct SlotEntry {
    int descriptor;            // -1: nobody's
    std::uint32_t generation;  // low 24 bits are used
    Family family;
    Leg leg;
    bool armed;    // io_uring: a receive is in the kernel
    bool queued;   // waits on a list: to be armed, or for a buffer
    bool closing;  // close() was called
    bool ending;   // io_uring: closing, and the cancel of its receive is on its way
    bool offload;  // takes and sends trains
    bool limited;  // a path of it once refused a train: see SegmentLimits
};

class SlotTable {
public:
    /// Slots below `listeners_max` are given out by assign_listener() alone.
    SlotTable(std::uint32_t listeners_max, std::uint32_t slots_max)
        : entries_(std::make_unique_for_overwrite<SlotEntry[]>(slots_max)),
          listeners_max_(listeners_max),
          slots_max_(slots_max),
          high_water_(listeners_max),
          free_(slots_max) {
        UDPPROXY_ASSERT(listeners_max <= slots_max);
        for (std::uint32_t index = 0; index < listeners_max; ++index)
            entries_[index] = SlotEntry{-1,    0,     Family::ipv4, Leg::request, false,
                                        false, false, false,        false,        false};
    }

    [[nodiscard]] std::uint32_t slots_max() const noexcept { return slots_max_; }
    [[nodiscard]] std::uint32_t listeners_max() const noexcept { return listeners_max_; }
    /// For members.
    [[nodiscard]] std::uint32_t slots_free() const noexcept {
        return slots_max_ - high_water_ + static_cast<std::uint32_t>(free_.size());
    }

    // Requires: slots_free() > 0.
    Slot assign(int descriptor, Family family, Leg leg, bool offload) {
        UDPPROXY_ASSERT(slots_free() > 0);
        std::uint32_t index = high_water_;
        if (free_.empty()) {
            entries_[high_water_++].generation = 0;
        } else {
            index = free_[free_.size() - 1];
            free_.truncate(free_.size() - 1);
        }
        SlotEntry& entry = entries_[index];
        entry = SlotEntry{descriptor, entry.generation, family, leg, false, false, false,
                          false,      offload,          false};
        return Slot{index};
    }

    // Requires: a slot below listeners_max that nobody has.
    void assign_listener(Slot slot, int descriptor, Family family, bool offload) {
        SlotEntry& entry = (*this)[slot];
        UDPPROXY_ASSERT(index_of(slot) < listeners_max_ && entry.descriptor < 0);
        entry = SlotEntry{descriptor, entry.generation, family, Leg::request, false, false, false,
                          false,      offload,          false};
    }

    /// The slot is free again, its generation over.
    void vacate(Slot slot) {
        SlotEntry& entry = (*this)[slot];
        UDPPROXY_ASSERT(entry.descriptor >= 0 && !entry.armed);
        entry.descriptor = -1;
        entry.generation = (entry.generation + 1) & 0xffffffU;
        if (index_of(slot) >= listeners_max_) free_.push(index_of(slot));
    }

    SlotEntry& operator[](Slot slot) {
        UDPPROXY_ASSERT(index_of(slot) < high_water_);
        return entries_[index_of(slot)];
    }

    /// Slots ever used: everything at or above is untouched.
    [[nodiscard]] std::uint32_t high_water() const noexcept { return high_water_; }

private:
    std::unique_ptr<SlotEntry[]> entries_;
    std::uint32_t listeners_max_;
    std::uint32_t slots_max_;
    std::uint32_t high_water_;  // slots below it have an entry
    Batch<std::uint32_t> free_;
};

}  // namespace udpproxy
