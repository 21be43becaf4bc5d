// Outgoing: one send as sendmsg(2) takes it, kept in place until the kernel has read it. Both
// engines use it.
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

/// False for one datagram without TOS on a connected socket: a plain send will do.
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
/// instead of sending; then one more attempt is due. The kernel's list of such errors is
/// icmp_err_convert[] in net/ipv4/icmp.c and its IPv6 twin. Errors about the failed send itself are
/// not on that list.
[[nodiscard]] bool may_be_pending_error(int error) noexcept;

/// Whether the kernel had no room for a datagram at this moment. The datagram may be sent again
/// soon, and its buffer stays with the shard.
[[nodiscard]] constexpr bool means_no_space(int error) noexcept {
    return error == EAGAIN || error == ENOBUFS;
}

/// Whether the kernel may have refused to cut a train whose segments it would send singly
/// (__ip_append_data and udp_send_skb in net/ipv4). EMSGSIZE: a segment is longer than the path's
/// MTU. EINVAL: the same on older kernels, more segments than the kernel takes, or no checksums.
/// EIO: a device that cannot compute checksums (older kernels). EOPNOTSUPP: a device or tunnel
/// without segmentation.
[[nodiscard]] bool may_refuse_trains(int error) noexcept;

}  // namespace udpproxy
