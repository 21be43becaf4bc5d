// AdminServer: the thread for operators: HTTP/1.1 on a Unix socket and, if configured, on an
// address. It shares no thread with the shards or the control thread. Its connections are bounded.
// When the bound is reached, a new connection replaces the one that has sent no complete request
// for longest.
#pragma once

#include <sys/types.h>

#include <memory>

#include "udpproxy/base/result.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/control_query.hpp"
#include "udpproxy/runtime/problems.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

/// Connections of one address over TCP; the bound on all together is admin_connections_max.
inline constexpr std::size_t admin_connections_per_address_max = 16;

/// The parts of the program that the admin thread uses.
struct AdminLinks {
    const StatusBoard& board;
    const Published<Problems>& problems;
    Log& log;
    ControlSlot& control;  // queries to the control thread
    pid_t process;         // that obeys signals
};

class AdminServer {
public:
    /// Opens the configured sockets; nothing answers yet. A default socket that cannot be opened is
    /// a warning; one that was configured explicitly is an error.
    [[nodiscard]] static Result<std::unique_ptr<AdminServer>> open(const AdminConfig& config,
                                                                   Log& log);
    /// Begins to answer. The objects in `links` must outlive the server, and have a status. Errors:
    /// those of the HTTP library or of a system call.
    [[nodiscard]] Result<void> start(const AdminLinks& links);
    /// Ends the thread, closes every connection, removes the socket's file. False: the thread has
    /// not ended within `limit`, and may use the objects in `links` until the process ends.
    [[nodiscard]] bool stop(Duration limit);
    ~AdminServer();

private:
    AdminServer();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace udpproxy
