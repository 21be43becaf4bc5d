// Counting what the running thread allocates, through malloc and everything built on it. Not under
// sanitisers, which bring an allocator of their own.
#pragma once

#include <cstddef>

namespace udpproxy::contract {

/// Whether this build counts.
[[nodiscard]] bool counts_allocations() noexcept;

/// Allocations of this thread since it began to exist, while a Counting is alive.
[[nodiscard]] std::size_t allocations() noexcept;

/// While it lives, allocations of this thread are counted.
class Counting {
public:
    Counting() noexcept;
    ~Counting();
    Counting(const Counting&) = delete;
    Counting& operator=(const Counting&) = delete;
};

}  // namespace udpproxy::contract
