// Batch<T>: a fixed array with a fill level. Its memory is allocated once, when a shard starts;
// pages of plain types stay untouched until they are used. A turn fills and clears the batches of
// arrivals, departures, faults and new clients.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

template <class T>
class Batch {
public:
    explicit Batch(std::size_t capacity)
        : items_(std::make_unique_for_overwrite<T[]>(capacity)), capacity_(capacity) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] std::size_t room() const noexcept { return capacity_ - size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] bool full() const noexcept { return size_ == capacity_; }
    void clear() noexcept { size_ = 0; }

    // Requires: !full(). Returns the new item, in the state its last user left it in.
    T& append() {
        UDPPROXY_ASSERT(size_ < capacity_);
        return items_[size_++];
    }
    // Requires: !full().
    void push(const T& item) { append() = item; }
    /// Takes in `count` items that were written at end(). Requires: count <= room().
    void extend(std::size_t count) {
        UDPPROXY_ASSERT(count <= room());
        size_ += count;
    }
    /// Keeps the first `size` items. Requires: size <= size().
    void truncate(std::size_t size) {
        UDPPROXY_ASSERT(size <= size_);
        size_ = size;
    }

    T& operator[](std::size_t index) {
        UDPPROXY_ASSERT(index < size_);
        return items_[index];
    }
    const T& operator[](std::size_t index) const {
        UDPPROXY_ASSERT(index < size_);
        return items_[index];
    }
    T* begin() noexcept { return items_.get(); }
    T* end() noexcept { return items_.get() + size_; }
    const T* begin() const noexcept { return items_.get(); }
    const T* end() const noexcept { return items_.get() + size_; }

private:
    std::unique_ptr<T[]> items_;
    std::size_t capacity_;
    std::size_t size_ = 0;
};

}  // namespace udpproxy
