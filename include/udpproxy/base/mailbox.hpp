// Mailbox<T>: a bounded queue from one thread to one other, without locks. Commands travel from the
// control thread to a shard, events back. A full mailbox rejects a letter; the sender counts that.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <utility>

namespace udpproxy {

template <class T>
class Mailbox {
public:
    /// Capacity is rounded up to a power of two.
    explicit Mailbox(std::size_t capacity)
        : mask_(std::bit_ceil(capacity) - 1), letters_(std::make_unique<T[]>(mask_ + 1)) {}

    /// Called by the one sender. False: full, nothing was posted.
    [[nodiscard]] bool post(const T& letter) {
        const std::size_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - head_.load(std::memory_order_acquire) > mask_) return false;
        letters_[tail & mask_] = letter;
        tail_.store(tail + 1, std::memory_order_release);
        return true;
    }

    /// Called by the one sender: how many letters will not be refused.
    [[nodiscard]] std::size_t room() const {
        return mask_ + 1 -
               (tail_.load(std::memory_order_relaxed) - head_.load(std::memory_order_acquire));
    }

    /// Called by either: whether everything that was posted has been taken.
    [[nodiscard]] bool is_empty() const {
        return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
    }

    /// Called by the one receiver. False: nothing there.
    [[nodiscard]] bool take(T& letter) {
        const std::size_t head = head_.load(std::memory_order_relaxed);
        if (head == tail_.load(std::memory_order_acquire)) return false;
        letter = std::move(letters_[head & mask_]);  // what a letter holds goes with it
        head_.store(head + 1, std::memory_order_release);
        return true;
    }

private:
    std::size_t mask_;
    std::unique_ptr<T[]> letters_;
    alignas(64) std::atomic<std::size_t> head_{0};
    alignas(64) std::atomic<std::size_t> tail_{0};
};

}  // namespace udpproxy
