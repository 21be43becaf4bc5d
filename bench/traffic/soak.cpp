// The soak: runs on one CPU whenever nobody else wants it (SCHED_IDLE) and counts the time it got.
// What is missing from the clock was spent by somebody: by threads, by interrupts, by softirqs in
// whatever context, none of which any per-process figure tells whole. Idle time of /proc/stat would
// say the same in steps of ten milliseconds.
//
// Each look at the clock takes some 25 ns; a gap of more than a microsecond between two looks means
// that the CPU was taken away. It also keeps the CPU from sleeping, so that no measurement pays for
// waking a virtual CPU.
#include <sched.h>

#include <CLI/CLI.hpp>

#include "traffic/program.hpp"
#include "traffic/sockets.hpp"
#include "traffic/tally.hpp"

namespace {

using namespace udpproxy;
using namespace udpproxy::traffic;

constexpr Duration gap_min = std::chrono::microseconds{1};

void run(const std::string& tally_path, std::uint32_t seconds) {
    Tally& tally = mapped_tally(tally_path);
    const sched_param parameters{};
    if (::sched_setscheduler(0, SCHED_IDLE, &parameters) != 0) fail("SCHED_IDLE");
    say_ready();
    const Instant end = monotonic_now() + std::chrono::seconds{seconds};
    for (Instant last = monotonic_now(); !stop_wanted() && last <= end;) {
        const Instant now = monotonic_now();
        if (now - last < gap_min)
            tally.idle_ns.add(static_cast<std::uint64_t>((now - last).count()));
        last = now;
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"counts the time that nobody else wants"};
    std::string tally;
    std::uint32_t seconds = 60;
    app.add_option("--tally", tally, "file of the count")->required();
    app.add_option("--seconds", seconds, "at most");
    app.callback([&] { run(tally, seconds); });
    return run_program(app, argc, argv);
}
