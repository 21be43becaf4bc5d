// within(): a bound on calls that have none. A file system whose server is away holds open(2) and
// read(2) for as long as it likes, and no flag of theirs changes that. So they run in a thread of
// their own, and the caller stops waiting for it.
#pragma once

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// Returns what `call()` returns, a Result. `call` must own all it uses: beyond the limit it goes
/// on unseen, until the system call returns or the program ends. Errors: those of the call; the
/// limit was reached (ETIMEDOUT); there is no thread (EAGAIN). Throws what the call throws.
template <class Call>
[[nodiscard]] auto within(Duration limit, Call call) -> decltype(call()) {
    using Outcome = decltype(call());
    const auto promise = std::make_shared<std::promise<Outcome>>();
    std::future<Outcome> outcome = promise->get_future();
    std::thread thread;
    try {
        thread = std::thread([promise, call = std::move(call)]() mutable {
            try {
                promise->set_value(call());
            } catch (...) {
                promise->set_exception(std::current_exception());
            }
        });
    } catch (const std::system_error& failure) {
        return system_error("no thread", failure.code().value());
    }
    if (outcome.wait_for(limit) != std::future_status::ready) {
        thread.detach();
        return no_answer(limit);
    }
    thread.join();
    return outcome.get();
}

}  // namespace udpproxy
