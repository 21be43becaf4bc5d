// How a datagram socket gets its options, and which local address routing chooses.
#include "udpproxy/net/socket.hpp"

#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "socket_options.hpp"

namespace udpproxy {

namespace {

// Both families have the same values (include/uapi/linux/in.h, in6.h).
static_assert(IP_PMTUDISC_WANT == IPV6_PMTUDISC_WANT && IP_PMTUDISC_PROBE == IPV6_PMTUDISC_PROBE &&
              IP_PMTUDISC_OMIT == IPV6_PMTUDISC_OMIT);

int discovery_of(PathMtu path_mtu) {
    switch (path_mtu) {
        case PathMtu::want:
            break;
        case PathMtu::probe:
            return IP_PMTUDISC_PROBE;
        case PathMtu::omit:
            return IP_PMTUDISC_OMIT;
    }
    return IP_PMTUDISC_WANT;
}

}  // namespace

/// Without FD_CLOEXEC: sockets go on through the keeper's exec of another version.
int open_datagram_socket(Family family) {
    Socket socket{::socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK,
                           IPPROTO_UDP)};
    if (!socket || family == Family::ipv4) return socket.release();
    if (const int error = set_flag(socket.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, 1)) {
        errno = error;
        return -1;
    }
    return socket.release();
}

int set_flag(int descriptor, int level, int option, int value) {
    return ::setsockopt(descriptor, level, option, &value, sizeof value) == 0 ? 0 : errno;
}

int bind_to(int descriptor, const Endpoint& endpoint) {
    SocketName name{};
    const socklen_t length = write_socket_name(endpoint, name);
    return ::bind(descriptor, &name.any, length) == 0 ? 0 : errno;
}

int connect_to(int descriptor, const Endpoint& endpoint) {
    SocketName name{};
    const socklen_t length = write_socket_name(endpoint, name);
    return ::connect(descriptor, &name.any, length) == 0 ? 0 : errno;
}

int connect_to_upstream(int descriptor, const Endpoint& endpoint) {
    const int error = connect_to(descriptor, endpoint);
    if (error != EACCES || set_flag(descriptor, SOL_SOCKET, SO_BROADCAST, 1) != 0) return error;
    return connect_to(descriptor, endpoint);
}

int set_family_options(int descriptor, Family family, PathMtu path_mtu) {
    const int discovery = discovery_of(path_mtu);
    if (family == Family::ipv4) {
        if (const int error = set_flag(descriptor, IPPROTO_IP, IP_MTU_DISCOVER, discovery))
            return error;
        return set_flag(descriptor, IPPROTO_IP, IP_RECVTOS, 1);
    }
    if (const int error = set_flag(descriptor, IPPROTO_IPV6, IPV6_MTU_DISCOVER, discovery))
        return error;
    return set_flag(descriptor, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

int receive_trains(int descriptor) { return set_flag(descriptor, IPPROTO_UDP, UDP_GRO, 1); }

void set_buffer(int descriptor, int force_option, int option, std::uint64_t bytes) {
    const int asked =
        static_cast<int>(std::min<std::uint64_t>(bytes, std::numeric_limits<int>::max() / 2));
    if (set_flag(descriptor, SOL_SOCKET, force_option, asked) != 0)
        (void)set_flag(descriptor, SOL_SOCKET, option, asked);
}

bool trains_supported() {
    // Asked once: the kernel stays the same, and a later trial may meet a lack of descriptors.
    static const bool supported = [] {
        const Socket trial{open_datagram_socket(Family::ipv4)};
        return trial && receive_trains(trial.descriptor()) == 0;
    }();
    return supported;
}

SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted) {
    if (is_absent_interface(upstream.scope)) return {ENODEV, {}};
    const Socket trial{open_datagram_socket(upstream.family())};
    if (!trial) return {errno, {}};
    if (!wanted.is_unspecified()) {
        // The trial asks only about the address: with every port in use, a bind that takes a port
        // would fail.
        (void)set_flag(trial.descriptor(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        const Endpoint local{wanted, wanted.is_link_local() ? upstream.scope : 0, 0};
        if (const int error = bind_to(trial.descriptor(), local)) return {error, {}};
        return {0, local};
    }
    if (const int error = connect_to_upstream(trial.descriptor(), upstream)) return {error, {}};
    SocketName name{};
    socklen_t length = sizeof name;
    if (::getsockname(trial.descriptor(), &name.any, &length) != 0) return {errno, {}};
    Endpoint source = read_socket_name(name);
    source.port = 0;
    return {0, source};
}

}  // namespace udpproxy
