// Outgoing: what one send looks like to sendmsg(2), kept in place until the kernel has read it.
// Shared by both engines.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>

#include "departure_chains.hpp"
#include "udpproxy/net/cmsg.hpp"

namespace udpproxy {

struct Outgoing {
    msghdr header;
    SocketName name;
    alignas(cmsghdr) std::byte control[control_bytes_max];
};

/// A connected socket, no TOS and one datagram: a plain send will do.
[[nodiscard]] inline bool needs_message(const Departure& departure,
                                        const Sending& sending) noexcept {
    return departure.to.port != 0 || departure.tos != 0 || sending.departures > 1 ||
           sending.is_train();
}

/// Writes destination, control messages and header for `sending`, whose first departure is
/// `departure`; the payload is `parts`. `family` is the socket's.
void write_outgoing(const Departure& departure, const Sending& sending, std::span<iovec> parts,
                    Family family, Outgoing& outgoing) noexcept;

/// Whether a failed send on a connected socket may have reported an older datagram's ICMP error
/// instead of sending (the kernel's list is icmp_err_convert[] in net/ipv4/icmp.c and its IPv6
/// twin); then one more attempt is due. Errors that speak of this very send are not on it.
[[nodiscard]] bool may_be_pending_error(int error) noexcept;

/// Whether the kernel had no room for a datagram at this moment: it may be sent again soon, and its
/// buffer stays with the shard.
[[nodiscard]] constexpr bool means_no_space(int error) noexcept {
    return error == EAGAIN || error == ENOBUFS;
}

/// Whether the kernel may have refused to cut a train that it would send singly (__ip_append_data
/// and udp_send_skb in net/ipv4): EMSGSIZE, a segment is longer than the path's MTU; EINVAL, the
/// same on older kernels, more segments than it takes, or no checksums; EIO, a device that cannot
/// compute them (older kernels); EOPNOTSUPP, a device or tunnel without segmentation.
[[nodiscard]] bool may_refuse_trains(int error) noexcept;

}  // namespace udpproxy
