// The service manager (systemd, or another that speaks the protocol of sd_notify(3)): what the
// environment says of it, and the socket on which it listens. The library for it, libsystemd, is
// not used: its send waits while the manager reads nothing. The keeper sends what its worker says;
// a program without a keeper sends by itself.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <string>
#include <string_view>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// What the environment says of a manager.
struct ManagerRequest {
    std::string socket;   // NOTIFY_SOCKET; empty: there is no manager
    Duration watchdog{};  // the manager ends a program that it has not heard of for so long; 0: off
    std::string mistake;  // of WATCHDOG_USEC
    bool has_store = false;  // FDSTORE: it keeps descriptors over a restart
};
/// Reads NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and FDSTORE. A watchdog for a process other
/// than `process` is none.
[[nodiscard]] ManagerRequest read_manager_request(pid_t process);

class ManagerSocket {
public:
    /// `name` is NOTIFY_SOCKET: a path, or `@` and an abstract name. Errors: it is neither; socket.
    [[nodiscard]] static Result<ManagerSocket> open(const std::string& name);

    [[nodiscard]] int descriptor() const noexcept { return socket_.descriptor(); }
    /// Returns 0 or errno: EAGAIN while the manager has no room. The manager gets a copy of the
    /// descriptor; -1: none.
    [[nodiscard]] int send(std::string_view message, int descriptor = -1) const noexcept;

private:
    ManagerSocket() = default;

    Descriptor socket_;
    sockaddr_un name_{};
    socklen_t name_length_ = 0;
};

}  // namespace udpproxy
