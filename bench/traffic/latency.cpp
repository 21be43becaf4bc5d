// Measures round trips.
#include "latency.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "ownership.hpp"
#include "sockets.hpp"
#include "stamp.hpp"

namespace udpproxy::bench {

std::vector<std::int64_t> round_trips(const LatencyPlan& plan, Tally& tally) {
    using Clock = std::chrono::steady_clock;
    const int socket = open_udp(parse_address("0.0.0.0:0"), {});
    connect_udp(socket, parse_address(plan.target));
    const timeval patience{0, 100000};
    demand(::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0,
           "SO_RCVTIMEO");

    Ownership ownership(tally, 1, false);
    std::vector<std::int64_t> trips;
    std::vector<std::byte> payload(plan.payload_bytes);
    const auto start = Clock::now();
    for (std::uint32_t sequence = 0; !told_to_stop(); ++sequence) {
        const auto due = start + sequence * std::chrono::nanoseconds(1000000000U / plan.rate);
        // The clock as well: lost replies take their time.
        if (std::max(due, Clock::now()) >= start + plan.length) break;
        std::this_thread::sleep_until(due);
        write_stamp(payload, {0, sequence});
        const auto asked_at = Clock::now();
        if (::send(socket, payload.data(), payload.size(), 0) < 0) continue;
        tally.sent.add(1);
        // A late reply to an older request is taken and not timed.
        for (bool answered = false; !answered;) {
            const auto got = ::recv(socket, payload.data(), payload.size(), 0);
            if (got < 0) break;
            const auto taken =
                std::span<const std::byte>(payload).first(static_cast<std::size_t>(got));
            ownership.judge(taken, taken.size(), 0, 0);
            const auto stamp = read_stamp(taken);
            answered = stamp && stamp->sequence == sequence;
            if (answered)
                trips.push_back(std::chrono::nanoseconds(Clock::now() - asked_at).count());
        }
    }
    std::sort(trips.begin(), trips.end());
    return trips;
}

}  // namespace udpproxy::bench
