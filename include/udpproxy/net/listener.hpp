// The sockets that clients write to: one per shard on one address. Every option that a listener
// needs is set here, with its reason. The control thread calls this, at the start and at reloads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"

namespace udpproxy {

/// A listening address as the kernel shall see it.
struct ListenerRequest {
    Endpoint endpoint;
    // Payload bytes asked for; the kernel doubles the number for its own bookkeeping (socket(7)).
    std::uint64_t receive_buffer_bytes = 0;
    std::uint64_t send_buffer_bytes = 0;
    PathMtu path_mtu = PathMtu::want;
    bool offload = false;  // takes trains whole (UDP_GRO); only where trains_supported()
    // This program has the port already, at every address or at one of those asked for here. Both
    // can be bound only with SO_REUSEPORT; the kernel delivers to the more specific one.
    bool shares_port = false;
};

/// The sockets of one listening address, one per shard in shard order, and what the kernel granted.
struct ListenerSockets {
    std::vector<Socket> sockets;
    std::uint64_t receive_buffer_bytes = 0;  // smallest granted
    std::uint64_t send_buffer_bytes = 0;
    bool address_absent = false;  // not on this host (yet): bound with IP_FREEBIND
};

/// Opens `count` sockets on one address. The first socket binds exclusively unless the port is
/// shared, so that a second
/// instance of the program gets EADDRINUSE and takes no client from the first. Then SO_REUSEPORT is
/// set for good, and the other sockets join; if the flag were cleared again, one socket would get
/// everything. The order of the sockets is the kernel's steering order: it must never change while
/// the address stays configured.
///
/// The sockets in `handed` are bound to the address already: they come first, get the same options,
/// and are moved out if all goes well. Others join them only where they have SO_REUSEPORT and the
/// same user made them. Errors: any errno of socket, setsockopt, bind, as a sentence
/// `socket|setsockopt NAME|bind: cause`.
// Requires: `handed` has `count` sockets at most, of the endpoint's family.
[[nodiscard]] Result<ListenerSockets> open_listeners(const ListenerRequest& request,
                                                     std::size_t count,
                                                     std::vector<Socket>* handed = nullptr);

}  // namespace udpproxy
