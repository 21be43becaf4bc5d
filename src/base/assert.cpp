// The end of a process whose assertion failed. Called through UDPPROXY_ASSERT only.
#include "udpproxy/base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace udpproxy {

void assertion_failed(const char* law, const char* file, int line) noexcept {
    std::fprintf(stderr, "udpproxy: assertion failed: %s (%s:%d)\n", law, file, line);
    std::abort();
}

}  // namespace udpproxy
