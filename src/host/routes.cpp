// Builds rtnetlink(7) requests, and turns the answers into facts.
#include "udpproxy/host/routes.hpp"

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

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

/// The header of an answer; all zero when the answer is too short to have one.
template <class Header>
Header header_of(const nlmsghdr& answer) {
    Header header{};
    if (mnl_nlmsg_get_payload_len(&answer) >= sizeof header)
        std::memcpy(&header, mnl_nlmsg_get_payload(&answer), sizeof header);
    return header;
}

/// The attributes of an answer, or of an attribute with attributes inside, by their numbers.
class Attributes {
public:
    Attributes(const nlmsghdr& answer, std::size_t header_bytes) {
        mnl_attr_parse(&answer, static_cast<unsigned>(header_bytes), keep, this);
    }
    explicit Attributes(const nlattr* outer) {
        if (outer != nullptr) mnl_attr_parse_nested(outer, keep, this);
    }

    [[nodiscard]] bool has(std::size_t type) const { return known_[type] != nullptr; }
    [[nodiscard]] const nlattr* nested(std::size_t type) const { return known_[type]; }
    /// 0 where the attribute is absent or not a number.
    [[nodiscard]] std::uint32_t number(std::size_t type) const {
        return read<std::uint32_t>(type).value_or(0);
    }
    [[nodiscard]] std::optional<Address> address(std::size_t type) const {
        if (const auto ipv4 = read<std::uint32_t>(type)) return Address::ipv4(*ipv4);
        if (const auto ipv6 = read<in6_addr>(type)) return Address::ipv6(*ipv6);
        return std::nullopt;
    }
    [[nodiscard]] std::string text(std::size_t type) const {
        if (!has(type)) return {};
        const char* const text = mnl_attr_get_str(known_[type]);
        return {text, ::strnlen(text, mnl_attr_get_payload_len(known_[type]))};
    }

private:
    static int keep(const nlattr* attribute, void* into) {
        auto& known = static_cast<Attributes*>(into)->known_;
        const std::size_t type = mnl_attr_get_type(attribute);
        if (type < known.size()) known[type] = attribute;
        return MNL_CB_OK;
    }
    /// Also absent when the length differs.
    template <class T>
    [[nodiscard]] std::optional<T> read(std::size_t type) const {
        T value{};
        if (!has(type) || mnl_attr_get_payload_len(known_[type]) != sizeof value)
            return std::nullopt;
        std::memcpy(&value, mnl_attr_get_payload(known_[type]), sizeof value);
        return value;
    }

    std::array<const nlattr*, 32> known_{};  // every number asked for here is smaller
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

RouteFacts read_route(const nlmsghdr& answer) {
    RouteFacts facts;
    const auto header = header_of<rtmsg>(answer);
    const Attributes attributes(answer, sizeof header);
    const Address none = Address::any(header.rtm_family == AF_INET ? Family::ipv4 : Family::ipv6);
    facts.is_local = header.rtm_type == RTN_LOCAL;
    facts.interface_index = attributes.number(RTA_OIF);
    facts.source = attributes.address(RTA_PREFSRC).value_or(none);
    facts.next_hop = attributes.address(RTA_GATEWAY).value_or(none);
    facts.mtu = Attributes(attributes.nested(RTA_METRICS)).number(RTAX_MTU);
    return facts;
}

InterfaceFacts read_interface(const nlmsghdr& answer, int reverse_path_of_all) {
    InterfaceFacts facts;
    const auto header = header_of<ifinfomsg>(answer);
    const Attributes attributes(answer, sizeof header);
    facts.index = static_cast<std::uint32_t>(header.ifi_index);
    facts.is_up = (header.ifi_flags & IFF_UP) != 0;
    facts.has_carrier = (header.ifi_flags & IFF_RUNNING) != 0;
    facts.is_loopback = (header.ifi_flags & IFF_LOOPBACK) != 0;
    facts.name = attributes.text(IFLA_IFNAME);
    facts.mtu = attributes.number(IFLA_MTU);
    facts.reverse_path = std::max(reverse_path_of_all, read_reverse_path(facts.name));
    return facts;
}

void add_address(const nlmsghdr& answer, std::vector<InterfaceFacts>& interfaces) {
    const auto header = header_of<ifaddrmsg>(answer);
    const Attributes attributes(answer, sizeof header);
    // On point-to-point links IFA_ADDRESS is the peer's address; IFA_LOCAL, where given, is the
    // host's.
    const auto address = attributes.address(attributes.has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS);
    const auto owner = std::find_if(
        interfaces.begin(), interfaces.end(),
        [&](const InterfaceFacts& interface) { return interface.index == header.ifa_index; });
    if (address && owner != interfaces.end()) owner->addresses.push_back(*address);
}

NeighbourState state_of(const ndmsg& neighbour) {
    constexpr unsigned silent = NUD_FAILED | NUD_INCOMPLETE;
    constexpr unsigned answers = NUD_REACHABLE | NUD_PERMANENT | NUD_STALE | NUD_DELAY | NUD_PROBE;
    if ((neighbour.ndm_state & silent) != 0) return NeighbourState::silent;
    return (neighbour.ndm_state & answers) != 0 ? NeighbourState::answers : NeighbourState::unknown;
}

}  // namespace

Result<std::vector<InterfaceFacts>> RouteTable::interfaces() {
    std::vector<InterfaceFacts> found;
    const int reverse_path_of_all = read_reverse_path("all");
    Request links(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
    const auto links_read =
        ask_netlink(NETLINK_ROUTE, links.message(), [&](const nlmsghdr& answer) {
            found.push_back(read_interface(answer, reverse_path_of_all));
        });
    if (!links_read) return links_read.error();
    Request addresses(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
    const auto addresses_read =
        ask_netlink(NETLINK_ROUTE, addresses.message(),
                    [&](const nlmsghdr& answer) { add_address(answer, found); });
    if (!addresses_read) return addresses_read.error();
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
        const auto header = header_of<ndmsg>(answer);
        const Attributes attributes(answer, sizeof header);
        if (const auto address = attributes.address(NDA_DST))
            neighbours_->push_back(
                {*address, static_cast<std::uint32_t>(header.ndm_ifindex), state_of(header)});
    });
}

NeighbourState RouteTable::neighbour(const Address& address, std::uint32_t interface_index) {
    if (!neighbours_) read_neighbours();
    for (const Neighbour& each : *neighbours_)
        if (each.address == address && each.interface_index == interface_index) return each.state;
    return NeighbourState::unknown;
}

}  // namespace udpproxy
