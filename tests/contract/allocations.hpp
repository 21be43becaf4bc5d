// Counting what the running thread allocates, through malloc and everything built on it, and
// letting one of these allocations fail. Not under sanitisers, which bring an allocator of their
// own.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>

#include "contract/engines.hpp"

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

/// While it lives, the `failing`-th allocation of this thread fails, and no other.
class FailingAllocation {
public:
    explicit FailingAllocation(std::size_t failing) noexcept;
    ~FailingAllocation();
    FailingAllocation(const FailingAllocation&) = delete;
    FailingAllocation& operator=(const FailingAllocation&) = delete;
    [[nodiscard]] bool has_failed() const noexcept;
    /// Which one fails from now on; 0: none.
    [[nodiscard]] std::size_t left() const noexcept;
};

/// Lets each allocation of `act` fail in turn, until it does without failing one. `act(failing)` is
/// called again and again; it gets the number of the allocation that fails, 1 for the first, and
/// puts it into a FailingAllocation. It returns whether that allocation was reached.
template <class Act>
void let_each_allocation_fail(Act act) {
    if (!counts_allocations()) {
        skip("allocations are not counted under sanitisers");
        return;
    }
    for (std::size_t failing = 1;; ++failing) {
        CAPTURE(failing);
        if (!act(failing)) break;
    }
}

}  // namespace udpproxy::contract
