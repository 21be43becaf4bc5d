// Signals as the control thread takes them: blocked in every thread and read from a descriptor, so
// that no work is ever done in a handler and no call of a shard is interrupted.
#pragma once

#include "udpproxy/net/socket.hpp"

namespace udpproxy {

class Signals {
public:
    /// Blocks SIGTERM, SIGINT, SIGQUIT, SIGHUP and SIGUSR1 in the calling thread and those it will
    /// start; SIGPIPE is ignored.
    Signals();
    [[nodiscard]] bool open() const noexcept { return static_cast<bool>(descriptor_); }
    /// Waits for one at most `limit_ms`; 0 when none came.
    [[nodiscard]] int next(int limit_ms) const;

private:
    Socket descriptor_;
};

/// Whether the signal asks the program to end now.
[[nodiscard]] bool is_stop(int signal) noexcept;
[[nodiscard]] const char* name_of_signal(int signal) noexcept;

}  // namespace udpproxy
