// The store of the service manager (FDSTORE of sd_notify(3)): over a restart it keeps the one
// socket in which a worker has left all others, and gives it back at the next start, beside sockets
// of a socket unit (LISTEN_FDNAMES of sd_listen_fds(3)).
#pragma once

#include <sys/types.h>

#include <string>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/keeper/notify_socket.hpp"

namespace udpproxy {

/// What the manager has kept, with FD_CLOEXEC. The environment stays: whoever reads it leaves
/// descriptors of that name alone. Nothing where LISTEN_PID is not `process`.
[[nodiscard]] Descriptor take_stored(pid_t process);

/// Leaves a descriptor with the manager, in the place of what it may still have, and waits until
/// the manager has taken it, two seconds at most. Returns why it may not have; empty: it has.
[[nodiscard]] std::string store(const ManagerSocket& manager, int descriptor);

/// The manager closes what it has kept. Returns 0 or errno.
[[nodiscard]] int forget_stored(const ManagerSocket& manager) noexcept;

}  // namespace udpproxy
