// Messages of failed system calls; std::generic_category is thread-safe, strerror(3) is not.
#include "udpproxy/base/result.hpp"

#include <system_error>

namespace udpproxy {

std::string error_text(int code) { return std::generic_category().message(code); }

Error system_error(std::string what, int code) {
    return Error{std::move(what) + ": " + error_text(code), code};
}

}  // namespace udpproxy
