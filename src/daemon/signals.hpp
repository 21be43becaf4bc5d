// Signals for the control thread: blocked in every thread and read from a descriptor. So no work is
// done in a handler, and no system call of a shard is interrupted. A kept worker gets them as
// messages of its keeper, and obeys no others.
#pragma once

#include <functional>

#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

class Signals {
public:
    /// Blocks SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 in the calling thread and in
    /// the threads it starts later. Ignores SIGPIPE. `keeper` is null where there is none.
    explicit Signals(Channel* keeper);
    [[nodiscard]] bool open() const noexcept { return keeper_ != nullptr || (all_ && stops_); }
    [[nodiscard]] bool are_a_keepers() const noexcept { return keeper_ != nullptr; }
    /// Waits at most `limit_ms` for a signal, or until `other` is readable (-1: no descriptor); 0
    /// when no signal came.
    [[nodiscard]] int next(int limit_ms, int other = -1) const;
    /// The same for a signal to stop alone. Others stay pending.
    [[nodiscard]] int next_stop(int limit_ms, int other) const;

    /// Called, in next() and next_stop(), with what the keeper says besides signals.
    std::function<void(const Message&)> keeper_says = [](const Message&) {};

private:
    [[nodiscard]] int next_of_keeper() const;

    Channel* keeper_;
    mutable unsigned pending_ = 0;  // bit n: signal n has been received, and not returned
    // Without a keeper:
    Socket all_;
    Socket stops_;
};

/// Whether the signal asks the program to end now.
[[nodiscard]] bool is_stop(int signal) noexcept;
[[nodiscard]] const char* name_of_signal(int signal) noexcept;

}  // namespace udpproxy
