// The only file that reads clocks and sleeps, so that everything above it is testable without both.
#include "udpproxy/base/time.hpp"

#include <sys/prctl.h>

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

void sleep_for(Duration duration) noexcept {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
    const timespec time{seconds.count(), (duration - seconds).count()};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

void make_sleep_exact() noexcept { ::prctl(PR_SET_TIMERSLACK, 1UL); }

Duration thread_processor_time() noexcept { return read(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace udpproxy
