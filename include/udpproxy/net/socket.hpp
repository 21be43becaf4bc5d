// What every socket of this program has in common: its owner, the path MTU, trains, and the local
// address that routing chooses. Listeners are opened in net/listener.hpp, reply groups in
// net/group_sockets.hpp.
#pragma once

#include <cstdint>
#include <utility>

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

/// Whether this kernel knows trains (UDP_GRO, and with it UDP_SEGMENT, from Linux 5.0). One that
/// does not would send a train as one datagram.
[[nodiscard]] bool trains_supported();

/// The local address that requests to `upstream` leave from: `wanted` if it is on this host, or
/// what routing says when `wanted` is unspecified.
struct SourceAnswer {
    int error = 0;    // 0, or EADDRNOTAVAIL (wanted is not here),
                      // ENETUNREACH/EHOSTUNREACH/EACCES/EINVAL (no route)
    Endpoint source;  // port 0
};
[[nodiscard]] SourceAnswer source_towards(const Endpoint& upstream, const Address& wanted);

}  // namespace udpproxy
