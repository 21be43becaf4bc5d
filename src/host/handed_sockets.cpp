// Looks at each descriptor that the environment names: which socket it is, and whether a listener
// can be made of it.
#include "udpproxy/host/handed_sockets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include "udpproxy/base/environment.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

constexpr int first_descriptor = 3;  // SD_LISTEN_FDS_START

std::optional<int> option_of(int descriptor, int level, int option) {
    int value = 0;
    socklen_t length = sizeof value;
    return ::getsockopt(descriptor, level, option, &value, &length) == 0 ? std::optional{value}
                                                                         : std::nullopt;
}

/// Fills in what the socket is. Returns why no listener can be made of it; empty: it can.
std::string examine(HandedSocket& handed) {
    const int descriptor = handed.socket.descriptor();
    const auto domain = option_of(descriptor, SOL_SOCKET, SO_DOMAIN);
    if (!domain) return "is no socket";
    if (option_of(descriptor, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM ||
        option_of(descriptor, SOL_SOCKET, SO_PROTOCOL) != IPPROTO_UDP ||
        (*domain != AF_INET && *domain != AF_INET6))
        return "is no UDP socket (ListenDatagram= with an address and a port makes one)";
    SocketName name{};
    socklen_t length = sizeof name;
    struct stat file {};
    if (::getsockname(descriptor, &name.any, &length) != 0 || ::fstat(descriptor, &file) != 0)
        return error_text(errno);
    handed.endpoint = read_socket_name(name);
    if (handed.endpoint.port == 0) return "is bound to no port";
    if (*domain == AF_INET6 && handed.endpoint.family() == Family::ipv4)
        return fmt::format("is a socket of IPv6 for the IPv4 address {}", format(handed.endpoint));
    handed.shares_port = option_of(descriptor, SOL_SOCKET, SO_REUSEPORT).value_or(0) != 0;
    handed.takes_mapped =
        *domain == AF_INET6 && option_of(descriptor, IPPROTO_IPV6, IPV6_V6ONLY).value_or(0) == 0;
    handed.user = file.st_uid;
    return {};
}

/// The first of the names that colons part; the others stay.
std::string next_name(std::string& names) {
    const std::size_t colon = names.find(':');
    std::string name = names.substr(0, colon);
    names = colon == std::string::npos ? "" : names.substr(colon + 1);
    return name;
}

}  // namespace

HandedSockets take_handed_sockets(pid_t process, std::span<const int> others,
                                  std::string_view stored_name) {
    HandedSockets handed;
    const std::string receiver = take_variable("LISTEN_PID");
    const std::string count = take_variable("LISTEN_FDS");
    std::string names = take_variable("LISTEN_FDNAMES");
    if (receiver != std::to_string(process)) return handed;
    int sockets = 0;
    const auto [rest, error] = std::from_chars(count.data(), count.data() + count.size(), sockets);
    if (error != std::errc{} || rest != count.data() + count.size() || sockets < 0) {
        handed.refused.push_back({"LISTEN_FDS=" + printable(count), "is no number"});
        return handed;
    }
    for (int descriptor = first_descriptor; descriptor - first_descriptor < sockets; ++descriptor) {
        const std::string name = next_name(names);
        if (name == stored_name) {
            handed.stored.push_back(descriptor);
            continue;
        }
        HandedSocket each;
        each.shown = name.empty() ? fmt::format("descriptor {}", descriptor)
                                  : fmt::format("descriptor {} ({})", descriptor, printable(name));
        const bool is_own = std::find(others.begin(), others.end(), descriptor) != others.end();
        const int flags = is_own ? -1 : ::fcntl(descriptor, F_GETFL);
        if (flags < 0) {
            handed.refused.push_back(
                {each.shown, fmt::format("is not open, though LISTEN_FDS is {}", sockets)});
            break;
        }
        each.socket = Socket{descriptor};
        std::string reason = examine(each);
        // As the sockets that this program opens itself are.
        if (reason.empty() && (::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0 ||
                               ::fcntl(descriptor, F_SETFD, 0) != 0))
            reason = error_text(errno);
        if (reason.empty())
            handed.sockets.push_back(std::move(each));
        else
            handed.refused.push_back({each.shown, std::move(reason)});
    }
    return handed;
}

}  // namespace udpproxy
