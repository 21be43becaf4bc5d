// The clients' loop.
#include "send.hpp"

#include <algorithm>

#include "traffic/pace.hpp"
#include "traffic/program.hpp"

namespace udpproxy::traffic {
namespace {

// A window whose replies do not come is opened again after this long: some were lost.
constexpr Duration patience = std::chrono::milliseconds{20};
// Bursts are due from the start, not from the last burst, however late one was: the rate of a
// measurement must be what was asked for.
constexpr Duration catch_up_max = std::chrono::hours{1};

class Window {
public:
    Window(const Tally& tally, std::uint32_t size) : tally_(tally), size_(size) {}

    // How many may be sent at `now`.
    std::uint64_t room(Instant now) {
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
    Instant heard_at_ = monotonic_now();
};

}  // namespace

void send_all(Crowd& crowd, const Tally& tally, const SendPlan& plan) {
    const Instant start = monotonic_now();
    const Instant end = start + plan.length;
    Window window(tally, plan.window);
    Pace bursts(static_cast<double>(plan.rate) / plan.burst, start, catch_up_max);
    for (Instant now = start; now < end && !stop_wanted(); now = monotonic_now()) {
        if (bursts.due(now, 1) == 0) {
            crowd.take_replies();
            now = monotonic_now();
            sleep_for(std::min(bursts.until_next(now), std::max(end - now, Duration::zero())));
            continue;
        }
        std::uint64_t datagrams = plan.burst;
        if (plan.window > 0) datagrams = std::min(datagrams, window.room(now));
        if (datagrams > 0) crowd.send(datagrams);
        crowd.take_replies();
    }
    for (const Instant late_end = monotonic_now() + plan.afterwards;
         monotonic_now() < late_end && !stop_wanted();) {
        crowd.take_replies();
        sleep_for(std::chrono::milliseconds{1});
    }
}

}  // namespace udpproxy::traffic
