// Time as the proxy knows it: monotonic nanoseconds (CLOCK_MONOTONIC: excludes suspend, never
// steps), read once per turn and handed down as `now`. Wall-clock time exists in log lines only.
#pragma once

#include <chrono>

namespace udpproxy {

using Duration = std::chrono::nanoseconds;

/// A clock type for std::chrono's arithmetic. It has no now() on purpose: a function that needs the
/// time takes it as a parameter.
struct MonotonicClock {
    using rep = Duration::rep;
    using period = Duration::period;
    using duration = Duration;
    using time_point = std::chrono::time_point<MonotonicClock, Duration>;
    static constexpr bool is_steady = true;
};

using Instant = MonotonicClock::time_point;

/// Reads CLOCK_MONOTONIC. Called by loops, engines and the control thread only.
[[nodiscard]] Instant monotonic_now() noexcept;

/// The calling thread sleeps; a signal may end it early.
void sleep_for(Duration duration) noexcept;
/// The calling thread's sleeps end when they are due, instead of up to 50 us later (prctl(2),
/// PR_SET_TIMERSLACK).
void make_sleep_exact() noexcept;

/// Processor time of the calling thread, the kernel's part included (CLOCK_THREAD_CPUTIME_ID).
[[nodiscard]] Duration thread_processor_time() noexcept;

}  // namespace udpproxy
