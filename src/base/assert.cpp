// The end of a process whose assertion failed. Called through UDPPROXY_ASSERT only.
#include "udpproxy/base/assert.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

void assertion_failed(const char* law, const char* file, int line) noexcept {
    std::array<char, 1024> text{};
    std::snprintf(text.data(), text.size(), "udpproxy: assertion failed: %s (%s:%d)\n", law, file,
                  line);
    write_error(text.data());
    std::abort();
}

}  // namespace udpproxy
