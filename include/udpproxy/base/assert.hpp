// Assertions about our own code, on in every build type. A broken law stops the process and is
// reported with its location, because a proxy that has lost count of its buffers or mixed up two
// clients must not continue. Input is never asserted on.
#pragma once

namespace udpproxy {

/// Prints `udpproxy: assertion failed: LAW (FILE:LINE)` to standard error, waits a second at most
/// for its reader, and aborts.
[[noreturn]] void assertion_failed(const char* law, const char* file, int line) noexcept;

}  // namespace udpproxy

// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): only a macro knows the text and the place.
#define UDPPROXY_ASSERT(law)                                        \
    do {                                                            \
        if (!(law)) [[unlikely]]                                    \
            ::udpproxy::assertion_failed(#law, __FILE__, __LINE__); \
    } while (false)
