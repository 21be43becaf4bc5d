// Slab<T>: a fixed pool of T addressed by index, in reserved address space: an item that was never
// used was never touched, so a large limit costs no memory. Released items are acquired again last
// in, first out, because the last ones are most likely in the cache.
#pragma once

#include <cstdint>
#include <new>
#include <optional>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/reserved.hpp"

namespace udpproxy {

template <class T>
class Slab {
public:
    explicit Slab(std::uint32_t capacity)
        : items_(capacity), freed_(capacity), live_(capacity), capacity_(capacity) {}

    [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::uint32_t size() const noexcept { return high_water_ - freed_count_; }
    [[nodiscard]] bool full() const noexcept { return size() == capacity_; }
    /// Indices at or above this were never used.
    [[nodiscard]] std::uint32_t high_water() const noexcept { return high_water_; }
    [[nodiscard]] bool is_live(std::uint32_t index) const noexcept {
        return index < capacity_ && live_[index];
    }

    /// A new, value-initialised item, or nothing when the slab is full.
    [[nodiscard]] std::optional<std::uint32_t> acquire() {
        std::uint32_t index = 0;
        if (freed_count_ > 0)
            index = freed_[--freed_count_];
        else if (high_water_ < capacity_)
            index = high_water_++;
        else
            return std::nullopt;
        new (&items_[index]) T{};
        live_[index] = true;
        return index;
    }

    // Requires: is_live(index).
    void release(std::uint32_t index) {
        UDPPROXY_ASSERT(is_live(index));
        live_[index] = false;
        freed_[freed_count_++] = index;
    }

    // Requires: is_live(index).
    T& operator[](std::uint32_t index) {
        UDPPROXY_ASSERT(is_live(index));
        return items_[index];
    }
    const T& operator[](std::uint32_t index) const {
        UDPPROXY_ASSERT(is_live(index));
        return items_[index];
    }

    /// Begins to load the first two cache lines of an item. Requires: index < capacity().
    void prefetch(std::uint32_t index) const noexcept {
        __builtin_prefetch(&items_[index]);
        __builtin_prefetch(reinterpret_cast<const char*>(&items_[index]) + 64);
    }

private:
    Reserved<T> items_;
    Reserved<std::uint32_t> freed_;
    Reserved<bool> live_;
    std::uint32_t capacity_;
    std::uint32_t high_water_ = 0;
    std::uint32_t freed_count_ = 0;
};

}  // namespace udpproxy
