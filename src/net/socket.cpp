// The system calls behind listeners and reply groups, in the order that leaves no gap for somebody
// else's datagram.
#include "udpproxy/net/socket.hpp"

#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <string>

namespace udpproxy {

namespace {

int open_datagram_socket(Family family) {
    return ::socket(family == Family::ipv4 ? AF_INET : AF_INET6,
                    SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
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

// Both families have one set of values (include/uapi/linux/in.h, in6.h).
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

/// Asks for TOS or traffic class with every datagram (ECN and DSCP are carried through), keeps IPv6
/// sockets out of IPv4, and says what becomes of datagrams that are larger than the path.
int set_family_options(int descriptor, Family family, PathMtu path_mtu) {
    const int discovery = discovery_of(path_mtu);
    if (family == Family::ipv4) {
        if (const int error = set_flag(descriptor, IPPROTO_IP, IP_MTU_DISCOVER, discovery))
            return error;
        return set_flag(descriptor, IPPROTO_IP, IP_RECVTOS, 1);
    }
    if (const int error = set_flag(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 1)) return error;
    if (const int error = set_flag(descriptor, IPPROTO_IPV6, IPV6_MTU_DISCOVER, discovery))
        return error;
    return set_flag(descriptor, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

/// Neighbouring datagrams of one sender, equal in length, come as one train: one pass of the
/// kernel, one buffer.
int receive_trains(int descriptor) { return set_flag(descriptor, IPPROTO_UDP, UDP_GRO, 1); }

/// Sets a buffer size beyond net.core.*mem_max where CAP_NET_ADMIN allows, else up to it.
void set_buffer(int descriptor, int force_option, int option, std::uint64_t bytes) {
    const int asked =
        static_cast<int>(std::min<std::uint64_t>(bytes, std::numeric_limits<int>::max() / 2));
    if (set_flag(descriptor, SOL_SOCKET, force_option, asked) != 0)
        (void)set_flag(descriptor, SOL_SOCKET, option, asked);
}

/// The same; returns the payload bytes granted.
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
    if (!trial) return true;  // nothing can be said; the real bind will tell
    return bind_to(trial.descriptor(), Endpoint{endpoint.address, endpoint.scope, 0}) !=
           EADDRNOTAVAIL;
}

// What one source could send in the moment between bind and connect; whatever were left, the check
// of each reply's source would drop.
constexpr int drained_max = 1024;

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
    if (endpoint.address.is_unspecified()) {
        // A wildcard listener must answer from the address that was addressed.
        const Option option = ipv4 ? Option{IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO"}
                                   : Option{IPPROTO_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"};
        failed = option.text;
        return set_flag(descriptor, option.level, option.name, 1);
    }
    // A listed address may come later (a floating VIP).
    const Option option = ipv4 ? Option{IPPROTO_IP, IP_FREEBIND, "IP_FREEBIND"}
                               : Option{IPPROTO_IPV6, IPV6_FREEBIND, "IPV6_FREEBIND"};
    failed = option.text;
    return set_flag(descriptor, option.level, option.name, 1);
}

/// Takes out what arrived while a member was bound but not connected yet: it may be from anybody. A
/// filter that drops everything meanwhile would do the same, but the kernel compiles it for each
/// socket under one lock of the whole machine (text_mutex): shards that opened many groups waited
/// for each other, 64 groups cost up to 30 ms of processor time.
void drain(int descriptor) {
    std::byte nothing{};
    for (int taken = 0; taken < drained_max && ::recv(descriptor, &nothing, sizeof nothing,
                                                      MSG_DONTWAIT | MSG_TRUNC) >= 0;)
        ++taken;
}

/// Opens one member, bound to the group's local address and port. The first binds exclusively and
/// takes SO_REUSEPORT afterwards; the others take it before, to join. With the flag set before the
/// first bind the kernel could give one port to two groups.
OpeningOutcome open_member(const GroupOpening& opening, bool first, int& descriptor) {
    const Endpoint& local = opening.local;
    descriptor = open_datagram_socket(local.family());
    if (descriptor < 0) return {OpeningStep::socket, errno};
    if (const int error = set_family_options(descriptor, local.family(), opening.path_mtu))
        return {OpeningStep::option, error};
    if (opening.receive_buffer_bytes != 0)
        set_buffer(descriptor, SO_RCVBUFFORCE, SO_RCVBUF, opening.receive_buffer_bytes);
    if (opening.offload) {
        if (const int error = receive_trains(descriptor)) return {OpeningStep::option, error};
    }
    if (!first) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 1))
            return {OpeningStep::option, error};
    }
    if (const int error = bind_to(descriptor, local))
        return {first ? OpeningStep::bind : OpeningStep::join, error};
    if (first) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 1))
            return {OpeningStep::option, error};
    }
    return {};
}

OpeningOutcome open_members(const GroupOpening& opening, std::span<int> descriptors) {
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
        const OpeningOutcome outcome = open_member(opening, i == 0, descriptors[i]);
        if (!outcome.opened()) return outcome;
    }
    if (const int error = connect_to(descriptors[0], opening.upstream))
        return {OpeningStep::connect, error};
    for (std::size_t i = 0; i < opening.aliases.size(); ++i) {
        const int error = connect_to(descriptors[1 + i], opening.aliases[i]);
        // An alias without a route now must not refuse new clients that the upstream could serve:
        // its member stays unconnected, hears the alias all the same once there is a way, and
        // whatever else it hears the proxy's own check drops.
        if (error != 0 && error != ENETUNREACH && error != EHOSTUNREACH)
            return {OpeningStep::connect, error};
    }
    // Nobody may join from now on: with the flag left on, sockets of others that bind port 0 can
    // land here.
    for (const int descriptor : descriptors) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 0))
            return {OpeningStep::option, error};
    }
    for (const int descriptor : descriptors) drain(descriptor);
    return {};
}

int set_joinable(std::span<const int> members, bool joinable) {
    int first_error = 0;
    for (const int member : members) {
        const int error = set_flag(member, SOL_SOCKET, SO_REUSEPORT, joinable ? 1 : 0);
        if (first_error == 0) first_error = error;
    }
    return first_error;
}

OpeningOutcome join_and_connect(const MemberJoining& joining, int& descriptor) {
    GroupOpening opening;
    opening.local = joining.local;
    opening.path_mtu = joining.path_mtu;
    opening.receive_buffer_bytes = joining.receive_buffer_bytes;
    opening.offload = joining.offload;
    const OpeningOutcome outcome = open_member(opening, false, descriptor);
    if (!outcome.opened() || !joining.peer) return outcome;
    const int error = connect_to(descriptor, *joining.peer);
    // As at a group's opening: an alias without a route now must not cost the session what its
    // other sources say.
    if (error != 0 && error != ENETUNREACH && error != EHOSTUNREACH)
        return {OpeningStep::connect, error};
    return outcome;
}

}  // namespace

Socket::~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool trains_supported() {
    const Socket trial{open_datagram_socket(Family::ipv4)};
    return trial && receive_trains(trial.descriptor()) == 0;
}

Result<ListenerSockets> open_listeners(const ListenerRequest& request, std::size_t count) {
    ListenerSockets listeners;
    listeners.address_absent = !is_on_this_host(request.endpoint);
    listeners.receive_buffer_bytes = listeners.send_buffer_bytes =
        std::numeric_limits<std::uint64_t>::max();
    for (std::size_t i = 0; i < count; ++i) {
        Socket socket{open_datagram_socket(request.endpoint.family())};
        if (!socket) return system_error("socket", errno);
        const char* failed = nullptr;
        if (const int error = set_listener_options(socket.descriptor(), request, failed))
            return system_error(std::string{"setsockopt "} + failed, error);
        if (request.offload) {
            if (const int error = receive_trains(socket.descriptor()))
                return system_error("setsockopt UDP_GRO", error);
        }
        listeners.receive_buffer_bytes =
            std::min(listeners.receive_buffer_bytes,
                     set_and_read_buffer(socket.descriptor(), SO_RCVBUFFORCE, SO_RCVBUF,
                                         request.receive_buffer_bytes));
        listeners.send_buffer_bytes = std::min(
            listeners.send_buffer_bytes, set_and_read_buffer(socket.descriptor(), SO_SNDBUFFORCE,
                                                             SO_SNDBUF, request.send_buffer_bytes));
        if (i > 0) {
            if (const int error = set_flag(socket.descriptor(), SOL_SOCKET, SO_REUSEPORT, 1))
                return system_error("setsockopt SO_REUSEPORT", error);
        }
        if (const int error = bind_to(socket.descriptor(), request.endpoint))
            return system_error("bind", error);
        if (i == 0) {
            if (const int error = set_flag(socket.descriptor(), SOL_SOCKET, SO_REUSEPORT, 1))
                return system_error("setsockopt SO_REUSEPORT", error);
        }
        listeners.sockets.push_back(std::move(socket));
    }
    return listeners;
}

OpeningOutcome open_group_sockets(const GroupOpening& opening, std::span<int> descriptors) {
    const std::span<int> members = descriptors.first(opening.members());
    std::fill(members.begin(), members.end(), -1);
    const OpeningOutcome outcome = open_members(opening, members);
    if (!outcome.opened()) {
        for (int& descriptor : members) {
            if (descriptor >= 0) ::close(descriptor);
            descriptor = -1;
        }
    }
    return outcome;
}

OpeningOutcome join_group_socket(std::span<const int> members, const MemberJoining& joining,
                                 int& descriptor) {
    descriptor = -1;
    // On one member alone the flag is not enough: three of four combinations are EADDRINUSE.
    OpeningOutcome outcome;
    if (const int error = set_joinable(members, true)) outcome = {OpeningStep::option, error};
    if (outcome.opened()) outcome = join_and_connect(joining, descriptor);
    (void)set_joinable(members, false);
    if (outcome.opened()) {
        if (const int error = set_flag(descriptor, SOL_SOCKET, SO_REUSEPORT, 0))
            outcome = {OpeningStep::option, error};
    }
    if (outcome.opened() && joining.peer) drain(descriptor);
    if (!outcome.opened() && descriptor >= 0) {
        ::close(descriptor);
        descriptor = -1;
    }
    return outcome;
}

SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted) {
    const Socket trial{open_datagram_socket(upstream.family())};
    if (!trial) return {errno, {}};
    if (!wanted.is_unspecified()) {
        // Only the address is asked about: with every port in use, a bind that takes one would
        // fail.
        (void)set_flag(trial.descriptor(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        const Endpoint local{wanted, wanted.is_link_local() ? upstream.scope : 0, 0};
        if (const int error = bind_to(trial.descriptor(), local)) return {error, {}};
        return {0, local};
    }
    if (const int error = connect_to(trial.descriptor(), upstream)) return {error, {}};
    SocketName name{};
    socklen_t length = sizeof name;
    if (::getsockname(trial.descriptor(), &name.any, &length) != 0) return {errno, {}};
    Endpoint source = read_socket_name(name);
    source.port = 0;
    return {0, source};
}

}  // namespace udpproxy
