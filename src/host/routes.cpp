// rtnetlink(7) messages to facts and back.
#include "udpproxy/host/routes.hpp"

#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

namespace udpproxy {

namespace {

std::uint8_t family_number(Family family) { return family == Family::ipv4 ? AF_INET : AF_INET6; }

std::vector<std::uint8_t> address_bytes(const Address& address) {
    return address.is_ipv4()
               ? std::vector<std::uint8_t>{address.bytes.begin() + 12, address.bytes.end()}
               : std::vector<std::uint8_t>{address.bytes.begin(), address.bytes.end()};
}

std::optional<Address> read_address(const NetlinkAttribute& attribute) {
    if (const auto ipv4 = attribute.number<std::uint32_t>()) return Address::ipv4(*ipv4);
    if (const auto ipv6 = attribute.number<in6_addr>()) return Address::ipv6(*ipv6);
    return std::nullopt;
}

int read_reverse_path(const std::string& interface_name) {
    int value = 0;
    std::ifstream file("/proc/sys/net/ipv4/conf/" + interface_name + "/rp_filter");
    return file >> value ? value : 0;
}

std::uint32_t mtu_of(const NetlinkAttribute& metrics) {
    const auto mtu = find_attribute(metrics.value, RTAX_MTU);
    return mtu ? mtu->number<std::uint32_t>().value_or(0) : 0;
}

NetlinkRequest route_request(const Address& to, const Address& from) {
    rtmsg header{};
    header.rtm_family = family_number(to.family());
    header.rtm_dst_len = to.is_ipv4() ? 32 : 128;
    if (!from.is_unspecified()) header.rtm_src_len = header.rtm_dst_len;
    NetlinkRequest request(RTM_GETROUTE, 0, header);
    request.add(RTA_DST, NetlinkBytes{address_bytes(to)});
    if (!from.is_unspecified()) request.add(RTA_SRC, NetlinkBytes{address_bytes(from)});
    const std::uint8_t protocol = IPPROTO_UDP;  // rules of policy routing may ask for it
    request.add(RTA_IP_PROTO, NetlinkBytes{&protocol, 1});
    return request;
}

void add_port(NetlinkRequest& request, std::uint16_t type, std::uint16_t port) {
    const std::array<std::uint8_t, 2> bytes{static_cast<std::uint8_t>(port >> 8),
                                            static_cast<std::uint8_t>(port & 0xff)};
    if (port != 0) request.add(type, NetlinkBytes{bytes});
}

RouteFacts read_route(const NetlinkAnswer& answer) {
    RouteFacts facts;
    const rtmsg header = answer.header<rtmsg>().value_or(rtmsg{});
    facts.is_local = header.rtm_type == RTN_LOCAL;
    facts.source = facts.next_hop =
        Address::any(header.rtm_family == AF_INET ? Family::ipv4 : Family::ipv6);
    for (const NetlinkAttribute& attribute : read_attributes(answer.attributes(sizeof header))) {
        switch (attribute.type) {
            case RTA_OIF:
                facts.interface_index = attribute.number<std::uint32_t>().value_or(0);
                break;
            case RTA_PREFSRC:
                facts.source = read_address(attribute).value_or(facts.source);
                break;
            case RTA_GATEWAY:
                facts.next_hop = read_address(attribute).value_or(facts.next_hop);
                break;
            case RTA_METRICS:
                facts.mtu = mtu_of(attribute);
                break;
            default:
                break;
        }
    }
    return facts;
}

InterfaceFacts read_interface(const NetlinkAnswer& answer, int reverse_path_of_all) {
    InterfaceFacts facts;
    const ifinfomsg header = answer.header<ifinfomsg>().value_or(ifinfomsg{});
    facts.index = static_cast<std::uint32_t>(header.ifi_index);
    facts.is_up = (header.ifi_flags & IFF_UP) != 0;
    facts.has_carrier = (header.ifi_flags & IFF_RUNNING) != 0;
    facts.is_loopback = (header.ifi_flags & IFF_LOOPBACK) != 0;
    for (const NetlinkAttribute& attribute : read_attributes(answer.attributes(sizeof header))) {
        if (attribute.type == IFLA_IFNAME) facts.name = attribute.text();
        if (attribute.type == IFLA_MTU) facts.mtu = attribute.number<std::uint32_t>().value_or(0);
    }
    facts.reverse_path = std::max(reverse_path_of_all, read_reverse_path(facts.name));
    return facts;
}

}  // namespace

Result<RouteTable> RouteTable::open() {
    Result<Netlink> netlink = Netlink::open(NETLINK_ROUTE);
    if (!netlink) return netlink.error();
    return RouteTable{std::move(*netlink)};
}

Result<std::vector<InterfaceFacts>> RouteTable::interfaces() {
    auto links = netlink_.ask(NetlinkRequest(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{}));
    if (!links) return links.error();
    auto addresses = netlink_.ask(NetlinkRequest(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{}));
    if (!addresses) return addresses.error();
    const int reverse_path_of_all = read_reverse_path("all");
    std::vector<InterfaceFacts> found;
    for (const NetlinkAnswer& link : *links)
        found.push_back(read_interface(link, reverse_path_of_all));
    for (const NetlinkAnswer& answer : *addresses) {
        const ifaddrmsg header = answer.header<ifaddrmsg>().value_or(ifaddrmsg{});
        // On point-to-point links IFA_ADDRESS is the peer's; IFA_LOCAL is ours where it is given.
        auto attribute = find_attribute(answer.attributes(sizeof header), IFA_LOCAL);
        if (!attribute) attribute = find_attribute(answer.attributes(sizeof header), IFA_ADDRESS);
        const auto address = attribute ? read_address(*attribute) : std::nullopt;
        const auto owner = std::find_if(
            found.begin(), found.end(),
            [&](const InterfaceFacts& each) { return each.index == header.ifa_index; });
        if (address && owner != found.end()) owner->addresses.push_back(*address);
    }
    return found;
}

RouteFacts RouteTable::route(const Endpoint& to, const Address& source) {
    NetlinkRequest request = route_request(to.address, source);
    add_port(request, RTA_DPORT, to.port);
    if (to.scope != 0) request.add(RTA_OIF, to.scope);
    const auto answers = netlink_.ask(std::move(request));
    RouteFacts facts;
    facts.source = facts.next_hop = Address::any(to.family());
    if (!answers) {
        facts.error = answers.error().code;
        return facts;
    }
    if (answers->empty()) return facts;
    facts = read_route(answers->front());
    if (facts.source.is_unspecified()) facts.source = source;
    return facts;
}

int RouteTable::way_in(const Endpoint& from, const Address& to, std::uint32_t interface_index) {
    NetlinkRequest request = route_request(to, from.address);
    request.add(RTA_IIF, interface_index);
    add_port(request, RTA_SPORT, from.port);
    const auto answers = netlink_.ask(std::move(request));
    return answers ? 0 : answers.error().code;
}

void RouteTable::read_neighbours() {
    neighbours_.emplace();
    const auto answers = netlink_.ask(NetlinkRequest(RTM_GETNEIGH, NLM_F_DUMP, ndmsg{}));
    if (!answers) return;  // nothing known is the usual state of a neighbour
    for (const NetlinkAnswer& answer : *answers) {
        const ndmsg header = answer.header<ndmsg>().value_or(ndmsg{});
        const auto attribute = find_attribute(answer.attributes(sizeof header), NDA_DST);
        const auto address = attribute ? read_address(*attribute) : std::nullopt;
        if (!address) continue;
        const bool is_silent = (header.ndm_state & (NUD_FAILED | NUD_INCOMPLETE)) != 0;
        const bool answers_now = (header.ndm_state & (NUD_REACHABLE | NUD_PERMANENT | NUD_STALE |
                                                      NUD_DELAY | NUD_PROBE)) != 0;
        neighbours_->push_back({*address, static_cast<std::uint32_t>(header.ndm_ifindex),
                                is_silent     ? NeighbourState::silent
                                : answers_now ? NeighbourState::answers
                                              : NeighbourState::unknown});
    }
}

NeighbourState RouteTable::neighbour(const Address& address, std::uint32_t interface_index) {
    if (!neighbours_) read_neighbours();
    for (const Neighbour& each : *neighbours_)
        if (each.address == address && each.interface_index == interface_index) return each.state;
    return NeighbourState::unknown;
}

}  // namespace udpproxy
