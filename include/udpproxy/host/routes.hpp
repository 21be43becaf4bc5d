// The host's interfaces, addresses, neighbours and routes, asked of rtnetlink(7). Nothing is
// changed and nothing is sent to anybody.
#pragma once

#include <optional>
#include <vector>

#include "udpproxy/host/facts.hpp"

namespace udpproxy {

class RouteTable {
public:
    /// All interfaces with their addresses and rp_filter. Errors: the netlink socket is refused
    /// (seccomp, RestrictAddressFamilies).
    [[nodiscard]] Result<std::vector<InterfaceFacts>> interfaces();
    /// The way to `to`, from `source` if that is not unspecified.
    [[nodiscard]] RouteFacts route(const Endpoint& to, const Address& source);
    /// Whether a reply `from` somebody to our address `to` would be let in on this interface:
    /// 0 or errno.
    [[nodiscard]] int way_in(const Endpoint& from, const Address& to,
                             std::uint32_t interface_index);
    [[nodiscard]] NeighbourState neighbour(const Address& address, std::uint32_t interface_index);

private:
    struct Neighbour {
        Address address;
        std::uint32_t interface_index = 0;
        NeighbourState state = NeighbourState::unknown;
    };

    void read_neighbours();

    std::optional<std::vector<Neighbour>> neighbours_;  // read when first asked for
};

}  // namespace udpproxy
