// Filters line by line, and keeps what could not be sent.
#include "relay.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "store.hpp"

namespace udpproxy {

namespace {

constexpr std::array<std::string_view, 3> states{"READY=1", "RELOADING=1", "STOPPING=1"};
constexpr std::array<std::string_view, 3> keys{"MONOTONIC_USEC=", "STATUS=", "ERRNO="};
// Any other value would ask the manager to end the program.
constexpr std::string_view is_well = "WATCHDOG=1";

bool is_state(std::string_view line) noexcept {
    return std::find(states.begin(), states.end(), line) != states.end();
}

bool has_key(std::string_view line) noexcept {
    return std::any_of(keys.begin(), keys.end(), [&](auto key) { return line.starts_with(key); });
}

}  // namespace

Relay::Outcome Relay::pass_on(std::string_view lines) noexcept {
    Outcome outcome;
    Lines passed;
    bool has_state = false;
    while (!lines.empty()) {
        const std::string_view line = lines.substr(0, lines.find('\n'));
        lines.remove_prefix(std::min(line.size() + 1, lines.size()));
        has_state = has_state || is_state(line);
        outcome.is_well = outcome.is_well || line == is_well;
        if (line != is_well && !is_state(line) && !has_key(line)) continue;
        if (passed.size > 0) passed.bytes[passed.size++] = '\n';
        std::copy(line.begin(), line.end(), passed.bytes.begin() + passed.size);
        passed.size += line.size();
    }
    if (!socket_ || passed.size == 0) return outcome;
    retry();  // what waits is older
    const int error = has_untold() ? EAGAIN : socket_->send(passed.text());
    if (error == 0) {
        is_reachable_ = true;
        return outcome;
    }
    if (has_state) {
        state_ = passed;
        status_.size = 0;
    } else if (passed.text() != is_well) {
        status_ = passed;
    }
    if (error != EAGAIN && error != ENOBUFS && std::exchange(is_reachable_, false))
        outcome.error = error;
    return outcome;
}

void Relay::forget_stored() noexcept {
    forgets_ = socket_.has_value();
    if (forgets_) retry();
}

void Relay::retry() noexcept {
    if (forgets_) forgets_ = udpproxy::forget_stored(*socket_) != 0;
    if (state_.size > 0 && socket_->send(state_.text()) == 0) state_.size = 0;
    if (state_.size == 0 && status_.size > 0 && socket_->send(status_.text()) == 0)
        status_.size = 0;
}

}  // namespace udpproxy
