// Netlink through libmnl: one question to the kernel and its answers. routes.cpp (rtnetlink) and
// packet_filter_reader.cpp (nfnetlink) know the meaning of the messages.
#pragma once

#include <functional>

#include "udpproxy/base/result.hpp"

struct nlmsghdr;

namespace udpproxy {

/// Sends the request and passes on each answer: all of a dump, or the only answer to a question.
/// `protocol` as NETLINK_ROUTE. Waits at most a second for each datagram of answers. Errors:
/// `netlink: operation: cause` with the kernel's errno.
[[nodiscard]] Result<void> ask_netlink(int protocol, nlmsghdr& request,
                                       const std::function<void(const nlmsghdr&)>& each);

}  // namespace udpproxy
