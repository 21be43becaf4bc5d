// The clients before the proxies: many or few, fast or slow, one way or awaiting replies. Started
// by the runner for each measurement; counts into its tally, prints one line of JSON at the end and
// ends by itself.
#include <cinttypes>
#include <cstdio>
#include <memory>

#include "arguments.hpp"
#include "crowd.hpp"
#include "latency.hpp"
#include "pace.hpp"
#include "sockets.hpp"

namespace {

using namespace udpproxy::bench;

std::chrono::milliseconds length_of(const Arguments& arguments) {
    return std::chrono::milliseconds(arguments.number("ms", 1000));
}

void measure_latency(const Arguments& arguments, Tally& tally) {
    const LatencyPlan plan{arguments.text("target"), arguments.number("bytes", 64),
                           static_cast<unsigned>(arguments.number("rate", 1000)),
                           length_of(arguments)};
    const auto trips = round_trips(plan, tally);
    const auto at = [&](std::size_t percent) {
        return trips.empty() ? 0 : trips[(trips.size() - 1) * percent / 100];
    };
    std::printf("{\"round_trips\": %zu, \"p50_ns\": %" PRId64 ", \"p99_ns\": %" PRId64
                ", \"max_ns\": %" PRId64 "}\n",
                trips.size(), at(50), at(99), at(100));
}

void send_crowd(const Arguments& arguments, Tally& tally) {
    CrowdPlan plan;
    plan.clients = static_cast<std::uint32_t>(arguments.number("clients", 1));
    plan.run = static_cast<std::uint32_t>(arguments.number("run", 1));
    plan.churn = arguments.flag("churn");
    plan.payload_bytes = arguments.number("bytes", 64);
    plan.train_segments = static_cast<std::uint32_t>(arguments.number("segments", 1));
    plan.replies = arguments.flag("replies");
    plan.target = arguments.text("target");
    plan.interface = arguments.text("interface", "");
    plan.target_mac = arguments.text("mac", "");
    plan.first_address =
        ntohl(parse_address(arguments.text("first-client", "10.64.0.0") + ":0").sin_addr.s_addr);

    Pace pace;
    pace.rate = arguments.number("rate", 0);
    pace.burst = static_cast<std::uint32_t>(arguments.number("burst", 64));
    pace.window = static_cast<std::uint32_t>(arguments.number("window", 0));
    pace.length = length_of(arguments);
    pace.afterwards = std::chrono::milliseconds(arguments.number("afterwards-ms", 100));
    const auto crowd =
        plan.interface.empty() ? crowd_of_sockets(plan, tally) : crowd_of_frames(plan, tally);
    send_at_pace(*crowd, tally, pace);
    std::puts("{}");
}

}  // namespace

int main(int count, char** words) {
    const Arguments arguments(count, words,
                              "target interface mac first-client clients run bytes segments rate "
                              "burst window ms afterwards-ms tally "
                              "latency! churn! replies!");
    listen_for_stop();
    Tally& tally = mapped_tally(arguments.text("tally", ""));
    if (arguments.flag("latency")) {
        measure_latency(arguments, tally);
    } else {
        send_crowd(arguments, tally);
    }
    return 0;
}
