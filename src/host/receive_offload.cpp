// Two ioctls of ethtool. Netlink would tell the same, since Linux 5.6 only.
#include "udpproxy/host/receive_offload.hpp"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <string_view>

#include "udpproxy/net/socket.hpp"

namespace udpproxy {

namespace {

/// The request must begin with its command, and gets the answer.
template <class Request>
bool ask_ethtool(const Socket& socket, const std::string& interface, Request& request) {
    ifreq wrapped{};
    if (interface.size() >= sizeof wrapped.ifr_name) return false;
    std::memcpy(wrapped.ifr_name, interface.data(), interface.size());
    wrapped.ifr_data = reinterpret_cast<char*>(&request);
    return ::ioctl(socket.descriptor(), SIOCETHTOOL, &wrapped) == 0;
}

}  // namespace

std::optional<bool> read_receive_offload(const std::string& interface) {
    const Socket socket{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (!socket) return std::nullopt;
    ethtool_drvinfo driver{};
    driver.cmd = ETHTOOL_GDRVINFO;
    if (!ask_ethtool(socket, interface, driver)) return std::nullopt;
    // The kernel fills in the bus of an interface with a parent device; drivers of interfaces
    // without one leave it empty, or write "N/A".
    const std::string_view bus{driver.bus_info, ::strnlen(driver.bus_info, sizeof driver.bus_info)};
    if (bus.empty() || bus == "N/A") return std::nullopt;
    ethtool_value offload{};
    offload.cmd = ETHTOOL_GGRO;
    if (!ask_ethtool(socket, interface, offload)) return std::nullopt;
    return offload.data != 0;
}

}  // namespace udpproxy
