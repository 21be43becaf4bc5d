// Plain sockets for the tests' own side.
#include "contract/peer.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "contract/engines.hpp"

namespace udpproxy::contract {

namespace {

int open_socket(Family family) {
    const int descriptor = ::socket(family == Family::ipv4 ? AF_INET : AF_INET6,
                                    SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int one = 1;
    if (descriptor >= 0 && family == Family::ipv6)
        ::setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    return descriptor;
}

std::uint8_t tos_of(msghdr& header) {
    std::uint8_t tos = 0;
    for (cmsghdr* message = CMSG_FIRSTHDR(&header); message != nullptr;
         message = CMSG_NXTHDR(&header, message)) {
        if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_TOS)
            tos = *CMSG_DATA(message);
        if (message->cmsg_level == IPPROTO_IPV6 && message->cmsg_type == IPV6_TCLASS) {
            int value = 0;
            std::memcpy(&value, CMSG_DATA(message), sizeof value);
            tos = static_cast<std::uint8_t>(value);
        }
    }
    return tos;
}

Duration left_until(Instant deadline) {
    return std::max(Duration::zero(), deadline - monotonic_now());
}

}  // namespace

Address address(std::string_view text) { return parse_address(text).value(); }

Address loopback(Family family) { return address(family == Family::ipv4 ? "127.0.0.1" : "::1"); }

std::vector<Family> families() {
    std::vector<Family> usable;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
        if (try_bind(Endpoint{loopback(family), 0, 0}) == 0)
            usable.push_back(family);
        else
            skip(format(loopback(family)) + " is not on this host");
    }
    return usable;
}

Address group_address(Family family) {
    if (family == Family::ipv6) return loopback(family);
    const auto process = static_cast<std::uint32_t>(::getpid());
    const std::uint32_t host = 127U << 24 | (64 + (process >> 14 & 0x3f)) << 16 |
                               ((process >> 7 & 0x7f) + 1) << 8 | ((process & 0x7f) + 1);
    return Address::ipv4(htonl(host));
}

std::uint16_t next_port() {
    constexpr std::uint32_t first = 10000;
    constexpr std::uint32_t count = 20000;
    static std::uint32_t at = static_cast<std::uint32_t>(::getpid()) * 613 % count;
    at = (at + 1) % count;
    return static_cast<std::uint16_t>(first + at);
}

Peer::Peer(const Endpoint& at) : endpoint_(at) {
    const int error = try_bind(at, Reuse::none, socket_);
    INFO("bind ", format(at), ": ", error_text(error));
    REQUIRE(error == 0);
    const int one = 1;
    const int bytes = 4 << 20;
    const bool ipv4 = at.family() == Family::ipv4;
    ::setsockopt(descriptor(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                 ipv4 ? IP_RECVTOS : IPV6_RECVTCLASS, &one, sizeof one);
    ::setsockopt(descriptor(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    SocketName name{};
    socklen_t length = sizeof name;
    REQUIRE(::getsockname(descriptor(), &name.any, &length) == 0);
    endpoint_ = read_socket_name(name);
}

void Peer::send(const Endpoint& to, std::string_view payload, int tos) const {
    if (tos >= 0) {
        const bool ipv4 = to.family() == Family::ipv4;
        REQUIRE(::setsockopt(descriptor(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                             ipv4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos) == 0);
    }
    SocketName name;
    const socklen_t length = write_socket_name(to, name);
    const ssize_t sent =
        ::sendto(descriptor(), payload.data(), payload.size(), MSG_NOSIGNAL, &name.any, length);
    INFO("sendto ", format(to), ": ", error_text(sent < 0 ? errno : 0));
    REQUIRE(sent == static_cast<ssize_t>(payload.size()));
}

void Peer::send_train(const Endpoint& to, std::string_view payload, std::size_t segment_bytes,
                      int tos) const {
    if (tos >= 0) {
        const bool ipv4 = to.family() == Family::ipv4;
        REQUIRE(::setsockopt(descriptor(), ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                             ipv4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos) == 0);
    }
    SocketName name;
    iovec part{const_cast<char*>(payload.data()), payload.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(std::uint16_t))> control{};
    msghdr header{};
    header.msg_name = &name;
    header.msg_namelen = write_socket_name(to, name);
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* message = CMSG_FIRSTHDR(&header);
    message->cmsg_level = IPPROTO_UDP;
    message->cmsg_type = UDP_SEGMENT;
    message->cmsg_len = CMSG_LEN(sizeof(std::uint16_t));
    const auto value = static_cast<std::uint16_t>(segment_bytes);
    std::memcpy(CMSG_DATA(message), &value, sizeof value);
    // Not by sendmsg(), which send_errors.cpp stands before.
    const ssize_t sent = ::syscall(SYS_sendmsg, descriptor(), &header, MSG_NOSIGNAL);
    INFO("sendmsg ", format(to), ": ", error_text(sent < 0 ? errno : 0));
    REQUIRE(sent == static_cast<ssize_t>(payload.size()));
}

std::optional<Letter> Peer::receive(Duration limit) const {
    static thread_local std::array<char, 65536> payload;
    const Instant deadline = monotonic_now() + limit;
    for (;;) {
        SocketName name{};
        alignas(cmsghdr) std::array<char, 128> control{};
        iovec part{payload.data(), payload.size()};
        msghdr header{};
        header.msg_name = &name;
        header.msg_namelen = sizeof name;
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        const ssize_t bytes = ::recvmsg(descriptor(), &header, MSG_DONTWAIT);
        if (bytes >= 0)
            return Letter{std::string(payload.data(), static_cast<std::size_t>(bytes)),
                          read_socket_name(name), tos_of(header)};
        if (errno != EAGAIN) continue;  // an ICMP error: the next call finds none
        const Duration left = left_until(deadline);
        if (left == Duration::zero()) return std::nullopt;
        pollfd question{descriptor(), POLLIN, 0};
        ::poll(&question, 1,
               static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count()));
    }
}

std::vector<Letter> Peer::receive_all(std::size_t count, Duration limit) const {
    const Instant deadline = monotonic_now() + limit;
    std::vector<Letter> letters;
    while (letters.size() < count) {
        std::optional<Letter> letter = receive(left_until(deadline));
        if (!letter) break;
        letters.push_back(std::move(*letter));
    }
    return letters;
}

std::vector<Letter> Peer::receive_all_there_are(std::size_t count) const {
    std::vector<Letter> letters = receive_all(count);
    while (std::optional<Letter> letter = receive(moment)) letters.push_back(std::move(*letter));
    return letters;
}

int try_bind(const Endpoint& at, Reuse reuse, Socket& holder) {
    Socket socket{open_socket(at.family())};
    if (!socket) return errno;
    const int one = 1;
    if (reuse == Reuse::address)
        ::setsockopt(socket.descriptor(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (reuse == Reuse::port)
        ::setsockopt(socket.descriptor(), SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    SocketName name;
    const socklen_t length = write_socket_name(at, name);
    if (::bind(socket.descriptor(), &name.any, length) != 0) return errno;
    holder = std::move(socket);
    return 0;
}

int try_bind(const Endpoint& at, Reuse reuse) {
    Socket holder;
    return try_bind(at, reuse, holder);
}

Endpoint unused_endpoint(const Address& at) { return Peer{at}.endpoint(); }

std::size_t descriptor_count() {
    DIR* directory = ::opendir("/proc/self/fd");
    REQUIRE(directory != nullptr);
    std::size_t count = 0;
    while (::readdir(directory) != nullptr) ++count;
    ::closedir(directory);
    return count;
}

}  // namespace udpproxy::contract
