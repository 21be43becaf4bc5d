// Every socket this program opens for traffic, and every option it sets, with its reason. Called by
// the control thread (listeners) and by the engines (reply groups). What a socket is used for lives
// elsewhere; so do registered files and epoll sets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Owns one descriptor.
class Socket {
public:
    Socket() = default;
    explicit Socket(int descriptor) noexcept : descriptor_(descriptor) {}
    Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    Socket& operator=(Socket&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;
    ~Socket();

    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] int release() noexcept { return std::exchange(descriptor_, -1); }
    explicit operator bool() const noexcept { return descriptor_ >= 0; }

private:
    int descriptor_ = -1;
};

/// What happens to a datagram that is larger than the path takes (ip(7), IP_MTU_DISCOVER; ipv6(7),
/// IPV6_MTU_DISCOVER).
enum class PathMtu : std::uint8_t {
    want,   // the kernel learns from ICMP and fragments from then on; the first datagrams are lost
    probe,  // never fragmented here, ICMP is ignored: EMSGSIZE above the link's MTU; whoever sends
            // learns by himself (QUIC does)
    omit,   // always fragmented here, ICMP is ignored, forged or not
};

/// A listening address as the kernel shall see it.
struct ListenerRequest {
    Endpoint endpoint;
    std::uint64_t receive_buffer_bytes =
        0;  // payload bytes asked for; the kernel doubles it for its own bookkeeping (socket(7))
    std::uint64_t send_buffer_bytes = 0;
    PathMtu path_mtu = PathMtu::want;
    bool offload = false;  // takes trains whole (UDP_GRO); only where trains_supported()
};

/// Whether this kernel knows trains (UDP_GRO, and with it UDP_SEGMENT, from Linux 5.0). One that
/// does not would send a train as one datagram.
[[nodiscard]] bool trains_supported();

/// The sockets of one listening address, one per shard in shard order, and what the kernel granted.
struct ListenerSockets {
    std::vector<Socket> sockets;
    std::uint64_t receive_buffer_bytes = 0;  // smallest granted
    std::uint64_t send_buffer_bytes = 0;
    bool address_absent = false;  // not on this host (yet): bound with IP_FREEBIND
};

/// Opens `count` sockets on one address. The first binds exclusively, so that a second instance
/// gets EADDRINUSE and takes no client from the first; then SO_REUSEPORT goes on for good and the
/// others join (cleared, one socket would get everything). The order is the kernel's steering
/// order: it must never change while the address stays configured. Errors: any errno of socket,
/// setsockopt, bind, as a sentence `socket|setsockopt NAME|bind: cause`.
[[nodiscard]] Result<ListenerSockets> open_listeners(const ListenerRequest& request,
                                                     std::size_t count);

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

/// The local address that requests to `upstream` leave from: `wanted` if it is on this host, or
/// what routing says when `wanted` is unspecified.
struct SourceAnswer {
    int error = 0;    // 0, or EADDRNOTAVAIL (wanted is not here),
                      // ENETUNREACH/EHOSTUNREACH/EACCES/EINVAL (no route)
    Endpoint source;  // port 0
};
[[nodiscard]] SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted);

}  // namespace udpproxy
