// BufferPool: the receive buffers of one leg of one engine. The pool is one stretch of address
// space, cut into equal buffers; a page that no datagram ever reached costs nothing. The pool knows
// where each buffer lies and which buffers are available. The io_uring engine provides some of them
// to the kernel; the epoll engine acquires them one by one. The buffer released last is acquired
// first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "udpproxy/base/batch.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/io/traffic.hpp"

namespace udpproxy {

// A buffer's number names its pool: the highest bit is the leg.
[[nodiscard]] constexpr Buffer buffer_of(Leg leg, std::uint32_t index) noexcept {
    return Buffer{index | (leg == Leg::reply ? 0x80000000U : 0U)};
}
[[nodiscard]] constexpr Leg leg_of(Buffer buffer) noexcept {
    return (static_cast<std::uint32_t>(buffer) >> 31) != 0 ? Leg::reply : Leg::request;
}
[[nodiscard]] constexpr std::uint32_t index_of(Buffer buffer) noexcept {
    return static_cast<std::uint32_t>(buffer) & 0x7fffffffU;
}

class BufferPool {
public:
    /// `count` buffers of `buffer_bytes` each. The size is rounded up to an odd multiple of 64, so
    /// that equal places in neighbouring buffers do not fall on one cache set. Errors: mmap ENOMEM.
    [[nodiscard]] static Result<BufferPool> create(std::uint32_t count, std::size_t buffer_bytes);

    BufferPool(BufferPool&& other) noexcept;
    BufferPool& operator=(BufferPool&&) = delete;
    BufferPool(const BufferPool&) = delete;
    ~BufferPool();

    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }
    [[nodiscard]] std::size_t stride_bytes() const noexcept { return stride_bytes_; }
    // Requires: index < count().
    [[nodiscard]] std::byte* at(std::uint32_t index) const noexcept {
        return memory_ + index * stride_bytes_;
    }

    /// Buffers that can be acquired.
    [[nodiscard]] std::size_t available() const noexcept { return available_.size(); }
    // Requires: available() > 0. Returns the buffer released last.
    [[nodiscard]] std::uint32_t acquire();
    // Requires: the buffer is acquired. Releasing one buffer twice is a bug.
    void release(std::uint32_t index);

private:
    BufferPool(std::byte* memory, std::uint32_t count, std::size_t stride_bytes);

    std::byte* memory_;
    std::uint32_t count_;
    std::size_t stride_bytes_;
    Batch<std::uint32_t> available_;
    Batch<bool> is_out_;
};

}  // namespace udpproxy
