// SlotTable: which socket is in which slot, for both engines. A slot's generation changes whenever
// its socket goes, so that a late completion or event of an earlier holder is recognised and
// changes nothing.
#pragma once

#include <cstdint>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/reserved.hpp"
#include "udpproxy/io/traffic.hpp"

namespace udpproxy {

struct SlotEntry {
    int descriptor;            // -1: the slot is free
    std::uint32_t generation;  // low 24 bits are used
    Family family;
    Leg leg;
    bool armed;    // io_uring: a receive is in the kernel
    bool queued;   // waits on a list: to be armed, or for a buffer
    bool closing;  // close() was called
    bool ending;   // io_uring: closing, and the cancel of its receive is on its way
    bool offload;  // takes and sends trains
    bool limited;  // one of its paths once refused a train: see SegmentLimits
};

class SlotTable {
public:
    /// Listeners have slots from 0 up, by assign_listener(); members have slots from the top down.
    /// So neither kind takes a slot from the other before all are in use. A slot that was once a
    /// listener's is never a member's: a slot's leg is for ever.
    explicit SlotTable(std::uint32_t slots_max)
        : entries_(slots_max), slots_max_(slots_max), members_begin_(slots_max), free_(slots_max) {}

    [[nodiscard]] std::uint32_t slots_max() const noexcept { return slots_max_; }
    [[nodiscard]] Leg leg_of(Slot slot) const noexcept {
        return index_of(slot) < listeners_end_ ? Leg::request : Leg::reply;
    }
    /// Free slots for members.
    [[nodiscard]] std::uint32_t slots_free() const noexcept {
        return members_begin_ - listeners_end_ + static_cast<std::uint32_t>(free_.size());
    }

    // Requires: slots_free() > 0.
    Slot assign(int descriptor, Family family, bool offload) {
        UDPPROXY_ASSERT(slots_free() > 0);
        if (free_.empty()) free_.push(--members_begin_);
        const std::uint32_t index = free_[free_.size() - 1];
        free_.truncate(free_.size() - 1);
        place(index, descriptor, family, Leg::reply, offload);
        return Slot{index};
    }

    /// Whether the slot may be a listener's: a slot that a member has had may not.
    [[nodiscard]] bool may_be_listener(Slot slot) const noexcept {
        return index_of(slot) < members_begin_;
    }
    // Requires: may_be_listener(), and the slot is free.
    void assign_listener(Slot slot, int descriptor, Family family, bool offload) {
        const std::uint32_t index = index_of(slot);
        UDPPROXY_ASSERT(may_be_listener(slot));
        for (; listeners_end_ <= index; ++listeners_end_) entries_[listeners_end_].descriptor = -1;
        UDPPROXY_ASSERT(entries_[index].descriptor < 0);
        place(index, descriptor, family, Leg::request, offload);
    }

    /// Frees the slot and ends its generation.
    void vacate(Slot slot) {
        SlotEntry& entry = (*this)[slot];
        UDPPROXY_ASSERT(entry.descriptor >= 0 && !entry.armed);
        entry.descriptor = -1;
        entry.generation = (entry.generation + 1) & 0xffffffU;
        if (leg_of(slot) == Leg::reply) free_.push(index_of(slot));
    }

    // Requires: the slot has been assigned before.
    const SlotEntry& operator[](Slot slot) const {
        UDPPROXY_ASSERT(index_of(slot) < slots_max_);
        return entries_[index_of(slot)];
    }
    SlotEntry& operator[](Slot slot) {
        UDPPROXY_ASSERT(index_of(slot) < listeners_end_ || index_of(slot) >= members_begin_);
        return entries_[index_of(slot)];
    }

    /// Calls `use(descriptor)` for every open socket.
    template <class Use>
    void for_each_descriptor(Use&& use) {
        for (std::uint32_t index = 0; index < slots_max_; ++index) {
            if (index == listeners_end_) index = members_begin_;
            if (index < slots_max_ && entries_[index].descriptor >= 0)
                use(entries_[index].descriptor);
        }
    }

private:
    void place(std::uint32_t index, int descriptor, Family family, Leg leg, bool offload) {
        SlotEntry& entry = entries_[index];
        entry = SlotEntry{descriptor, entry.generation, family, leg, false, false, false,
                          false,      offload,          false};
    }

    Reserved<SlotEntry> entries_;
    std::uint32_t slots_max_;
    std::uint32_t listeners_end_ = 0;  // no slot from here up was ever a listener's
    std::uint32_t members_begin_;      // no slot below was ever a member's
    Batch<std::uint32_t> free_;        // slots that members left
};

}  // namespace udpproxy
