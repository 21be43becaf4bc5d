// Asks the kernel what a descriptor is (getsockname(2), getpeername(2), SO_PROTOCOL of socket(7)).
#include "udpproxy/net/found_socket.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

namespace udpproxy {

namespace {

std::optional<Endpoint> name_of(int descriptor, decltype(::getsockname)* ask) {
    SocketName name{};
    socklen_t length = sizeof name;
    if (ask(descriptor, &name.any, &length) != 0 || length > sizeof name ||
        (name.any.sa_family != AF_INET && name.any.sa_family != AF_INET6))
        return std::nullopt;
    return read_socket_name(name);
}

}  // namespace

std::optional<Endpoint> bound_to(int descriptor) {
    const std::optional<Endpoint> local = name_of(descriptor, ::getsockname);
    int protocol = 0;
    socklen_t length = sizeof protocol;
    if (!local || local->port == 0 ||
        ::getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) != 0 ||
        protocol != IPPROTO_UDP)
        return std::nullopt;
    return local;
}

bool is_between(int descriptor, const Endpoint& local, const std::optional<Endpoint>& peer) {
    return name_of(descriptor, ::getsockname) == local &&
           name_of(descriptor, ::getpeername) == peer;
}

}  // namespace udpproxy
