// How members come to share one port that no other socket can join, and what becomes of datagrams
// that a member received before it was connected.
#include "udpproxy/net/group_sockets.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "socket_options.hpp"

namespace udpproxy {

namespace {

// As many datagrams as one source could send in the moment between bind and connect. If any were
// left, the check of each reply's source would drop them.
constexpr int drained_max = 1024;

/// Takes out what arrived while a member was bound but not yet connected: those datagrams may be
/// from any sender. A filter that drops everything in that moment would have the same effect. But
/// the kernel compiles such a filter for each socket under one lock of the whole machine
/// (text_mutex). Shards that opened many groups waited for each other: 64 groups cost up to 30 ms
/// of processor time.
void drain(int descriptor) {
    std::byte nothing{};
    for (int taken = 0; taken < drained_max && ::recv(descriptor, &nothing, sizeof nothing,
                                                      MSG_DONTWAIT | MSG_TRUNC) >= 0;)
        ++taken;
}

/// Opens one member, bound to the group's local address and port. The first member binds
/// exclusively and sets SO_REUSEPORT afterwards; the other members set it before they bind, to
/// join. If the flag were set before the first bind, the kernel could give one port to two groups.
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
    if (const int error = connect_to_upstream(descriptors[0], opening.upstream))
        return {OpeningStep::connect, error};
    for (std::size_t i = 0; i < opening.aliases.size(); ++i) {
        const int error = connect_to(descriptors[1 + i], opening.aliases[i]);
        // An alias without a route now must not refuse new clients that the upstream could serve,
        // so the alias member stays unconnected. It hears the alias as soon as there is a route.
        // The proxy's check of the source drops whatever else the member hears.
        if (error != 0 && error != ENETUNREACH && error != EHOSTUNREACH)
            return {OpeningStep::connect, error};
    }
    // No other socket may join from now on: if the flag stayed set, sockets of other programs that
    // bind port 0 could land on this port.
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
    // An alias without a route now must not cost the session the replies of its other sources, as
    // at a group's opening.
    if (error != 0 && error != ENETUNREACH && error != EHOSTUNREACH)
        return {OpeningStep::connect, error};
    return outcome;
}

}  // namespace

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
    // SO_REUSEPORT on one member alone is not enough: three of four combinations give EADDRINUSE.
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

}  // namespace udpproxy
