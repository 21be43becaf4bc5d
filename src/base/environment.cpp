// Reads and removes one variable.
#include "udpproxy/base/environment.hpp"

#include <cstdlib>

namespace udpproxy {

std::string take_variable(const char* name) {
    const char* const value = std::getenv(name);
    std::string taken = value != nullptr ? value : "";
    ::unsetenv(name);
    return taken;
}

}  // namespace udpproxy
