// Reserved<T>: an array of fixed size in reserved address space. It is all zero bytes, and becomes
// memory page by page where it is first touched: a table as large as the machine allows costs a
// small configuration next to nothing, and nothing is ever allocated later.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

namespace udpproxy {

/// Address space without a claim to memory (MAP_NORESERVE), or null. It counts nevertheless under
/// RLIMIT_AS and, as the kernel ignores the flag there, under vm.overcommit_memory = 2 (mm/mmap.c).
/// PROT_NONE would not count, but each page would then need a system call before its first use.
[[nodiscard]] inline void* reserve_memory(std::size_t bytes) noexcept {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

/// Whether so much address space could be reserved now.
[[nodiscard]] inline bool can_reserve(std::size_t bytes) noexcept {
    void* memory = reserve_memory(bytes);
    if (memory == nullptr) return false;
    ::munmap(memory, bytes);
    return true;
}

/// Whether RLIMIT_AS leaves so much address space now, for what takes no memory that counts
/// elsewhere, as a shared file does.
[[nodiscard]] inline bool has_address_space(std::size_t bytes) noexcept {
    void* space = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) return false;
    ::munmap(space, bytes);
    return true;
}

template <class T>
class Reserved {
    static_assert(std::is_trivially_destructible_v<T>, "items are forgotten, not destroyed");

public:
    /// What all zero bytes are must be a valid T. Throws std::bad_alloc.
    explicit Reserved(std::size_t size) : size_(size) {
        if (size == 0) return;
        if (size > std::numeric_limits<std::size_t>::max() / sizeof(T)) throw std::bad_alloc{};
        items_ = static_cast<T*>(reserve_memory(size * sizeof(T)));
        if (items_ == nullptr) throw std::bad_alloc{};
    }
    ~Reserved() {
        if (items_ != nullptr) ::munmap(items_, size_ * sizeof(T));
    }
    Reserved(Reserved&& other) noexcept
        : items_(std::exchange(other.items_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    Reserved& operator=(Reserved&&) = delete;
    Reserved(const Reserved&) = delete;
    Reserved& operator=(const Reserved&) = delete;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Requires: index < size(); not checked, the tables that are made of it know their bounds.
    T& operator[](std::size_t index) noexcept { return items_[index]; }
    const T& operator[](std::size_t index) const noexcept { return items_[index]; }
    T* data() noexcept { return items_; }
    const T* data() const noexcept { return items_; }

private:
    T* items_ = nullptr;
    std::size_t size_;
};

}  // namespace udpproxy
