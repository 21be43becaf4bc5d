// AdminServer: the thread that operators talk to: HTTP/1.1 on a Unix socket and, if configured, on
// an address. Off the shards and off the control thread. However many connect and however slowly
// they speak, its connections are bounded, and new clients get in: whoever has said nothing
// complete for longest makes way.
#pragma once

#include <memory>

#include "udpproxy/base/result.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/control_query.hpp"
#include "udpproxy/runtime/status.hpp"

namespace udpproxy {

/// Connections of one address over TCP; of all together: admin_connections_max.
inline constexpr std::size_t admin_connections_per_address_max = 16;

/// What the admin thread is connected with.
struct AdminLinks {
    const StatusBoard& board;
    Log& log;
    ControlSlot& control;  // to the control thread
};

class AdminServer {
public:
    /// Opens what is configured; nothing answers yet. A default socket that cannot be opened costs
    /// a warning; what was asked for is an error.
    [[nodiscard]] static Result<std::unique_ptr<AdminServer>> open(const AdminConfig& config,
                                                                   Log& log);
    /// Begins to answer. What `links` names must outlive the server, and have a status. Errors:
    /// what the HTTP library or a system call says.
    [[nodiscard]] Result<void> start(const AdminLinks& links);
    /// Ends the thread, closes every connection, removes the socket's file. False: the thread has
    /// not ended within `limit`, and may go on with what `links` names until the process ends.
    [[nodiscard]] bool stop(Duration limit);
    ~AdminServer();

private:
    AdminServer();
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace udpproxy
