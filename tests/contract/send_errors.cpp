// The three calls, in front of the C library's.
#include "contract/send_errors.hpp"

#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace udpproxy::contract {

namespace {

thread_local SendErrors* armed = nullptr;

bool is_train(const msghdr& message) {
    auto* header = const_cast<msghdr*>(&message);
    for (cmsghdr* control = CMSG_FIRSTHDR(header); control != nullptr;
         control = CMSG_NXTHDR(header, control)) {
        if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_SEGMENT) return true;
    }
    return false;
}

/// The error that `message` shall meet, 0 for none.
int error_for(const msghdr& message) {
    if (armed == nullptr) return 0;
    if (is_train(message)) {
        if (armed->of_trains != 0) ++armed->trains_refused;
        return armed->of_trains;
    }
    const std::size_t at = armed->singles_seen++;
    return at < armed->of_singles.size() ? armed->of_singles[at] : 0;
}

}  // namespace

SendErrors::SendErrors() { armed = this; }
SendErrors::~SendErrors() { armed = nullptr; }

}  // namespace udpproxy::contract

extern "C" ssize_t sendmsg(int descriptor, const msghdr* message, int flags) {
    if (const int error = udpproxy::contract::error_for(*message)) {
        errno = error;
        return -1;
    }
    return ::syscall(SYS_sendmsg, descriptor, message, flags);
}

extern "C" ssize_t send(int descriptor, const void* payload, size_t bytes, int flags) {
    if (const int error = udpproxy::contract::error_for(msghdr{})) {
        errno = error;
        return -1;
    }
    return ::syscall(SYS_sendto, descriptor, payload, bytes, flags, nullptr, 0);
}

/// Stops at the first failure as the kernel does: the error is told only when nothing went out
/// before it.
extern "C" int sendmmsg(int descriptor, mmsghdr* messages, unsigned count, int flags) {
    unsigned sent = 0;
    for (; sent < count; ++sent) {
        const ssize_t bytes = ::sendmsg(descriptor, &messages[sent].msg_hdr, flags);
        if (bytes < 0) break;
        messages[sent].msg_len = static_cast<unsigned>(bytes);
    }
    return sent > 0 || count == 0 ? static_cast<int>(sent) : -1;
}
