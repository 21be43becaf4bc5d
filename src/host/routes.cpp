// Builds rtnetlink(7) requests. route_answers.cpp turns the answers into facts.
#include "udpproxy/host/routes.hpp"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include "route_answers.hpp"
#include "udpproxy/host/netlink.hpp"

namespace udpproxy {

namespace {

/// A request under construction; the longest has five attributes of 16 bytes at most.
class Request {
public:
    template <class Header>
    Request(std::uint16_t type, std::uint16_t flags, const Header& header) {
        nlmsghdr& message = *mnl_nlmsg_put_header(buffer_.data());
        message.nlmsg_type = type;
        message.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
        std::memcpy(mnl_nlmsg_put_extra_header(&message, sizeof header), &header, sizeof header);
    }
    void add(std::uint16_t type, std::uint32_t number) {
        mnl_attr_put_u32(&message(), type, number);
    }
    void add(std::uint16_t type, const Address& address) {
        const std::size_t skipped = address.is_ipv4() ? 12 : 0;
        mnl_attr_put(&message(), type, address.bytes.size() - skipped,
                     address.bytes.data() + skipped);
    }
    void add_protocol(std::uint8_t number) { mnl_attr_put_u8(&message(), RTA_IP_PROTO, number); }
    void add_port(std::uint16_t type, std::uint16_t port) {
        if (port != 0) mnl_attr_put_u16(&message(), type, htons(port));
    }
    nlmsghdr& message() { return *reinterpret_cast<nlmsghdr*>(buffer_.data()); }

private:
    alignas(nlmsghdr) std::array<char, 256> buffer_{};
};

int read_reverse_path(const std::string& interface_name) {
    int value = 0;
    std::ifstream file("/proc/sys/net/ipv4/conf/" + interface_name + "/rp_filter");
    return file >> value ? value : 0;
}

Request route_request(const Address& to, const Address& from) {
    rtmsg header{};
    header.rtm_family = to.is_ipv4() ? AF_INET : AF_INET6;
    header.rtm_dst_len = to.is_ipv4() ? 32 : 128;
    if (!from.is_unspecified()) header.rtm_src_len = header.rtm_dst_len;
    Request request(RTM_GETROUTE, 0, header);
    request.add(RTA_DST, to);
    if (!from.is_unspecified()) request.add(RTA_SRC, from);
    request.add_protocol(IPPROTO_UDP);  // rules of policy routing may match the protocol
    return request;
}

}  // namespace

Result<std::vector<InterfaceFacts>> RouteTable::interfaces() {
    std::vector<InterfaceFacts> found;
    const int reverse_path_of_all = read_reverse_path("all");
    Request links(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
    const auto links_read =
        ask_netlink(NETLINK_ROUTE, links.message(), [&](const nlmsghdr& answer) {
            InterfaceFacts& facts = found.emplace_back(read_interface(answer));
            facts.reverse_path = std::max(reverse_path_of_all, read_reverse_path(facts.name));
        });
    if (!links_read) return links_read.error();
    Request addresses(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
    const auto addresses_read =
        ask_netlink(NETLINK_ROUTE, addresses.message(),
                    [&](const nlmsghdr& answer) { add_address(answer, found); });
    if (!addresses_read) return addresses_read.error();
    return found;
}

bool RouteTable::has_tentative_address() {
    ifaddrmsg of_ipv6{};
    of_ipv6.ifa_family = AF_INET6;
    Request request(RTM_GETADDR, NLM_F_DUMP, of_ipv6);
    bool found = false;
    (void)ask_netlink(NETLINK_ROUTE, request.message(),
                      [&](const nlmsghdr& answer) { found = found || is_tentative(answer); });
    return found;
}

RouteFacts RouteTable::route(const Endpoint& to, const Address& source) {
    Request request = route_request(to.address, source);
    request.add_port(RTA_DPORT, to.port);
    if (to.scope != 0) request.add(RTA_OIF, to.scope);
    RouteFacts facts;
    facts.source = facts.next_hop = Address::any(to.family());
    const auto read = ask_netlink(NETLINK_ROUTE, request.message(), [&](const nlmsghdr& answer) {
        facts = read_route(answer);
        if (facts.source.is_unspecified()) facts.source = source;
    });
    if (!read) facts.error = read.error().code;
    return facts;
}

int RouteTable::way_in(const Endpoint& from, const Address& to, std::uint32_t interface_index) {
    Request request = route_request(to, from.address);
    request.add(RTA_IIF, interface_index);
    request.add_port(RTA_SPORT, from.port);
    const auto read = ask_netlink(NETLINK_ROUTE, request.message(), [](const nlmsghdr&) {});
    return read ? 0 : read.error().code;
}

void RouteTable::read_neighbours() {
    neighbours_.emplace();
    Request request(RTM_GETNEIGH, NLM_F_DUMP, ndmsg{});
    // A state that cannot be read is unknown, which is the usual state of a neighbour.
    (void)ask_netlink(NETLINK_ROUTE, request.message(), [&](const nlmsghdr& answer) {
        if (const auto neighbour = read_neighbour(answer)) neighbours_->push_back(*neighbour);
    });
}

NeighbourState RouteTable::neighbour(const Address& address, std::uint32_t interface_index) {
    if (!neighbours_) read_neighbours();
    for (const Neighbour& each : *neighbours_)
        if (each.address == address && each.interface_index == interface_index) return each.state;
    return NeighbourState::unknown;
}

}  // namespace udpproxy
