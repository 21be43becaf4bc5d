// What every socket of this program has in common: the path MTU, trains, and the local address that
// routing chooses. Listeners are opened in net/listener.hpp,
// reply groups in net/group_sockets.hpp.
#pragma once

#include <cstdint>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

using Socket = Descriptor;

/// What happens to a datagram that is larger than the path takes (ip(7), IP_MTU_DISCOVER; ipv6(7),
/// IPV6_MTU_DISCOVER).
enum class PathMtu : std::uint8_t {
    // The kernel learns from ICMP and fragments from then on; the first datagrams are lost.
    want,
    // The kernel never fragments and ignores ICMP; above the link's MTU a send gets EMSGSIZE. The
    // sender must find the path MTU itself (QUIC does).
    probe,
    // The kernel always fragments and ignores ICMP, forged or not.
    omit,
};

/// Whether this kernel knows trains (UDP_GRO, and with it UDP_SEGMENT, from Linux 5.0). A kernel
/// that does not know them would send a train as one datagram.
[[nodiscard]] bool trains_supported();

/// The local address that requests to `upstream` leave from. The source is `wanted` if that address
/// is on this host, or routing's choice when `wanted` is unspecified.
struct SourceAnswer {
    // 0, EADDRNOTAVAIL (wanted is not on this host), ENODEV (the upstream's interface is absent),
    // or ENETUNREACH/EHOSTUNREACH/EACCES/EINVAL (no route).
    int error = 0;
    Endpoint source;  // port 0
};
[[nodiscard]] SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted);

}  // namespace udpproxy
