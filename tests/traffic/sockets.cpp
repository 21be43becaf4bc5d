// Sockets as the load tool wants them: what the product's own sockets need (groups, filters, flags)
// is not here.
#include "sockets.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>

#include <cerrno>

namespace udpproxy::traffic {

namespace {

int domain_of(Family family) { return family == Family::ipv4 ? AF_INET : AF_INET6; }

void set_option(int descriptor, int level, int name, int value, const char* text) {
    if (setsockopt(descriptor, level, name, &value, sizeof(value)) != 0)
        fail(std::string{"setsockopt "} + text);
}

/// Beyond rmem_max where we may; else what is granted must do.
void set_buffer(int descriptor, int forced, int plain, int bytes) {
    if (setsockopt(descriptor, SOL_SOCKET, forced, &bytes, sizeof(bytes)) == 0) return;
    if (setsockopt(descriptor, SOL_SOCKET, plain, &bytes, sizeof(bytes)) != 0)
        fail("setsockopt of a buffer's size");
}

}  // namespace

void fail(const std::string& what) { throw std::runtime_error(system_error(what, errno).message); }

Socket open_udp(const Endpoint& bind_to, int buffer_bytes) {
    Socket opened = open_udp_unless_taken(bind_to, buffer_bytes);
    if (!opened) fail("bind " + format(bind_to));
    return opened;
}

Socket open_udp_unless_taken(const Endpoint& bind_to, int buffer_bytes) {
    Socket opened{
        socket(domain_of(bind_to.family()), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (!opened) fail("socket");
    if (bind_to.family() == Family::ipv6)
        set_option(opened.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    set_buffer(opened.descriptor(), SO_RCVBUFFORCE, SO_RCVBUF, buffer_bytes);
    set_buffer(opened.descriptor(), SO_SNDBUFFORCE, SO_SNDBUF, buffer_bytes);
    SocketName name{};
    const socklen_t length = write_socket_name(bind_to, name);
    if (bind(opened.descriptor(), &name.any, length) == 0) return opened;
    if (errno != EADDRINUSE) fail("bind " + format(bind_to));
    opened = Socket{};
    errno = EADDRINUSE;
    return opened;
}

Socket open_raw(Family family) {
    // IPPROTO_RAW: the IP header is in the packet, for both families (raw(7); rawv6_sendmsg).
    Socket opened{socket(domain_of(family), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)};
    if (!opened) fail("raw socket");
    set_buffer(opened.descriptor(), SO_SNDBUFFORCE, SO_SNDBUF, 4 << 20);
    return opened;
}

Inbox::Inbox() : memory_(row_max * datagram_bytes_max) {
    for (std::size_t i = 0; i < row_max; ++i) {
        pieces_[i] = {memory_.data() + i * datagram_bytes_max, datagram_bytes_max};
        headers_[i].msg_hdr.msg_name = &names_[i];
        headers_[i].msg_hdr.msg_iov = &pieces_[i];
        headers_[i].msg_hdr.msg_iovlen = 1;
    }
}

std::size_t Inbox::receive(int descriptor) {
    for (int attempt = 0; attempt < 8; ++attempt) {
        for (mmsghdr& header : headers_) header.msg_hdr.msg_namelen = sizeof(SocketName);
        const int count = recvmmsg(descriptor, headers_.data(), row_max, MSG_DONTWAIT, nullptr);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno == EAGAIN) return 0;
    }
    return 0;
}

std::span<const std::byte> Inbox::payload(std::size_t index) const {
    return {memory_.data() + index * datagram_bytes_max, headers_[index].msg_len};
}

void Outbox::add(std::span<const std::byte> payload, const Endpoint& to) {
    msghdr& header = headers_[count_].msg_hdr;
    header = {};
    pieces_[count_] = {const_cast<std::byte*>(payload.data()), payload.size()};
    header.msg_name = &names_[count_];
    header.msg_namelen = write_socket_name(to, names_[count_]);
    header.msg_iov = &pieces_[count_];
    header.msg_iovlen = 1;
    ++count_;
}

std::size_t Outbox::flush(int descriptor) {
    std::size_t sent = 0;
    bool tried_again = false;
    for (std::size_t next = 0; next < count_;) {
        const int done = sendmmsg(descriptor, headers_.data() + next,
                                  static_cast<unsigned>(count_ - next), MSG_DONTWAIT);
        if (done > 0) {
            next += static_cast<std::size_t>(done);
            sent += static_cast<std::size_t>(done);
            tried_again = false;
        } else if (tried_again) {
            ++next;
            tried_again = false;
        } else {
            tried_again = true;  // the error may have been an older datagram's
        }
    }
    count_ = 0;
    return sent;
}

Readiness::Readiness() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_) fail("epoll_create1");
}

void Readiness::add(int descriptor, std::uint32_t number) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = number;
    if (epoll_ctl(epoll_.descriptor(), EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
}

std::span<const std::uint32_t> Readiness::wait(Duration wait) {
    std::array<epoll_event, 256> events;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(wait);
    const timespec limit{seconds.count(), (wait - seconds).count()};
    const int count = epoll_pwait2(epoll_.descriptor(), events.data(),
                                   static_cast<int>(events.size()), &limit, nullptr);
    ready_.clear();
    for (int i = 0; i < count; ++i) ready_.push_back(events[static_cast<std::size_t>(i)].data.u32);
    return ready_;
}

}  // namespace udpproxy::traffic
