// Opens a socket for each question, so that the rest of an abandoned answer reaches no other
// question.
#include "udpproxy/host/netlink.hpp"

#include <libmnl/libmnl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

namespace udpproxy {

namespace {

using Each = std::function<void(const nlmsghdr&)>;

constexpr std::size_t answers_bytes_max = 32 * 1024;  // the largest datagram that the kernel sends

struct Close {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

/// libmnl rejects a dump that was changed meanwhile. For a diagnosis such a dump is good enough.
void accept_changes(std::vector<char>& answers, int length) {
    for (auto* answer = reinterpret_cast<nlmsghdr*>(answers.data()); mnl_nlmsg_ok(answer, length);
         answer = mnl_nlmsg_next(answer, &length))
        answer->nlmsg_flags &= static_cast<std::uint16_t>(~NLM_F_DUMP_INTR);
}

int pass_on(const nlmsghdr* answer, void* each) {
    (*static_cast<const Each*>(each))(*answer);
    return (answer->nlmsg_flags & NLM_F_MULTI) != 0 ? MNL_CB_OK : MNL_CB_STOP;
}

}  // namespace

Result<void> ask_netlink(int protocol, nlmsghdr& request, const Each& each) {
    const std::unique_ptr<mnl_socket, Close> socket{mnl_socket_open2(protocol, SOCK_CLOEXEC)};
    if (!socket) return system_error("netlink: socket", errno);
    const timeval limit{1, 0};
    const int descriptor = mnl_socket_get_fd(socket.get());
    if (::setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0)
        return system_error("netlink: setsockopt SO_RCVTIMEO", errno);
    if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0)
        return system_error("netlink: bind", errno);
    if (mnl_socket_sendto(socket.get(), &request, request.nlmsg_len) < 0)
        return system_error("netlink: send", errno);
    std::vector<char> buffer(answers_bytes_max);
    for (;;) {
        const ssize_t length = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) return system_error("netlink: recv", errno);
        accept_changes(buffer, static_cast<int>(length));
        const int outcome =
            mnl_cb_run(buffer.data(), static_cast<std::size_t>(length), request.nlmsg_seq,
                       mnl_socket_get_portid(socket.get()), pass_on, const_cast<Each*>(&each));
        if (outcome == MNL_CB_STOP) return {};
        if (outcome == MNL_CB_ERROR) return system_error("netlink", errno);
    }
}

}  // namespace udpproxy
