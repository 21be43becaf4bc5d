// Measures round trips.
#include "latency.hpp"

#include <sys/socket.h>

#include <algorithm>

#include "traffic/ownership.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"
#include "traffic/stamp.hpp"

namespace udpproxy::traffic {

namespace {

constexpr Duration answer_patience = std::chrono::milliseconds{100};

}  // namespace

std::vector<std::int64_t> round_trips(const LatencyPlan& plan, Tally& tally) {
    const Socket socket = open_connected_udp(plan.target, {});
    set_receive_timeout(socket, answer_patience);

    Ownership ownership(tally, 1, false);
    std::vector<std::int64_t> trips;
    std::vector<std::byte> payload(plan.payload_bytes);
    const auto start = monotonic_now();
    for (std::uint32_t sequence = 0; !stop_wanted(); ++sequence) {
        const auto due = start + sequence * std::chrono::nanoseconds(1000000000U / plan.rate);
        // The clock as well: lost replies take their time.
        if (std::max(due, monotonic_now()) >= start + plan.length) break;
        if (const Instant now = monotonic_now(); now < due) sleep_for(due - now);
        write_stamp(payload, {0, sequence});
        const auto asked_at = monotonic_now();
        if (::send(socket.descriptor(), payload.data(), payload.size(), 0) < 0) continue;
        tally.sent.add(1);
        // A late reply to an older request is taken and not timed.
        for (bool answered = false; !answered;) {
            const auto got = ::recv(socket.descriptor(), payload.data(), payload.size(), 0);
            if (got < 0) break;
            const auto taken =
                std::span<const std::byte>(payload).first(static_cast<std::size_t>(got));
            ownership.check(taken, taken.size(), 0, 0);
            const auto stamp = read_stamp(taken);
            answered = stamp && stamp->sequence == sequence;
            if (answered) trips.push_back((monotonic_now() - asked_at).count());
        }
    }
    std::sort(trips.begin(), trips.end());
    return trips;
}

}  // namespace udpproxy::traffic
