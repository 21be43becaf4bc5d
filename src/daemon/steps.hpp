// Steps of the control thread that may fail for want of memory or of a thread.
#pragma once

#include <exception>
#include <optional>

#include "udpproxy/base/time.hpp"
#include "udpproxy/log/log.hpp"

namespace udpproxy {

/// Runs steps of the control thread. A step that fails for want of memory or of a thread is
/// skipped, and reported once a minute. The shards and their sessions go on.
class Steps {
public:
    explicit Steps(Log& log) : log_(log) {}

    template <class Step>
    void run(const char* name, Step&& step) {
        try {
            step();
        } catch (const std::exception& failure) {  // bad_alloc, system_error
            tell(name, failure.what());
        }
    }

private:
    void tell(const char* name, const char* reason) noexcept {
        const Instant now = monotonic_now();
        if (told_at_ && now - *told_at_ < repeat_every) return;
        try {
            log_.error("step_failed", {{"step", name}, {"reason", reason}});
            told_at_ = now;
        } catch (const std::exception&) {
            return;  // no memory for the log line; the next failure tries again
        }
    }

    static constexpr Duration repeat_every = std::chrono::minutes{1};

    Log& log_;
    std::optional<Instant> told_at_;
};

}  // namespace udpproxy
