// The host's interfaces, addresses, neighbours and routes, read by rtnetlink(7). Changes nothing
// and sends nothing to other hosts.
#pragma once

#include <optional>
#include <vector>

#include "udpproxy/host/facts.hpp"

namespace udpproxy {

/// An entry of the kernel's neighbour tables (ARP, neighbour discovery).
struct Neighbour {
    Address address;
    std::uint32_t interface_index = 0;
    NeighbourState state = NeighbourState::unknown;
};

class RouteTable {
public:
    /// All interfaces with their addresses and rp_filter. Errors: the netlink socket is refused
    /// (seccomp, RestrictAddressFamilies).
    [[nodiscard]] Result<std::vector<InterfaceFacts>> interfaces();
    /// The route to `to`, from `source` unless that is unspecified.
    [[nodiscard]] RouteFacts route(const Endpoint& to, const Address& source);
    /// Whether the kernel would take a reply from address `from` to the host's address `to` on this
    /// interface: 0 or errno.
    [[nodiscard]] int way_in(const Endpoint& from, const Address& to,
                             std::uint32_t interface_index);
    [[nodiscard]] NeighbourState neighbour(const Address& address, std::uint32_t interface_index);

    /// Whether duplicate address detection is under way for one of the host's IPv6 addresses: the
    /// kernel chooses no such address as a source yet (RFC 4862 section 5.4).
    [[nodiscard]] bool has_tentative_address();

private:
    void read_neighbours();

    std::optional<std::vector<Neighbour>> neighbours_;  // read on first use
};

}  // namespace udpproxy
