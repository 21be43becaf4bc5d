// Messages of failed system calls; std::generic_category is thread-safe, strerror(3) is not.
#include "udpproxy/base/result.hpp"

#include <cerrno>
#include <system_error>

namespace udpproxy {

std::string error_text(int code) { return std::generic_category().message(code); }

Error no_answer(std::chrono::nanoseconds limit) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(limit).count();
    return Error{"no answer within " + std::to_string(seconds) + " s", ETIMEDOUT};
}

Error system_error(std::string what, int code) {
    return Error{std::move(what) + ": " + error_text(code), code};
}

}  // namespace udpproxy
