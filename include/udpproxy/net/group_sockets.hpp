// The sockets of a reply group: several sockets bound to one local address and port. They are
// opened in the order that leaves no gap for another sender's datagram. The engines call these
// functions and register the sockets that are opened here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A reply group to be opened. Every member is bound to `local`. The primary is connected to
/// `upstream`, an alias member to each of `aliases`; an open member stays unconnected.
struct GroupOpening {
    // A listed address and port, never port 0: once reuse flags are set, the kernel may hand out
    // one port twice.
    Endpoint local;
    Endpoint upstream;
    std::span<const Endpoint> aliases;
    bool with_open_member = false;
    PathMtu path_mtu = PathMtu::want;
    std::uint64_t receive_buffer_bytes = 0;  // of each member; 0: the system's default
    bool offload = false;                    // members take trains whole (UDP_GRO)
    /// The sockets, where an earlier process has opened them so: primary first, open member last.
    std::span<const int> descriptors{};

    [[nodiscard]] std::size_t members() const noexcept {
        return 1 + aliases.size() + (with_open_member ? 1 : 0);
    }
};

/// The step at which a group opening failed; `none` is success.
enum class OpeningStep : std::uint8_t { none, socket, option, bind, join, connect };

struct OpeningOutcome {
    OpeningStep step = OpeningStep::none;
    int error = 0;  // errno

    [[nodiscard]] bool opened() const noexcept { return step == OpeningStep::none; }
};

/// Opens the group's sockets into `descriptors`: the primary, the alias members in order, the open
/// member last. Requires: descriptors.size() >= opening.members(). All or none: on failure every
/// socket is closed again. An opening costs about ten system calls per member, 5 us for three
/// members. Errors: bind EADDRINUSE (another socket has the port: take the next port), bind
/// EADDRNOTAVAIL (the source address is gone), socket EMFILE/ENFILE/ENOBUFS/ENOMEM, connect
/// ENETUNREACH/EINVAL/EACCES (no way to the upstream now). An alias member whose alias merely has
/// no route stays unconnected.
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

/// Opens another member. SO_REUSEPORT is set again on all members, whose sockets are `members`. The
/// new member joins, connects and is drained; then the flag is cleared on all members at once.
/// Other sockets of the same user could join in that moment, some ten microseconds. On failure the
/// group is as it was. Errors: as those of a group opening.
[[nodiscard]] OpeningOutcome join_group_socket(std::span<const int> members,
                                               const MemberJoining& joining, int& descriptor);

}  // namespace udpproxy
