// TokenBucket: how fast new sessions may begin. The bucket is one number, the moment at which it
// will be full again (the generic cell rate algorithm, ITU-T I.371), so that all shards can share
// it without a lock. It has no clock: every caller passes `now` of the same clock.
#pragma once

#include <atomic>
#include <cstdint>

#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// Tokens a second, and the number of tokens in a full bucket.
struct Rate {
    std::uint32_t per_second = 0;  // 0: no limit; at most 10^9
    std::uint32_t burst = 1;       // at least 1

    friend bool operator==(const Rate&, const Rate&) = default;
    [[nodiscard]] bool is_unlimited() const noexcept { return per_second == 0; }
    [[nodiscard]] std::int64_t interval_ns() const noexcept { return 1'000'000'000 / per_second; }
    [[nodiscard]] std::int64_t depth_ns() const noexcept { return interval_ns() * burst; }
};

class TokenBucket {
public:
    /// Whether a token is left. Requires: !rate.is_unlimited().
    [[nodiscard]] bool has_token(Instant now, const Rate& rate) const noexcept {
        const std::int64_t at = now.time_since_epoch().count();
        const std::int64_t full_at = full_at_.load(std::memory_order_relaxed);
        return (full_at > at ? full_at : at) + rate.interval_ns() - at <= rate.depth_ns();
    }

    /// Takes a token if one is left; always succeeds when there is no limit.
    [[nodiscard]] bool take(Instant now, const Rate& rate) noexcept {
        if (rate.is_unlimited()) return true;
        const std::int64_t at = now.time_since_epoch().count();
        std::int64_t full_at = full_at_.load(std::memory_order_relaxed);
        for (;;) {
            const std::int64_t next = (full_at > at ? full_at : at) + rate.interval_ns();
            if (next - at > rate.depth_ns()) return false;
            if (full_at_.compare_exchange_weak(full_at, next, std::memory_order_relaxed))
                return true;
        }
    }

    /// Puts back a token that was taken in vain. Requires: a take() with this rate that succeeded.
    void give_back(const Rate& rate) noexcept {
        if (!rate.is_unlimited()) full_at_.fetch_sub(rate.interval_ns(), std::memory_order_relaxed);
    }

    /// Called when the rate has changed to `rate`: a bucket that lacks more than it can now hold
    /// would refuse until the difference has passed, so it lacks all that it can hold.
    void fit(Instant now, const Rate& rate) noexcept {
        if (rate.is_unlimited()) return;
        const std::int64_t empty = now.time_since_epoch().count() + rate.depth_ns();
        std::int64_t full_at = full_at_.load(std::memory_order_relaxed);
        while (full_at > empty &&
               !full_at_.compare_exchange_weak(full_at, empty, std::memory_order_relaxed)) {
        }
    }
    /// Called when the bucket gets another owner.
    void fill() noexcept { full_at_.store(0, std::memory_order_relaxed); }

private:
    std::atomic<std::int64_t> full_at_{0};  // nanoseconds of the monotonic clock
};

}  // namespace udpproxy
