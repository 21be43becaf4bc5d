// In which order a listener's options are set, and how its sockets form one SO_REUSEPORT group.
#include "udpproxy/net/listener.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>

#include "socket_options.hpp"

namespace udpproxy {

namespace {

/// Sets a buffer size as far as the kernel lets it; returns the payload bytes granted.
std::uint64_t set_and_read_buffer(int descriptor, int force_option, int option,
                                  std::uint64_t bytes) {
    set_buffer(descriptor, force_option, option, bytes);
    int granted = 0;
    socklen_t length = sizeof granted;
    if (::getsockopt(descriptor, SOL_SOCKET, option, &granted, &length) != 0) return 0;
    return static_cast<std::uint64_t>(granted) / 2;
}

bool is_on_this_host(const Endpoint& endpoint) {
    const Socket trial{open_datagram_socket(endpoint.family())};
    if (!trial) return true;  // without a trial nothing is known; the real bind will tell
    return bind_to(trial.descriptor(), Endpoint{endpoint.address, endpoint.scope, 0}) !=
           EADDRNOTAVAIL;
}

/// Whether the endpoint is the broadcast address of a network of this host: connect() without
/// SO_BROADCAST refuses it.
bool is_broadcast_here(const Endpoint& endpoint) {
    if (endpoint.family() != Family::ipv4) return false;
    const Socket trial{open_datagram_socket(endpoint.family())};
    return trial && connect_to(trial.descriptor(), endpoint) == EACCES;
}

struct Option {
    int level;
    int name;
    const char* text;
};

int set_listener_options(int descriptor, const ListenerRequest& request, const char*& failed) {
    const Endpoint& endpoint = request.endpoint;
    failed = "IP_RECVTOS or IP_MTU_DISCOVER";
    if (const int error = set_family_options(descriptor, endpoint.family(), request.path_mtu))
        return error;
    const bool ipv4 = endpoint.family() == Family::ipv4;
    if (endpoint.address.is_unspecified() || is_broadcast_here(endpoint)) {
        // Such a listener must answer from the address that the client wrote to, or from this
        // host's when that was a broadcast, and must know a broadcast from other datagrams.
        const Option option = ipv4 ? Option{IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO"}
                                   : Option{IPPROTO_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"};
        failed = option.text;
        if (const int error = set_flag(descriptor, option.level, option.name, 1)) return error;
    }
    if (ipv4 && endpoint.address.is_unspecified()) return 0;
    // A listed address may appear on the host later (a floating VIP). A reply of an IPv6 wildcard
    // may leave from an address of a whole block that is local (`ip -6 route add local …`): without
    // this the kernel takes the host's own addresses only (net/ipv6/datagram.c,
    // ip6_datagram_send_ctl).
    const Option option = ipv4 ? Option{IPPROTO_IP, IP_FREEBIND, "IP_FREEBIND"}
                               : Option{IPPROTO_IPV6, IPV6_FREEBIND, "IPV6_FREEBIND"};
    failed = option.text;
    return set_flag(descriptor, option.level, option.name, 1);
}

/// Binds exclusively, or to a port that is shared already; others may join from then on.
Result<void> bind_listener(int descriptor, const Endpoint& endpoint, bool shares_port) {
    if (shares_port) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 1))
            return system_error("setsockopt SO_REUSEPORT", error);
    }
    if (const int error = bind_to(descriptor, endpoint)) return system_error("bind", error);
    if (!shares_port) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 1))
            return system_error("setsockopt SO_REUSEPORT", error);
    }
    return {};
}

}  // namespace

Result<ListenerSockets> open_listeners(const ListenerRequest& request, std::size_t count,
                                       std::vector<Socket>* handed) {
    const std::size_t bound = handed != nullptr ? handed->size() : 0;
    ListenerSockets listeners;
    listeners.address_absent = !is_on_this_host(request.endpoint);
    listeners.receive_buffer_bytes = listeners.send_buffer_bytes =
        std::numeric_limits<std::uint64_t>::max();
    for (std::size_t i = 0; i < count; ++i) {
        Socket socket;
        if (i >= bound) {
            socket = Socket{open_datagram_socket(request.endpoint.family())};
            if (!socket) return system_error("socket", errno);
        }
        const int descriptor = i < bound ? (*handed)[i].descriptor() : socket.descriptor();
        const char* failed = nullptr;
        if (const int error = set_listener_options(descriptor, request, failed))
            return system_error(std::string{"setsockopt "} + failed, error);
        if (request.offload) {
            if (const int error = receive_trains(descriptor))
                return system_error("setsockopt UDP_GRO", error);
        }
        listeners.receive_buffer_bytes =
            std::min(listeners.receive_buffer_bytes,
                     set_and_read_buffer(descriptor, SO_RCVBUFFORCE, SO_RCVBUF,
                                         request.receive_buffer_bytes));
        listeners.send_buffer_bytes = std::min(
            listeners.send_buffer_bytes,
            set_and_read_buffer(descriptor, SO_SNDBUFFORCE, SO_SNDBUF, request.send_buffer_bytes));
        if (i >= bound) {
            if (Result<void> done =
                    bind_listener(descriptor, request.endpoint, i > 0 || request.shares_port);
                !done)
                return done.error();
        }
        listeners.sockets.push_back(std::move(socket));
    }
    for (std::size_t i = 0; i < bound; ++i) listeners.sockets[i] = std::move((*handed)[i]);
    return listeners;
}

}  // namespace udpproxy
