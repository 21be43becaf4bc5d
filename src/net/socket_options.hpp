// The single system calls with which listeners and reply groups are opened. Private to src/net.
#pragma once

#include <cstdint>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A UDP socket, non-blocking and closed on exec, one of IPv6 for IPv6 alone. Returns the
/// descriptor, or -1 with errno.
[[nodiscard]] int open_datagram_socket(Family family);

// The next functions return 0 or errno.
[[nodiscard]] int set_flag(int descriptor, int level, int option, int value);
[[nodiscard]] int bind_to(int descriptor, const Endpoint& endpoint);
[[nodiscard]] int connect_to(int descriptor, const Endpoint& endpoint);
/// As connect_to(), to the broadcast address of a network of this host as well: that needs a flag
/// (SO_BROADCAST of socket(7)), and is EACCES without.
[[nodiscard]] int connect_to_upstream(int descriptor, const Endpoint& endpoint);
/// Asks for TOS or traffic class with every datagram, because ECN and DSCP are carried through.
/// Sets what becomes of datagrams that are larger than the path takes.
[[nodiscard]] int set_family_options(int descriptor, Family family, PathMtu path_mtu);
/// Makes neighbouring datagrams of one sender, equal in length, arrive as one train: one pass of
/// the kernel, one buffer.
[[nodiscard]] int receive_trains(int descriptor);

/// Sets a buffer size: beyond net.core.*mem_max where CAP_NET_ADMIN allows, else up to that limit.
void set_buffer(int descriptor, int force_option, int option, std::uint64_t bytes);

}  // namespace udpproxy
