// What the product's own sockets need (groups, filters, flags) is not here.
#include "sockets.hpp"

#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/udp.h>

#include <cerrno>
#include <cstring>

namespace udpproxy::traffic {

namespace {

int domain_of(Family family) { return family == Family::ipv4 ? AF_INET : AF_INET6; }

void set_buffers(const Socket& socket, const UdpOptions& options) {
    const auto set = [&](int forced, int plain, int bytes, const char* name_text) {
        if (options.beyond_limits &&
            setsockopt(socket.descriptor(), SOL_SOCKET, forced, &bytes, sizeof(bytes)) == 0)
            return;
        set_option(socket, SOL_SOCKET, plain, bytes, name_text);
    };
    set(SO_RCVBUFFORCE, SO_RCVBUF, options.receive_buffer_bytes, "SO_RCVBUF");
    set(SO_SNDBUFFORCE, SO_SNDBUF, options.send_buffer_bytes, "SO_SNDBUF");
}

}  // namespace

void fail(const std::string& what) { throw std::runtime_error(system_error(what, errno).message); }

void set_option(const Socket& socket, int level, int name, int value, const char* name_text) {
    if (setsockopt(socket.descriptor(), level, name, &value, sizeof(value)) != 0)
        fail(std::string{"setsockopt "} + name_text);
}

void set_receive_timeout(const Socket& socket, Duration timeout) {
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(timeout);
    const timeval time{microseconds.count() / 1000000, microseconds.count() % 1000000};
    if (setsockopt(socket.descriptor(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) != 0)
        fail("setsockopt SO_RCVTIMEO");
}

Socket open_udp(const Endpoint& bind_to, const UdpOptions& options) {
    Socket opened = open_udp_unless_taken(bind_to, options);
    if (!opened) fail("bind " + format(bind_to));
    return opened;
}

Socket open_udp_unless_taken(const Endpoint& bind_to, const UdpOptions& options) {
    Socket opened{socket(domain_of(bind_to.family()), SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (!opened) fail("socket");
    if (bind_to.family() == Family::ipv6)
        set_option(opened, IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    set_buffers(opened, options);
    if (options.gro) set_option(opened, SOL_UDP, UDP_GRO, 1, "UDP_GRO");
    SocketName name{};
    const socklen_t length = write_socket_name(bind_to, name);
    if (bind(opened.descriptor(), &name.any, length) == 0) return opened;
    if (errno != EADDRINUSE) fail("bind " + format(bind_to));
    opened = Socket{};
    errno = EADDRINUSE;
    return opened;
}

Socket open_connected_udp(const Endpoint& to, const UdpOptions& options) {
    Socket opened = open_udp(Endpoint{Address::any(to.family())}, options);
    SocketName name{};
    const socklen_t length = write_socket_name(to, name);
    if (connect(opened.descriptor(), &name.any, length) != 0) fail("connect to " + format(to));
    return opened;
}

Socket open_raw(Family family) {
    // IPPROTO_RAW: the IP header is in the packet, for both families (raw(7); rawv6_sendmsg).
    Socket opened{socket(domain_of(family), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)};
    if (!opened) fail("raw socket");
    set_buffers(opened, {.beyond_limits = true});
    return opened;
}

Socket open_packet(const std::string& interface, std::uint16_t protocol) {
    Socket opened{socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)};
    if (!opened) fail("packet socket");
    set_buffers(opened, {});
    sockaddr_ll name{};
    name.sll_family = AF_PACKET;
    name.sll_protocol = htons(protocol);
    name.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
    if (bind(opened.descriptor(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0)
        fail("bind to interface " + interface);
    return opened;
}

std::size_t segment_bytes_of(const msghdr& message, std::size_t bytes) {
    // CMSG_NXTHDR of the C library takes no pointer to const.
    auto& header = const_cast<msghdr&>(message);
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr;
         each = CMSG_NXTHDR(&header, each)) {
        if (each->cmsg_level != SOL_UDP || each->cmsg_type != UDP_GRO) continue;
        int segment = 0;
        std::memcpy(&segment, CMSG_DATA(each), sizeof(segment));
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
    std::memset(control, 0, CMSG_SPACE(sizeof(segment)));
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(segment));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof(segment));
    std::memcpy(CMSG_DATA(header), &segment, sizeof(segment));
}

}  // namespace udpproxy::traffic
