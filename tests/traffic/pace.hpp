// A fixed rate: how many are due by now. Who was held up catches up for a moment only; what is
// older is left out, since a burst would measure the queue and not the load.
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
    /// `per_second` of 0 means as many as can be.
    Pace(double per_second, Instant start) : per_second_(per_second), start_(start) {}

    /// How many to send now, at most `most`.
    [[nodiscard]] std::uint32_t due(Instant now, std::uint32_t most) {
        if (per_second_ <= 0) return most;
        const double target = std::chrono::duration<double>(now - start_).count() * per_second_ + 1;
        const double behind_most = std::max(1.0, per_second_ * 0.02);
        done_ = std::max(done_, target - behind_most);
        const double open = std::clamp(target - done_, 0.0, static_cast<double>(most));
        const auto count = static_cast<std::uint32_t>(open);
        done_ += count;
        return count;
    }

    /// Until the next is due.
    [[nodiscard]] Duration until_next(Instant now) const {
        if (per_second_ <= 0) return Duration::zero();
        const auto next = start_ + std::chrono::duration_cast<Duration>(
                                       std::chrono::duration<double>(done_ / per_second_));
        return std::max(Duration::zero(), next - now);
    }

private:
    double per_second_;
    Instant start_;
    double done_ = 0;
};

}  // namespace udpproxy::traffic
