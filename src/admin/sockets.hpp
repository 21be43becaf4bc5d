// The sockets that operators come in by, opened before anything is served; and who is on the other
// end of one. What is said over them lives in server.cpp and routes.cpp.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "udpproxy/base/result.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A listening Unix socket, whose file goes with it.
class AdminSocket {
public:
    /// Mode 0660, of `group` if given. A file that a dead program left behind is replaced; a socket
    /// that somebody listens on is not. Errors: `admin.socket "/x/y": bind: Permission denied`, `…:
    /// another program listens on it`, `…: is no socket`.
    [[nodiscard]] static Result<AdminSocket> open(const std::string& path,
                                                  const std::string& group);

    AdminSocket() = default;
    AdminSocket(AdminSocket&&) noexcept;
    AdminSocket& operator=(AdminSocket&&) noexcept;
    ~AdminSocket();

    [[nodiscard]] int descriptor() const noexcept { return socket_.descriptor(); }
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }

private:
    Socket socket_;
    std::string path_;
    dev_t device_ = 0;  // of our file: one that a successor has put there stays
    ino_t inode_ = 0;
};

/// Errors: `admin.listen 127.0.0.1:9090: bind: Address already in use`.
[[nodiscard]] Result<Socket> open_admin_listener(const Endpoint& endpoint);

/// Who connected to a Unix socket (SO_PEERCRED).
struct Peer {
    uid_t user = 0;
    gid_t group = 0;
    pid_t process = 0;
};
[[nodiscard]] std::optional<Peer> peer_of(int descriptor);

/// Whether the peer may change things: root, the user this program runs as, or a member of `group`
/// (absent: none).
[[nodiscard]] bool may_change(int descriptor, const Peer& peer, std::optional<gid_t> group);

/// The number of a group's name. Errors: `admin.group "x": there is no such group`.
[[nodiscard]] Result<gid_t> find_group(const std::string& name);

}  // namespace udpproxy
