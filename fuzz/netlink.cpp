// Answers of rtnetlink: any bytes that are framed as answers are read within their bounds, and an
// answer that was made of facts is read as these facts. The first byte chooses.
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <memory>

#include "fuzz/input.hpp"
#include "host/route_answers.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

namespace {

void read_any(Bytes bytes) {
    // A block of its own, so that the sanitiser sees a step beyond its end. libmnl reads to the end
    // of an aligned length, as the kernel writes.
    const std::size_t length = bytes.size() & ~std::size_t{NLMSG_ALIGNTO - 1};
    const auto block = std::make_unique<char[]>(length);
    std::copy_n(bytes.begin(), length, block.get());
    std::vector<InterfaceFacts> interfaces;
    int left = static_cast<int>(length);
    for (auto* answer = reinterpret_cast<nlmsghdr*>(block.get()); mnl_nlmsg_ok(answer, left);
         answer = mnl_nlmsg_next(answer, &left)) {
        // libmnl 1.0.4 takes a length beyond INT_MAX, which the kernel never writes, for negative.
        if (answer->nlmsg_len > length) break;
        const RouteFacts route = read_route(*answer);
        UDPPROXY_ASSERT(route.error == 0);
        const InterfaceFacts& interface = interfaces.emplace_back(read_interface(*answer));
        UDPPROXY_ASSERT(interface.addresses.empty() && interface.reverse_path == 0);
        UDPPROXY_ASSERT(interface.name.find('\0') == std::string::npos);
        const std::size_t before = interfaces.size();
        add_address(*answer, interfaces);
        UDPPROXY_ASSERT(interfaces.size() == before);
        (void)read_neighbour(*answer);
    }
}

struct Message {
    template <class Header>
    Message(std::uint16_t type, const Header& header) {
        nlmsghdr& message = *mnl_nlmsg_put_header(buffer.data());
        message.nlmsg_type = type;
        std::memcpy(mnl_nlmsg_put_extra_header(&message, sizeof header), &header, sizeof header);
    }
    void add(std::uint16_t type, const Address& address) {
        const std::size_t skipped = address.is_ipv4() ? 12 : 0;
        mnl_attr_put(&header(), type, 16 - skipped, address.bytes.data() + skipped);
    }
    nlmsghdr& header() { return *reinterpret_cast<nlmsghdr*>(buffer.data()); }

    alignas(nlmsghdr) std::array<char, 512> buffer{};
};

void read_written(Input& input) {
    const Family family = input.flag() ? Family::ipv4 : Family::ipv6;
    const auto family_number =
        static_cast<unsigned char>(family == Family::ipv4 ? AF_INET : AF_INET6);
    RouteFacts route;
    route.is_local = input.flag();
    route.interface_index = input.number<std::uint32_t>();
    route.source = input.address(family);
    route.next_hop = input.address(family);
    route.mtu = input.number<std::uint32_t>();
    rtmsg route_header{};
    route_header.rtm_family = family_number;
    route_header.rtm_type = route.is_local ? RTN_LOCAL : RTN_UNICAST;
    Message route_message(RTM_NEWROUTE, route_header);
    mnl_attr_put_u32(&route_message.header(), RTA_OIF, route.interface_index);
    route_message.add(RTA_PREFSRC, route.source);
    route_message.add(RTA_GATEWAY, route.next_hop);
    nlattr* const metrics = mnl_attr_nest_start(&route_message.header(), RTA_METRICS);
    mnl_attr_put_u32(&route_message.header(), RTAX_MTU, route.mtu);
    mnl_attr_nest_end(&route_message.header(), metrics);
    const RouteFacts read = read_route(route_message.header());
    UDPPROXY_ASSERT(read.is_local == route.is_local && read.source == route.source &&
                    read.interface_index == route.interface_index &&
                    read.next_hop == route.next_hop && read.mtu == route.mtu);

    ifinfomsg link_header{};
    link_header.ifi_index = static_cast<int>(input.number<std::uint32_t>());
    link_header.ifi_flags = input.number<std::uint32_t>();
    std::string name{Input::text_of(input.take(IF_NAMESIZE - 1))};
    name = name.substr(0, name.find('\0'));
    const auto mtu = input.number<std::uint32_t>();
    Message link_message(RTM_NEWLINK, link_header);
    mnl_attr_put_strz(&link_message.header(), IFLA_IFNAME, name.c_str());
    mnl_attr_put_u32(&link_message.header(), IFLA_MTU, mtu);
    std::vector<InterfaceFacts> interfaces{read_interface(link_message.header())};
    UDPPROXY_ASSERT(interfaces[0].name == name && interfaces[0].mtu == mtu);
    UDPPROXY_ASSERT(interfaces[0].index == static_cast<std::uint32_t>(link_header.ifi_index));
    UDPPROXY_ASSERT(interfaces[0].is_up == ((link_header.ifi_flags & IFF_UP) != 0));

    ifaddrmsg address_header{};
    address_header.ifa_family = family_number;
    address_header.ifa_index = input.flag() ? interfaces[0].index : input.number<std::uint32_t>();
    const Address own = input.address(family);
    const Address peer = input.address(family);
    const bool has_peer = input.flag();
    Message address_message(RTM_NEWADDR, address_header);
    address_message.add(IFA_ADDRESS, has_peer ? peer : own);
    if (has_peer) address_message.add(IFA_LOCAL, own);
    add_address(address_message.header(), interfaces);
    const bool is_of_interface = address_header.ifa_index == interfaces[0].index;
    UDPPROXY_ASSERT(interfaces[0].addresses ==
                    (is_of_interface ? std::vector{own} : std::vector<Address>{}));
}

}  // namespace

void netlink(Bytes bytes) {
    Input input(bytes);
    if (input.flag())
        read_written(input);
    else
        read_any(bytes.subspan(std::min<std::size_t>(1, bytes.size())));
}

}  // namespace udpproxy::fuzz
