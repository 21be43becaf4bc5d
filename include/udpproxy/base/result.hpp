// Result<T>: a value or a sentence that says why there is none. For start-up and control only;
// traffic never uses it (a datagram becomes a departure or one counted drop). The interface is a
// subset of std::expected's, which Debian 12's compilers do not have.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "udpproxy/base/assert.hpp"

namespace udpproxy {

/// Why something failed. The message names the thing, the operation and the cause: `listener "dns"
/// 0.0.0.0:53: bind: Address already in use`.
struct Error {
    std::string message;
    int code = 0;  // errno where a system call failed, for the few callers that act on it
};

template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    // Requires: has_value().
    [[nodiscard]] T& value() & {
        UDPPROXY_ASSERT(has_value());
        return *std::get_if<0>(&state_);
    }
    [[nodiscard]] const T& value() const& {
        UDPPROXY_ASSERT(has_value());
        return *std::get_if<0>(&state_);
    }
    [[nodiscard]] T&& value() && {
        UDPPROXY_ASSERT(has_value());
        return std::move(*std::get_if<0>(&state_));
    }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    // Requires: !has_value().
    [[nodiscard]] const Error& error() const {
        UDPPROXY_ASSERT(!has_value());
        return *std::get_if<1>(&state_);
    }

private:
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }
    // Requires: !has_value().
    [[nodiscard]] const Error& error() const {
        UDPPROXY_ASSERT(!has_value());
        return *std::get_if<1>(&state_);
    }

private:
    std::variant<std::monostate, Error> state_;
};

/// The sentence for a failed system call: `WHAT: strerror(code)`, thread-safe. `code` is an errno
/// value (positive).
[[nodiscard]] Error system_error(std::string what, int code);
/// Of what has not answered within `limit` (ETIMEDOUT): `no answer within 2 s`.
[[nodiscard]] Error no_answer(std::chrono::nanoseconds limit);
/// The text of an errno value, thread-safe.
[[nodiscard]] std::string error_text(int code);

}  // namespace udpproxy
