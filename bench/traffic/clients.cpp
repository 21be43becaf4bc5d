// The clients before the proxies: many or few, fast or slow, one way or awaiting replies. Started
// by the runner for each measurement; counts into its tally, prints one line of JSON at the end and
// ends by itself.
#include <CLI/CLI.hpp>
#include <cinttypes>
#include <cstdio>
#include <memory>

#include "crowd.hpp"
#include "latency.hpp"
#include "send.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"
#include "traffic/stamp.hpp"

namespace {

using namespace udpproxy;
using namespace udpproxy::traffic;

struct Options {
    std::string target;
    std::string first_client = "10.64.0.0";
    std::string tally;
    std::uint32_t ms = 1000;
    std::uint32_t afterwards_ms = 100;
    bool latency = false;
    CrowdPlan crowd;
    SendPlan send;
};

void measure_latency(const Options& options, Tally& tally) {
    const LatencyPlan plan{options.crowd.target, options.crowd.payload_bytes, options.send.rate,
                           options.send.length};
    const auto trips = round_trips(plan, tally);
    const auto at = [&](std::size_t percent) {
        return trips.empty() ? 0 : trips[(trips.size() - 1) * percent / 100];
    };
    std::printf("{\"round_trips\": %zu, \"p50_ns\": %" PRId64 ", \"p99_ns\": %" PRId64
                ", \"max_ns\": %" PRId64 "}\n",
                trips.size(), at(50), at(99), at(100));
}

void send_crowd(const Options& options, Tally& tally) {
    const auto crowd = options.crowd.interface.empty() ? crowd_of_sockets(options.crowd, tally)
                                                       : crowd_of_frames(options.crowd, tally);
    send_all(*crowd, tally, options.send);
    std::puts("{}");
}

void run(Options& options) {
    options.crowd.target = wanted(parse_endpoint(options.target));
    options.crowd.first_address =
        ntohl(wanted(parse_address(options.first_client)).ipv4_network_order());
    options.send.length = std::chrono::milliseconds{options.ms};
    options.send.afterwards = std::chrono::milliseconds{options.afterwards_ms};
    Tally& tally = mapped_tally(options.tally);
    if (options.latency) {
        measure_latency(options, tally);
    } else {
        send_crowd(options, tally);
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"clients of udpproxy's benchmark"};
    Options options;
    app.add_option("--target", options.target, "the endpoint that they send to")->required();
    app.add_option("--interface", options.crowd.interface, "send frames from here, no sockets");
    app.add_option("--mac", options.crowd.target_mac, "hardware address that frames go to");
    app.add_option("--first-client", options.first_client, "address of the first client of frames");
    app.add_option("--clients", options.crowd.clients, "how many")->check(CLI::PositiveNumber);
    app.add_option("--run", options.crowd.run, "consecutive datagrams of one client")
        ->check(CLI::PositiveNumber);
    app.add_option("--bytes", options.crowd.payload_bytes, "of a datagram")
        ->check(CLI::Range(stamp_bytes_min, std::size_t{65507}));
    app.add_option("--segments", options.crowd.train_segments, "of a train")
        ->check(CLI::PositiveNumber);
    app.add_option("--rate", options.send.rate, "datagrams a second; 0: as many as can be");
    app.add_option("--burst", options.send.burst, "datagrams sent together")
        ->check(CLI::PositiveNumber);
    app.add_option("--window", options.send.window, "datagrams without a reply; 0: any");
    app.add_option("--ms", options.ms, "milliseconds of sending");
    app.add_option("--afterwards-ms", options.afterwards_ms, "milliseconds for late replies");
    app.add_option("--tally", options.tally, "file of the counts");
    app.add_flag("--latency", options.latency, "one request at a time instead");
    app.add_flag("--churn", options.crowd.churn, "each run comes from a client never seen before");
    app.add_flag("--replies", options.crowd.replies, "take and check replies");
    app.callback([&options] { run(options); });
    return run_program(app, argc, argv);
}
