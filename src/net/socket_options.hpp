// The single system calls of which listeners and reply groups are opened. Private to src/net.
#pragma once

#include <cstdint>

#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A UDP socket, non-blocking and closed on exec. Returns the descriptor, or -1 with errno.
[[nodiscard]] int open_datagram_socket(Family family);

// These return 0 or errno.
[[nodiscard]] int set_flag(int descriptor, int level, int option, int value);
[[nodiscard]] int bind_to(int descriptor, const Endpoint& endpoint);
[[nodiscard]] int connect_to(int descriptor, const Endpoint& endpoint);
/// Asks for TOS or traffic class with every datagram (ECN and DSCP are carried through), keeps IPv6
/// sockets out of IPv4, and says what becomes of datagrams that are larger than the path.
[[nodiscard]] int set_family_options(int descriptor, Family family, PathMtu path_mtu);
/// Neighbouring datagrams of one sender, equal in length, come as one train: one pass of the
/// kernel, one buffer.
[[nodiscard]] int receive_trains(int descriptor);

/// Sets a buffer size beyond net.core.*mem_max where CAP_NET_ADMIN allows, else up to it.
void set_buffer(int descriptor, int force_option, int option, std::uint64_t bytes);

}  // namespace udpproxy
