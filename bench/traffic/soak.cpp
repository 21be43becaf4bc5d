// The soak: runs on one CPU whenever nobody else wants it (SCHED_IDLE) and counts the time it got.
// What is missing from the clock was spent by somebody: by threads, by interrupts, by softirqs in
// whatever context, none of which any per-process figure tells whole. Idle time of /proc/stat would
// say the same in steps of ten milliseconds.
//
// Each look at the clock takes some 25 ns; a gap of more than a microsecond between two looks means
// that the CPU was taken away. It also keeps the CPU from sleeping, so that no measurement pays for
// waking a virtual CPU.
#include <sched.h>

#include <chrono>
#include <cstdio>

#include "arguments.hpp"
#include "sockets.hpp"
#include "tally.hpp"

int main(int count, char** words) {
    using namespace udpproxy::bench;
    using Clock = std::chrono::steady_clock;
    const Arguments arguments(count, words, "tally seconds");
    listen_for_stop();
    Tally& tally = mapped_tally(arguments.text("tally"));
    const sched_param parameters{};
    demand(::sched_setscheduler(0, SCHED_IDLE, &parameters) == 0, "SCHED_IDLE");
    std::puts("ready");
    std::fflush(stdout);

    constexpr auto gap_min = std::chrono::microseconds(1);
    const auto end = Clock::now() + std::chrono::seconds(arguments.number("seconds", 60));
    for (auto last = Clock::now(); !told_to_stop();) {
        const auto now = Clock::now();
        if (now - last < gap_min)
            tally.idle_ns.add(
                static_cast<std::uint64_t>(std::chrono::nanoseconds(now - last).count()));
        last = now;
        if (now > end) break;
    }
    return 0;
}
