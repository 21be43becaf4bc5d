// A fixed rate: how many are due by now. Called by whatever sends: the load tool for datagrams, the
// benchmark's clients for bursts.
#pragma once

#include <algorithm>
#include <cstdint>

#include "udpproxy/base/time.hpp"

namespace udpproxy::traffic {

[[nodiscard]] inline Duration of_seconds(double seconds) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

class Pace {
public:
    /// A sender that was held up catches up with this much. What is older is left out: a longer
    /// burst would measure the queue and not the load.
    static constexpr Duration catch_up_usual = std::chrono::milliseconds{20};

    /// `per_second` of 0 means as many as can be.
    Pace(double per_second, Instant start, Duration catch_up = catch_up_usual)
        : per_second_(per_second),
          behind_most_(std::max(1.0, per_second * std::chrono::duration<double>(catch_up).count())),
          start_(start) {}

    /// How many to send now, at most `most`.
    [[nodiscard]] std::uint32_t due(Instant now, std::uint32_t most) {
        if (per_second_ <= 0) return most;
        const double target = std::chrono::duration<double>(now - start_).count() * per_second_ + 1;
        done_ = std::max(done_, target - behind_most_);
        const double open = std::clamp(target - done_, 0.0, static_cast<double>(most));
        const auto count = static_cast<std::uint32_t>(open);
        done_ += count;
        return count;
    }

    /// Until the next is due.
    [[nodiscard]] Duration until_next(Instant now) const {
        if (per_second_ <= 0) return Duration::zero();
        return std::max(Duration::zero(), start_ + of_seconds(done_ / per_second_) - now);
    }

private:
    double per_second_;
    double behind_most_;
    Instant start_;
    double done_ = 0;
};

}  // namespace udpproxy::traffic
