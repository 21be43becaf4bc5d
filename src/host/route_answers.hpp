// The kernel's answers to rtnetlink(7) requests, as facts. routes.cpp asks for them.
#pragma once

#include <optional>
#include <vector>

#include "udpproxy/host/routes.hpp"

struct nlmsghdr;

namespace udpproxy {

// Requires of every answer: nlmsg_len bytes can be read, and they hold the header (mnl_nlmsg_ok).

/// RTM_NEWROUTE, the answer to RTM_GETROUTE.
[[nodiscard]] RouteFacts read_route(const nlmsghdr& answer);
/// RTM_NEWLINK, without addresses and rp_filter.
[[nodiscard]] InterfaceFacts read_interface(const nlmsghdr& answer);
/// RTM_NEWADDR: adds the address to its interface, if that is one of them.
void add_address(const nlmsghdr& answer, std::vector<InterfaceFacts>& interfaces);
/// RTM_NEWADDR: whether duplicate address detection is under way, so that the kernel chooses the
/// address for no datagram yet.
[[nodiscard]] bool is_tentative(const nlmsghdr& answer);
/// RTM_NEWNEIGH; nothing when the entry has no address.
[[nodiscard]] std::optional<Neighbour> read_neighbour(const nlmsghdr& answer);

}  // namespace udpproxy
