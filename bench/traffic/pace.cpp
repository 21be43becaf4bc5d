// The clients' loop.
#include "pace.hpp"

#include <algorithm>
#include <ctime>

#include "sockets.hpp"

namespace udpproxy::bench {
namespace {

using Clock = std::chrono::steady_clock;

// A window whose replies do not come is opened again after this long: some were lost.
constexpr std::chrono::milliseconds patience{20};

void sleep_until(Clock::time_point when) {
    const auto since = when.time_since_epoch();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
    timespec time{};
    time.tv_sec = static_cast<time_t>(seconds.count());
    time.tv_nsec = static_cast<long>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(since - seconds).count());
    ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
}

class Window {
public:
    Window(const Tally& tally, std::uint32_t size) : tally_(tally), size_(size) {}

    // How many may be sent at `now`.
    std::uint64_t room(Clock::time_point now) {
        const std::uint64_t received = tally_.received.get();
        if (received != received_) {
            received_ = received;
            heard_at_ = now;
        } else if (now - heard_at_ > patience) {
            lost_ = tally_.sent.get() - received;
            heard_at_ = now;
        }
        const std::uint64_t gone = std::min(tally_.sent.get(), received + lost_);
        return size_ - std::min<std::uint64_t>(size_, tally_.sent.get() - gone);
    }

private:
    const Tally& tally_;
    std::uint64_t size_;
    std::uint64_t received_ = 0;
    std::uint64_t lost_ = 0;
    Clock::time_point heard_at_ = Clock::now();
};

}  // namespace

void send_at_pace(Crowd& crowd, const Tally& tally, const Pace& pace) {
    const auto start = Clock::now();
    const auto end = start + pace.length;
    Window window(tally, pace.window);
    std::uint64_t bursts = 0;
    for (auto now = start; now < end && !told_to_stop(); now = Clock::now()) {
        if (pace.rate > 0) {
            // From the start, not from the last burst: a late one does not make the rate lower.
            const auto due =
                start + std::chrono::nanoseconds(bursts * pace.burst * 1000000000U / pace.rate);
            if (now < due) {
                crowd.take_replies();
                sleep_until(std::min(due, end));
                continue;
            }
        }
        std::uint64_t datagrams = pace.burst;
        if (pace.window > 0) datagrams = std::min(datagrams, window.room(now));
        if (datagrams > 0) crowd.send(datagrams);
        ++bursts;
        crowd.take_replies();
    }
    for (const auto late_end = Clock::now() + pace.afterwards;
         Clock::now() < late_end && !told_to_stop();) {
        crowd.take_replies();
        sleep_until(Clock::now() + std::chrono::milliseconds(1));
    }
}

}  // namespace udpproxy::bench
