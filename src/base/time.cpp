// The one place that reads clocks.
#include "udpproxy/base/time.hpp"

#include <ctime>

namespace udpproxy {

namespace {

Duration read(clockid_t clock) noexcept {
    timespec reading{};
    clock_gettime(clock, &reading);
    return std::chrono::seconds{reading.tv_sec} + std::chrono::nanoseconds{reading.tv_nsec};
}

}  // namespace

Instant monotonic_now() noexcept { return Instant{read(CLOCK_MONOTONIC)}; }

Duration thread_processor_time() noexcept { return read(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace udpproxy
