// What can be said of a running proxy from the outside.
#include "udpproxy/runtime/status.hpp"

#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <array>

namespace udpproxy {

QueueState queue_state(const ListenerWatch& listener) {
    std::array<std::uint32_t, SK_MEMINFO_VARS> memory{};
    socklen_t length = sizeof memory;
    // Linux 4.12; SK_MEMINFO_DROPS since 4.19. Where it is missing nothing was lost that could be
    // told.
    if (::getsockopt(listener.descriptor, SOL_SOCKET, SO_MEMINFO, memory.data(), &length) != 0)
        return {};
    return {memory[SK_MEMINFO_DROPS], memory[SK_MEMINFO_RMEM_ALLOC]};
}

std::string aliases_with(const ProxyConfig& proxy, const Endpoint& source) {
    std::string line = "reply_aliases = [";
    for (const Alias& alias : proxy.reply_aliases) line += '"' + alias.text + "\", ";
    return line + '"' + format(source) + "\"]";
}

}  // namespace udpproxy
