// What this kernel allows, asked once at start, and which engine follows from the answer.
#pragma once

#include <cstdint>
#include <string>

namespace udpproxy {

enum class Engine : unsigned char { io_uring, epoll };

[[nodiscard]] constexpr const char* name_of(Engine engine) noexcept {
    return engine == Engine::io_uring ? "io_uring" : "epoll";
}

struct UringProbe {
    bool usable = false;
    std::string reason;  // usable: what was tried; else which call failed and why, in one line
    int error = 0;       // errno of that call
};

/// Sets up a ring as large as the engine's ring would be, arms a receive on a socket of the probe's
/// own, and tears both down.
[[nodiscard]] UringProbe probe_io_uring(std::uint32_t slots_max = 4,
                                        std::uint32_t buffers_per_leg = 2);

}  // namespace udpproxy
