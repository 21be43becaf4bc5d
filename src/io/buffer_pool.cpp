// Where receive buffers lie in memory, and which of them are available.
#include "udpproxy/io/buffer_pool.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

namespace udpproxy {

Result<BufferPool> BufferPool::create(std::uint32_t count, std::size_t buffer_bytes) {
    const std::size_t lines = (buffer_bytes + 63) / 64;
    const std::size_t stride_bytes = (lines | 1U) * 64;
    void* memory = ::mmap(nullptr, count * stride_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return system_error("mmap of " + std::to_string(count) + " receive buffers of " +
                                std::to_string(stride_bytes) + " bytes",
                            errno);
    return BufferPool{static_cast<std::byte*>(memory), count, stride_bytes};
}

BufferPool::BufferPool(std::byte* memory, std::uint32_t count, std::size_t stride_bytes)
    : memory_(memory),
      count_(count),
      stride_bytes_(stride_bytes),
      available_(count),
      is_out_(count) {
    for (std::uint32_t index = count; index > 0; --index) available_.push(index - 1);
    for (std::uint32_t index = 0; index < count; ++index) is_out_.push(false);
}

BufferPool::BufferPool(BufferPool&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      count_(other.count_),
      stride_bytes_(other.stride_bytes_),
      available_(std::move(other.available_)),
      is_out_(std::move(other.is_out_)) {}

BufferPool::~BufferPool() {
    if (memory_ != nullptr) ::munmap(memory_, count_ * stride_bytes_);
}

std::uint32_t BufferPool::acquire() {
    UDPPROXY_ASSERT(!available_.empty());
    const std::uint32_t index = available_[available_.size() - 1];
    available_.truncate(available_.size() - 1);
    is_out_[index] = true;
    return index;
}

void BufferPool::release(std::uint32_t index) {
    UDPPROXY_ASSERT(index < count_ && is_out_[index]);
    is_out_[index] = false;
    available_.push(index);
}

}  // namespace udpproxy
