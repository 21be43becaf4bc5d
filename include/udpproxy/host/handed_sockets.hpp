// Sockets that a service manager has bound and hands over to this process (sd_listen_fds(3)): as
// values with their addresses, and what no listener could be made of. The daemon takes them at the
// start, the bootstrap gives them to listeners.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

struct HandedSocket {
    Socket socket;
    std::string shown;  // `descriptor 3 (udpproxy.socket)`
    Endpoint endpoint;
    bool shares_port = false;   // has SO_REUSEPORT
    bool takes_mapped = false;  // of IPv6, and gets IPv4 clients too (no IPV6_V6ONLY)
    std::uint32_t user = 0;     // that made it: only the same may join it by SO_REUSEPORT
};

/// What was handed over and cannot serve: closed, with the reason.
struct RefusedSocket {
    std::string shown;
    std::string reason;
};

struct HandedSockets {
    std::vector<HandedSocket> sockets;  // in the order of their descriptors
    std::vector<RefusedSocket> refused;
    std::vector<int> stored;  // descriptors that the manager has kept for this program
};

/// Takes the sockets, and the variables (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES) out of the
/// environment, so that no child takes them for its own. Nothing where LISTEN_PID is not `process`.
/// Descriptors in `others` are this program's own, whatever the environment says; those of the name
/// `stored_name` are left as they are.
// Requires: no other thread of this process runs.
[[nodiscard]] HandedSockets take_handed_sockets(pid_t process, std::span<const int> others,
                                                std::string_view stored_name);

}  // namespace udpproxy
