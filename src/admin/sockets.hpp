// The sockets for operators, opened before anything is served, and the credentials of a peer. The
// requests on them are handled in server.cpp and routes.cpp.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "udpproxy/base/result.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A listening Unix socket, which removes its file in the end.
class AdminSocket {
public:
    /// Mode 0660, of `group` if given. A file left behind by a dead program is replaced; a socket
    /// with a listening program is not; another start in the same directory is waited for, for at
    /// most `lock_patience`. Errors: `admin.socket "/x/y": bind: Permission denied`, `…:
    /// another program listens on it`, `…: is no socket`.
    [[nodiscard]] static Result<AdminSocket> open(const std::string& path,
                                                  std::optional<gid_t> group,
                                                  Duration lock_patience);

    AdminSocket() = default;
    AdminSocket(AdminSocket&&) noexcept;
    AdminSocket& operator=(AdminSocket&&) noexcept;
    ~AdminSocket();

    [[nodiscard]] int descriptor() const noexcept { return socket_.descriptor(); }
    explicit operator bool() const noexcept { return static_cast<bool>(socket_); }
    /// Whether there is no file in the socket's path any more, so that nobody can connect.
    [[nodiscard]] bool has_lost_its_file() const;

private:
    Socket socket_;
    std::string path_;
    dev_t device_ = 0;  // of this program's file: a successor's file in the same path stays
    ino_t inode_ = 0;
};

/// Errors: `admin.listen 127.0.0.1:9090: bind: Address already in use (held by nginx (process
/// 123))`.
[[nodiscard]] Result<Socket> open_admin_listener(const Endpoint& endpoint);

/// The credentials of the peer of a Unix socket (SO_PEERCRED).
struct Peer {
    uid_t user = 0;
    gid_t group = 0;
    pid_t process = 0;
};
[[nodiscard]] std::optional<Peer> peer_of(int descriptor);

/// Whether the peer may change the program: root, the user of this program, or a member of `group`
/// (absent: no group).
[[nodiscard]] bool may_change(int descriptor, const Peer& peer, std::optional<gid_t> group);

}  // namespace udpproxy
