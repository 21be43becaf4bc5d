// within(): a bound on calls that have none. A file system whose server is away holds open(2) and
// read(2) for as long as it likes, and no flag of theirs changes that. So they run in a thread of
// their own, and the caller stops waiting for it. Threads that nobody waits for any more are
// bounded.
#pragma once

#include <atomic>
#include <cerrno>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// Calls that were given up and still go on, in this process.
inline constexpr int calls_given_up_max = 8;
inline std::atomic<int> calls_given_up{0};

/// Returns what `call()` returns, a Result. `call` must own all it uses: beyond the limit it goes
/// on unseen, until the system call returns or the program ends. Errors: those of the call; the
/// limit was reached (ETIMEDOUT); there is no thread, or as many earlier calls go on as may
/// (EAGAIN). Throws what the call throws.
template <class Call>
[[nodiscard]] auto within(Duration limit, Call call) -> decltype(call()) {
    using Outcome = decltype(call());
    struct Shared {
        std::promise<Outcome> promise;
        std::atomic<bool> one_is_through{false};  // the thread with the call, or the caller with
                                                  // its patience
    };
    if (calls_given_up >= calls_given_up_max)
        return Error{std::to_string(calls_given_up_max) + " earlier calls are not answered yet",
                     EAGAIN};
    const auto shared = std::make_shared<Shared>();
    std::future<Outcome> outcome = shared->promise.get_future();
    std::thread thread;
    try {
        thread = std::thread([shared, call = std::move(call)]() mutable {
            try {
                shared->promise.set_value(call());
            } catch (...) {
                shared->promise.set_exception(std::current_exception());
            }
            if (shared->one_is_through.exchange(true)) --calls_given_up;
        });
    } catch (const std::system_error& failure) {
        return system_error("no thread", failure.code().value());
    }
    if (outcome.wait_for(limit) != std::future_status::ready) {
        thread.detach();
        ++calls_given_up;
        if (shared->one_is_through.exchange(true)) --calls_given_up;
        return no_answer(limit);
    }
    thread.join();
    return outcome.get();
}

}  // namespace udpproxy
