// Signals for the control thread: blocked in every thread and read from a descriptor. So no work is
// done in a handler, and no system call of a shard is interrupted.
#pragma once

#include "udpproxy/net/socket.hpp"

namespace udpproxy {

class Signals {
public:
    /// Blocks SIGTERM, SIGINT, SIGQUIT, SIGHUP and SIGUSR1 in the calling thread and in the threads
    /// it starts later. Ignores SIGPIPE.
    Signals();
    [[nodiscard]] bool open() const noexcept { return all_ && stops_; }
    /// Waits at most `limit_ms` for a signal, or until `other` is readable (-1: no descriptor); 0
    /// when no signal came.
    [[nodiscard]] int next(int limit_ms, int other = -1) const;
    /// The same for a signal to stop alone. Others stay pending.
    [[nodiscard]] int next_stop(int limit_ms, int other) const;

private:
    Socket all_;
    Socket stops_;
};

/// Whether the signal asks the program to end now.
[[nodiscard]] bool is_stop(int signal) noexcept;
[[nodiscard]] const char* name_of_signal(int signal) noexcept;

}  // namespace udpproxy
