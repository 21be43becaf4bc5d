// Converts a Caddyfile of this host: reads the file, and looks up what it names.
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "udpproxy/base/file.hpp"
#include "udpproxy/config/caddyfile.hpp"

namespace udpproxy {

namespace {

std::optional<std::string> variable_of_process(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>{value} : std::nullopt;
}

std::optional<std::uint16_t> port_of_service(const std::string& name) {
    const servent* found = ::getservbyname(name.c_str(), "udp");
    return found != nullptr ? std::optional{ntohs(static_cast<std::uint16_t>(found->s_port))}
                            : std::nullopt;
}

/// Each address once, in the resolver's order.
std::vector<Address> addresses_of_name(const std::string& name) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(name.c_str(), nullptr, &hints, &found) != 0) return {};
    std::vector<Address> addresses;
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
        SocketName socket_name{};
        std::memcpy(&socket_name, each->ai_addr,
                    std::min<std::size_t>(each->ai_addrlen, sizeof socket_name));
        const Address address = read_socket_name(socket_name).address;
        if (std::find(addresses.begin(), addresses.end(), address) == addresses.end())
            addresses.push_back(address);
    }
    ::freeaddrinfo(found);
    return addresses;
}

}  // namespace

std::variant<std::string, ConfigComplaints> migrate_caddyfile(const std::string& path) {
    const Result<std::string> text =
        read_file(path, caddyfile_bytes_max, config_read_limit_at_start);
    if (!text)
        return ConfigComplaints{
            {fmt::format("{}: cannot be read: {}", path, text.error().message)}};
    return migrate_caddyfile(*text, path, variable_of_process, port_of_service, addresses_of_name);
}

}  // namespace udpproxy
