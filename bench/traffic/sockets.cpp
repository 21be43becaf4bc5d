// Sockets of the benchmark's programs.
#include "sockets.hpp"

#include <arpa/inet.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace udpproxy::bench {
namespace {

volatile std::sig_atomic_t stop_signals = 0;

}  // namespace

void demand(bool condition, std::string_view what) {
    if (condition) return;
    const int error = errno;
    std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(what.size()), what.data(),
                 std::strerror(error));
    std::exit(1);
}

sockaddr_in parse_address(const std::string& text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    const auto colon = text.rfind(':');
    errno = EINVAL;
    demand(colon != std::string::npos, "address without a port " + text);
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1))));
    demand(::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) == 1,
           "address " + text);
    return address;
}

void set_option(int socket, int level, int name, int value, std::string_view what) {
    demand(::setsockopt(socket, level, name, &value, sizeof value) == 0, what);
}

int open_udp(const sockaddr_in& local, SocketOptions options) {
    const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    demand(socket >= 0, "socket");
    set_option(socket, SOL_SOCKET, SO_RCVBUF, options.receive_buffer_bytes, "SO_RCVBUF");
    set_option(socket, SOL_SOCKET, SO_SNDBUF, 4 << 20, "SO_SNDBUF");
    if (options.gro) set_option(socket, SOL_UDP, UDP_GRO, 1, "UDP_GRO");
    demand(::bind(socket, reinterpret_cast<const sockaddr*>(&local), sizeof local) == 0, "bind");
    return socket;
}

void connect_udp(int socket, const sockaddr_in& remote) {
    demand(::connect(socket, reinterpret_cast<const sockaddr*>(&remote), sizeof remote) == 0,
           "connect");
}

std::size_t segment_bytes_of(const msghdr& message, std::size_t bytes) {
    auto& header =
        const_cast<msghdr&>(message);  // CMSG_NXTHDR of the C library takes no pointer to const
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr;
         each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level != SOL_UDP || each->cmsg_type != UDP_GRO) continue;
        int segment = 0;
        std::memcpy(&segment, CMSG_DATA(each), sizeof segment);
        if (segment > 0) return static_cast<std::size_t>(segment);
    }
    return bytes;
}

void set_segment_bytes(msghdr& message, std::byte* control, std::size_t bytes,
                       std::size_t segment_bytes) {
    if (bytes <= segment_bytes) {
        message.msg_control = nullptr;
        message.msg_controllen = 0;
        return;
    }
    const auto segment = static_cast<std::uint16_t>(segment_bytes);
    std::memset(control, 0, CMSG_SPACE(sizeof segment));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof segment);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof segment);
    std::memcpy(CMSG_DATA(header), &segment, sizeof segment);
}

bool told_to_stop() { return stop_signals != 0; }

void listen_for_stop() {
    struct sigaction action {};
    action.sa_handler = [](int) {
        stop_signals = 1;
    };  // and no SA_RESTART: a blocked receive shall return
    ::sigaction(SIGTERM, &action, nullptr);
    ::sigaction(SIGINT, &action, nullptr);
}

}  // namespace udpproxy::bench
