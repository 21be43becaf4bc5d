// The one place that reads the clock.
#include "udpproxy/base/time.hpp"

#include <ctime>

namespace udpproxy {

Instant monotonic_now() noexcept {
    timespec reading{};
    clock_gettime(CLOCK_MONOTONIC, &reading);
    return Instant{std::chrono::seconds{reading.tv_sec} + std::chrono::nanoseconds{reading.tv_nsec}};
}

}  // namespace udpproxy
