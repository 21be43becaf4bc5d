// Sockets that an earlier process opened: what the kernel says of them. A number alone says
// nothing: it may have become another file's.
#pragma once

#include <optional>

#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Where a UDP socket is bound; nothing: the descriptor is closed, or another kind of file, or
/// bound to no port.
[[nodiscard]] std::optional<Endpoint> bound_to(int descriptor);
/// Whether a socket is bound to `local` and connected to `peer`; without a peer, unconnected. Two
/// system calls, some hundred nanoseconds each.
[[nodiscard]] bool is_between(int descriptor, const Endpoint& local,
                              const std::optional<Endpoint>& peer);

}  // namespace udpproxy
