// Batch<T>: a fixed array with a fill level. Its memory is reserved once, when a shard starts, and
// its pages stay untouched until they are used. A turn fills and clears the batches of arrivals,
// departures, faults and new clients.
#pragma once

#include <cstddef>
#include <span>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/reserved.hpp"

namespace udpproxy {

template <class T>
class Batch {
public:
    /// What all zero bytes are must be a valid T. Throws std::bad_alloc.
    explicit Batch(std::size_t capacity) : items_(capacity) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return items_.size(); }
    [[nodiscard]] std::size_t room() const noexcept { return items_.size() - size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] bool full() const noexcept { return size_ == items_.size(); }
    void clear() noexcept { size_ = 0; }

    // Requires: !full(). Returns the new item, in the state its last user left it in, all zero
    // bytes at first.
    T& append() {
        UDPPROXY_ASSERT(size_ < items_.size());
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
    T* begin() noexcept { return items_.data(); }
    T* end() noexcept { return items_.data() + size_; }
    const T* begin() const noexcept { return items_.data(); }
    const T* end() const noexcept { return items_.data() + size_; }

private:
    Reserved<T> items_;
    std::size_t size_ = 0;
};

}  // namespace udpproxy
