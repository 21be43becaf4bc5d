// Descriptor: owns one descriptor of the kernel. And the end of all that nobody owns.
#pragma once

#include <span>
#include <utility>

namespace udpproxy {

class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int descriptor) noexcept : descriptor_(descriptor) {}
    Descriptor(Descriptor&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor();

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] int release() noexcept { return std::exchange(descriptor_, -1); }
    explicit operator bool() const noexcept { return descriptor_ >= 0; }

private:
    int descriptor_ = -1;
};

/// Closes every descriptor from 3 on that is not in `kept`, whoever in this process uses it.
// Requires: `kept` is in ascending order.
void close_all_but(std::span<const int> kept) noexcept;

}  // namespace udpproxy
