// Calls getaddrinfo(3), and returns its answers as endpoints without repetitions.
#include "udpproxy/host/resolve.hpp"

#include <netdb.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "udpproxy/net/socket.hpp"

namespace udpproxy {

Result<std::vector<Endpoint>> resolve(const std::string& host, std::uint16_t port,
                                      std::optional<Family> family) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_family = !family ? AF_UNSPEC : *family == Family::ipv4 ? AF_INET : AF_INET6;
    addrinfo* found = nullptr;
    const int failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
    if (failure != 0)
        return Error{failure == EAI_SYSTEM ? error_text(errno) : ::gai_strerror(failure)};
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
    std::vector<Endpoint> endpoints;
    for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
        SocketName name{};
        std::memcpy(&name, entry->ai_addr, std::min<std::size_t>(entry->ai_addrlen, sizeof name));
        Endpoint endpoint = read_socket_name(name);
        endpoint.port = port;
        if (std::find(endpoints.begin(), endpoints.end(), endpoint) == endpoints.end())
            endpoints.push_back(endpoint);
    }
    return endpoints;
}

}  // namespace udpproxy
