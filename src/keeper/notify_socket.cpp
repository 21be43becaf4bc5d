// Reads the environment, and sends datagrams to the manager's address without waiting.
#include "udpproxy/keeper/notify_socket.hpp"

#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    return value != nullptr ? value : "";
}

}  // namespace

ManagerRequest read_manager_request(pid_t process) {
    ManagerRequest request;
    request.socket = variable("NOTIFY_SOCKET");
    // systemd sets it from version 254 on, to the number of descriptors; the unit sets it, too.
    const std::string stored = variable("FDSTORE");
    request.has_store = !stored.empty() && stored != "0";
    const std::string watched = variable("WATCHDOG_PID");
    const std::string limit = variable("WATCHDOG_USEC");
    if (limit.empty() || (!watched.empty() && watched != std::to_string(process))) return request;
    constexpr auto limit_max =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::hours{24 * 365});
    std::uint64_t microseconds = 0;
    const char* const end = limit.data() + limit.size();
    const auto [rest, error] = std::from_chars(limit.data(), end, microseconds);
    if (error == std::errc{} && rest == end && microseconds > 0 &&
        microseconds <= static_cast<std::uint64_t>(limit_max.count()))
        request.watchdog = std::chrono::microseconds{microseconds};
    else
        request.mistake = "WATCHDOG_USEC=" + printable(limit) + " is no time";
    return request;
}

Result<ManagerSocket> ManagerSocket::open(const std::string& name) {
    const bool is_abstract = name.starts_with('@');
    ManagerSocket opened;
    if ((!is_abstract && !name.starts_with('/')) || name.size() >= sizeof opened.name_.sun_path)
        return Error{"NOTIFY_SOCKET is neither a path nor an abstract name of 107 bytes at most"};
    opened.name_.sun_family = AF_UNIX;
    std::memcpy(opened.name_.sun_path, name.data(), name.size());
    if (is_abstract) opened.name_.sun_path[0] = '\0';
    opened.name_length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() +
                                                 (is_abstract ? 0 : 1));
    opened.socket_ = Descriptor{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!opened.socket_) return system_error("socket", errno);
    return opened;
}

int ManagerSocket::send(std::string_view message, int descriptor) const noexcept {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof descriptor)> control{};
    sockaddr_un name = name_;
    iovec part{const_cast<char*>(message.data()), message.size()};  // sendmsg(2) reads only
    msghdr sent{};
    sent.msg_name = &name;
    sent.msg_namelen = name_length_;
    sent.msg_iov = &part;
    sent.msg_iovlen = 1;
    if (descriptor >= 0) {
        sent.msg_control = control.data();
        sent.msg_controllen = control.size();
        cmsghdr* const head = CMSG_FIRSTHDR(&sent);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof descriptor);
        std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    }
    return ::sendmsg(socket_.descriptor(), &sent, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

}  // namespace udpproxy
