// Decides when announcements become a report: debounced, bounded, and not while duplicate address
// detection is under way. What an announcement says is deliberately not read.
#include "udpproxy/host/network_watch.hpp"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "udpproxy/host/routes.hpp"

namespace udpproxy {

namespace {

// More than the queue holds; what comes meanwhile is for the next call.
constexpr int announcements_max = 4096;

constexpr std::uint32_t group_bit(int group) { return 1U << static_cast<unsigned>(group - 1); }

constexpr std::uint32_t watched_groups =
    group_bit(RTNLGRP_LINK) | group_bit(RTNLGRP_IPV4_IFADDR) | group_bit(RTNLGRP_IPV4_ROUTE) |
    group_bit(RTNLGRP_IPV4_RULE) | group_bit(RTNLGRP_IPV6_IFADDR) | group_bit(RTNLGRP_IPV6_ROUTE) |
    group_bit(RTNLGRP_IPV6_RULE);

}  // namespace

Result<void> NetworkWatch::open() {
    Socket opened{::socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE)};
    if (!opened) return system_error("netlink: socket", errno);
    sockaddr_nl name{};
    name.nl_family = AF_NETLINK;
    name.nl_groups = watched_groups;
    if (::bind(opened.descriptor(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
        return system_error("netlink: bind", errno);
    socket_ = std::move(opened);
    return {};
}

bool NetworkWatch::has_changed(Instant now) {
    if (now - reported_at_ < network_report_every) return false;
    if (!socket_) {
        if (now - reported_at_ < network_look_every) return false;
        reported_at_ = now;
        return true;
    }
    if ((was_announced() || std::exchange(unseen_, false)) && !announced_at_) announced_at_ = now;
    if (!announced_at_ || now - *announced_at_ < network_settles_in) return false;
    // The end of the detection is announced as well; until then another address may stand in.
    if (now - *announced_at_ < tentative_wait_max && RouteTable{}.has_tentative_address())
        return false;
    announced_at_.reset();
    reported_at_ = now;
    return true;
}

/// Empties the queue. Under a storm of changes it overflows (ENOBUFS), which is an announcement
/// like any other, and the kernel stops queueing until this is called again.
bool NetworkWatch::was_announced() {
    bool any = false;
    char first_byte = 0;
    for (int i = 0; i < announcements_max; ++i) {
        const ssize_t length = ::recv(socket_.descriptor(), &first_byte, 1, MSG_DONTWAIT);
        if (length < 0 && errno != ENOBUFS) break;
        any = true;
    }
    return any;
}

}  // namespace udpproxy
