// The sockets of a reply group: several bound to one local address and port, in the order that
// leaves no gap for another sender's datagram. Called by the engines, which register what is opened
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A reply group to be opened: every member bound to `local`, the primary connected to `upstream`,
/// an alias member to each of `aliases`, and an unconnected open member if asked for.
struct GroupOpening {
    Endpoint local;  // a listed address and port, never port 0: the kernel may hand out a port
                     // twice once reuse flags are about
    Endpoint upstream;
    std::span<const Endpoint> aliases;
    bool with_open_member = false;
    PathMtu path_mtu = PathMtu::want;
    std::uint64_t receive_buffer_bytes = 0;  // of each member; 0: the system's default
    bool offload = false;                    // members take trains whole (UDP_GRO)

    [[nodiscard]] std::size_t members() const noexcept {
        return 1 + aliases.size() + (with_open_member ? 1 : 0);
    }
};

/// What a group opening was doing when it failed; `none` is success.
enum class OpeningStep : std::uint8_t { none, socket, option, bind, join, connect };

struct OpeningOutcome {
    OpeningStep step = OpeningStep::none;
    int error = 0;  // errno

    [[nodiscard]] bool opened() const noexcept { return step == OpeningStep::none; }
};

/// Opens the group's sockets into `descriptors` (primary, alias members in order, open member last;
/// size >= opening.members()). All or none: on failure everything is closed again. About ten system
/// calls per member, 5 us for three members. Errors: bind EADDRINUSE (the port is somebody else's:
/// take the next), bind EADDRNOTAVAIL (the source address is gone), socket
/// EMFILE/ENFILE/ENOBUFS/ENOMEM, connect ENETUNREACH/EINVAL/EACCES (no way to the upstream now). An
/// alias that merely has no route is left unconnected.
[[nodiscard]] OpeningOutcome open_group_sockets(const GroupOpening& opening,
                                                std::span<int> descriptors);

/// Another member for a finished group.
struct MemberJoining {
    Endpoint local;                // the group's
    std::optional<Endpoint> peer;  // an alias member's; absent: an open member
    PathMtu path_mtu = PathMtu::want;
    std::uint64_t receive_buffer_bytes = 0;  // 0: the system's default
    bool offload = false;                    // takes trains whole (UDP_GRO)
};

/// Opens it. The flag goes back on all members, whose sockets are `members`, the new client joins,
/// connects and is drained, and the flag is cleared on all at once. Others of this user could join
/// in that moment, some ten microseconds. On failure the group is as it was. Errors: as those of a
/// group opening.
[[nodiscard]] OpeningOutcome join_group_socket(std::span<const int> members,
                                               const MemberJoining& joining, int& descriptor);

}  // namespace udpproxy
