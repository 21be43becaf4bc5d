// How members come to share one port that no other socket can join, and what they have received
// before they were connected.
#include "udpproxy/net/group_sockets.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include "socket_options.hpp"

namespace udpproxy {

namespace {

// What one source could send in the moment between bind and connect; whatever were left, the check
// of each reply's source would drop.
constexpr int drained_max = 1024;

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

}  // namespace udpproxy
