// What this kernel lets us do, asked once at start, and which engine follows from it.
#pragma once

#include <string>

namespace udpproxy {

enum class Engine : unsigned char { io_uring, epoll };

[[nodiscard]] constexpr const char* name_of(Engine engine) noexcept { return engine == Engine::io_uring ? "io_uring" : "epoll"; }

struct UringProbe {
    bool usable = false;
    std::string reason;  // usable: what was tried; not usable: which call failed and why, in one line
};

/// Sets up a small ring as the engine would, receives one datagram on loopback through it, and tears it down.
[[nodiscard]] UringProbe probe_io_uring();

}  // namespace udpproxy
