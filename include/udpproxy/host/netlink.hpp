// Netlink by way of libmnl: one question to the kernel and its answers. What the messages mean is
// routes.cpp's (rtnetlink) and packet_filter_reader.cpp's (nfnetlink).
#pragma once

#include <functional>

#include "udpproxy/base/result.hpp"

struct nlmsghdr;

namespace udpproxy {

/// Sends the request and passes each answer on: all of a dump, or the one answer to a question.
/// `protocol` as NETLINK_ROUTE. Waits for each datagram of answers a second at most. Errors:
/// `netlink: operation: cause` with the kernel's errno.
[[nodiscard]] Result<void> ask_netlink(int protocol, nlmsghdr& request,
                                       const std::function<void(const nlmsghdr&)>& each);

}  // namespace udpproxy
