// Opens the admin sockets, and asks the kernel for the peer's credentials.
#include "sockets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "udpproxy/host/access.hpp"
#include "udpproxy/host/procfs.hpp"

namespace udpproxy {

namespace {

constexpr int backlog = 128;

/// Holds a lock on the directory of a socket's path, so that of two programs that start at the same
/// time neither takes the other's file, bound but not listening yet, for a dead predecessor's. A
/// lock that another program keeps is waited for a moment only: in a directory that others may read
/// it would be theirs to withhold.
class DirectoryLock {
public:
    DirectoryLock(const std::string& path, Duration patience)
        : directory_(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
        const Instant deadline = monotonic_now() + patience;
        while (directory_ && ::flock(directory_.descriptor(), LOCK_EX | LOCK_NB) != 0 &&
               monotonic_now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }

private:
    Socket directory_;
};

sockaddr_un name_of(const std::string& path) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, path.data(), std::min(path.size(), sizeof name.sun_path - 1));
    return name;
}

int connect_to(const Socket& socket, const sockaddr_un& name) {
    return ::connect(socket.descriptor(), reinterpret_cast<const sockaddr*>(&name), sizeof name) ==
                   0
               ? 0
               : errno;
}

/// Removes the socket file of a dead predecessor. Returns an empty string, or why the file must
/// stay.
std::string clear_path(const std::string& path, const sockaddr_un& name) {
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0)
        return errno == ENOENT ? "" : "stat: " + error_text(errno);
    if (!S_ISSOCK(found.st_mode)) return "is no socket; take it away, or name another path";
    const Socket probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!probe) return "socket: " + error_text(errno);
    const int error = connect_to(probe, name);
    if (error == 0 || error == EAGAIN)
        return "another program listens on it";  // EAGAIN: it listens, but its queue is full
    if (error != ECONNREFUSED) return "connect: " + error_text(error);
    return ::unlink(path.c_str()) == 0 || errno == ENOENT ? "" : "unlink: " + error_text(errno);
}

}  // namespace

Result<AdminSocket> AdminSocket::open(const std::string& path, std::optional<gid_t> group,
                                      Duration lock_patience) {
    const auto fail = [&](const std::string& why) {
        return Error{fmt::format("admin.socket \"{}\": {}", path, why)};
    };
    const sockaddr_un name = name_of(path);
    const DirectoryLock lock(path, lock_patience);
    if (const std::string why = clear_path(path, name); !why.empty()) return fail(why);
    AdminSocket made;
    made.socket_ = Socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!made.socket_) return fail("socket: " + error_text(errno));
    // The file gets the mode that the socket has (net/unix/af_unix.c, unix_bind_bsd): there is no
    // moment in which others could connect.
    if (::fchmod(made.descriptor(), S_IRUSR | S_IWUSR) != 0)
        return fail("fchmod: " + error_text(errno));
    if (::bind(made.descriptor(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
        return fail("bind: " + error_text(errno));
    made.path_ = path;
    struct stat file {};
    if (::lstat(path.c_str(), &file) != 0) return fail("stat: " + error_text(errno));
    made.device_ = file.st_dev;
    made.inode_ = file.st_ino;
    // What has the group needs no call that a sandbox may refuse (systemd's ~@privileged).
    if (group && file.st_gid != *group &&
        ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0)
        return fail(fmt::format("chown to group {}: {}", *group, error_text(errno)));
    if (::chmod(path.c_str(), S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP) != 0)
        return fail("chmod: " + error_text(errno));
    if (::listen(made.descriptor(), backlog) != 0) return fail("listen: " + error_text(errno));
    return made;
}

AdminSocket::AdminSocket(AdminSocket&& other) noexcept
    : socket_(std::move(other.socket_)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

AdminSocket& AdminSocket::operator=(AdminSocket&& other) noexcept {
    socket_ = std::move(other.socket_);
    path_.swap(other.path_);
    std::swap(device_, other.device_);
    std::swap(inode_, other.inode_);
    return *this;
}

AdminSocket::~AdminSocket() {
    struct stat file {};
    if (path_.empty() || ::lstat(path_.c_str(), &file) != 0) return;
    if (file.st_dev == device_ && file.st_ino == inode_) ::unlink(path_.c_str());
}

bool AdminSocket::has_lost_its_file() const {
    struct stat file {};
    return !path_.empty() && ::lstat(path_.c_str(), &file) != 0 && errno == ENOENT;
}

Result<Socket> open_admin_listener(const Endpoint& endpoint) {
    const auto fail = [&](const char* step) {
        return system_error(fmt::format("admin.listen {}: {}", format(endpoint), step), errno);
    };
    Socket made{::socket(endpoint.family() == Family::ipv4 ? AF_INET : AF_INET6,
                         SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!made) return fail("socket");
    const int on = 1;
    // Connections of a predecessor in TIME_WAIT must not prevent a start.
    if (::setsockopt(made.descriptor(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return fail("setsockopt SO_REUSEADDR");
    if (endpoint.family() == Family::ipv6 &&
        ::setsockopt(made.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
        return fail("setsockopt IPV6_V6ONLY");
    SocketName name{};
    const socklen_t length = write_socket_name(endpoint, name);
    if (::bind(made.descriptor(), &name.any, length) != 0) {
        Error error = fail("bind");
        if (const auto holder = find_holder(endpoint, Transport::tcp);
            error.code == EADDRINUSE && holder)
            error.message += " (held by " + holder->shown + ')';
        return error;
    }
    if (::listen(made.descriptor(), backlog) != 0) return fail("listen");
    return made;
}

std::optional<Peer> peer_of(int descriptor) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0)
        return std::nullopt;
    return Peer{credentials.uid, credentials.gid, credentials.pid};
}

bool may_change(int descriptor, const Peer& peer, std::optional<gid_t> group) {
    if (peer.user == 0 || peer.user == ::geteuid()) return true;
    if (!group) return false;
    if (peer.group == *group) return true;
    // The peer's supplementary groups at the time it connected (SO_PEERGROUPS, Linux 4.13).
    socklen_t length = 0;
    (void)::getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
    std::vector<gid_t> groups(length / sizeof(gid_t));
    if (groups.empty() ||
        ::getsockopt(descriptor, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0)
        return false;
    return std::find(groups.begin(), groups.end(), *group) != groups.end();
}

}  // namespace udpproxy
