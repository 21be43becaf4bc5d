// Which attributes of an answer are read, and what is made of an answer that is too short or has
// an attribute of another length: what it does not say is left at its default.
#include "route_answers.hpp"

#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace udpproxy {

namespace {

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

NeighbourState state_of(const ndmsg& neighbour) {
    constexpr unsigned silent = NUD_FAILED | NUD_INCOMPLETE;
    constexpr unsigned answers = NUD_REACHABLE | NUD_PERMANENT | NUD_STALE | NUD_DELAY | NUD_PROBE;
    if ((neighbour.ndm_state & silent) != 0) return NeighbourState::silent;
    return (neighbour.ndm_state & answers) != 0 ? NeighbourState::answers : NeighbourState::unknown;
}

}  // namespace

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

InterfaceFacts read_interface(const nlmsghdr& answer) {
    InterfaceFacts facts;
    const auto header = header_of<ifinfomsg>(answer);
    const Attributes attributes(answer, sizeof header);
    facts.index = static_cast<std::uint32_t>(header.ifi_index);
    facts.is_up = (header.ifi_flags & IFF_UP) != 0;
    facts.has_carrier = (header.ifi_flags & IFF_RUNNING) != 0;
    facts.is_loopback = (header.ifi_flags & IFF_LOOPBACK) != 0;
    facts.name = attributes.text(IFLA_IFNAME);
    facts.mtu = attributes.number(IFLA_MTU);
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

bool is_tentative(const nlmsghdr& answer) {
    const unsigned flags = header_of<ifaddrmsg>(answer).ifa_flags;
    return (flags & IFA_F_TENTATIVE) != 0 && (flags & (IFA_F_DADFAILED | IFA_F_OPTIMISTIC)) == 0;
}

std::optional<Neighbour> read_neighbour(const nlmsghdr& answer) {
    const auto header = header_of<ndmsg>(answer);
    const auto address = Attributes(answer, sizeof header).address(NDA_DST);
    if (!address) return std::nullopt;
    return Neighbour{*address, static_cast<std::uint32_t>(header.ndm_ifindex), state_of(header)};
}

}  // namespace udpproxy
