// Retries a bind to a busy address, and words the log lines about listeners.
#include "listeners.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "udpproxy/host/procfs.hpp"
#include "udpproxy/host/routes.hpp"

namespace udpproxy {

namespace {

constexpr Duration bind_again_after = std::chrono::milliseconds{50};

std::string name_of(const ProxyConfig& proxy, const Endpoint& endpoint) {
    return fmt::format("listener \"{}\" {}", proxy.name, format(endpoint));
}

}  // namespace

Result<ListenerSockets> open_listener(const ProxyConfig& proxy, const Endpoint& endpoint,
                                      std::uint32_t shards, int attempts, bool shares_port,
                                      std::vector<Socket>* handed) {
    const Address any = Address::any(endpoint.family());
    const ListenerRequest request{endpoint,
                                  proxy.receive_buffer_bytes,
                                  proxy.send_buffer_bytes,
                                  proxy.path_mtu,
                                  proxy.offload == Offload::automatic && trains_supported(),
                                  shares_port};
    Result<ListenerSockets> opened = open_listeners(request, shards, handed);
    for (int attempt = 1; !opened && opened.error().code == EADDRINUSE && attempt < attempts;
         ++attempt) {
        std::this_thread::sleep_for(bind_again_after);
        opened = open_listeners(request, shards, handed);
    }
    if (opened) {
        // An address of a whole block that is local is no interface's own (ip route add local …).
        opened->address_absent =
            opened->address_absent &&
            !RouteTable{}.route({endpoint.address, endpoint.scope, 0}, any).is_local;
        return opened;
    }
    std::string reason = name_of(proxy, endpoint) + ": " + opened.error().message;
    if (const int code = opened.error().code; code == EADDRINUSE)
        if (const auto holder = find_holder(endpoint, Transport::udp))
            reason += " (held by " + holder->shown + ')';
    return Error{reason, opened.error().code};
}

std::string mismatch_of(const ProxyConfig& proxy, const Endpoint& endpoint, std::uint32_t shards,
                        const std::vector<const HandedSocket*>& handed) {
    const auto tell = [&](const std::string& what) {
        return fmt::format("{}: {}", name_of(proxy, endpoint), what);
    };
    // The service manager keeps its copy of each: one that nobody reads would keep its clients.
    if (handed.size() > shards)
        return tell(
            fmt::format("{} sockets are handed over, and the shards are {}: one "
                        "ListenDatagram= of the socket unit for each shard, or more "
                        "runtime.shards",
                        handed.size(), shards));
    for (const HandedSocket* each : handed) {
        if (each->takes_mapped && endpoint.address.is_unspecified())
            return tell(each->shown +
                        " takes IPv4 clients as well: BindIPv6Only=ipv6-only in the socket unit");
        if (shards > 1 && !each->shares_port)
            return tell(
                fmt::format("{} has no SO_REUSEPORT, and {} shards need a socket each: "
                            "ReusePort=yes in the socket unit, or runtime.shards = 1",
                            each->shown, shards));
        // So the kernel has it (net/ipv4/udp.c, udp_lib_lport_inuse).
        if (handed.size() < shards && each->user != ::geteuid())
            return tell(
                fmt::format("{} was made by user {}, who alone may open more for {} "
                            "shards: one ListenDatagram= of the socket unit for each "
                            "shard, or fewer runtime.shards",
                            each->shown, each->user, shards));
    }
    return {};
}

bool may_go_without(const ProxyConfig& proxy, const Endpoint& endpoint, const Error& error) {
    return error.code == EAFNOSUPPORT && endpoint.family() == Family::ipv6 &&
           std::any_of(proxy.listen.begin(), proxy.listen.end(), [&](const ListenAddress& listen) {
               return listen.endpoint == endpoint && listen.is_of_every_family();
           });
}

void log_left_out(Log& log, const ProxyConfig& proxy, const Endpoint& endpoint,
                  const Error& error) {
    log.warn("no_ipv6", {{"proxy", proxy.name},
                         {"listen", format(endpoint)},
                         {"reason", error.message},
                         {"effect", "only IPv4 clients are served"}});
}

std::vector<int> descriptors_of(const ListenerSockets& opened) {
    std::vector<int> descriptors;
    for (const Socket& socket : opened.sockets) descriptors.push_back(socket.descriptor());
    return descriptors;
}

std::shared_ptr<ListenerArrival> arrival_watched_by(std::shared_ptr<ListenerQueues> queues) {
    const auto end = [queues = std::move(queues)](ListenerArrival* arrival) {
        if (arrival->socket) queues->withdraw(arrival->socket.descriptor());
        delete arrival;
    };
    return {new ListenerArrival, end};
}

void log_listener(Log& log, const ProxyConfig& proxy, const Endpoint& endpoint,
                  const std::string& upstream, const ListenerSockets& opened) {
    log.info("listening", {{"proxy", proxy.name},
                           {"listen", format(endpoint)},
                           {"upstream", upstream},
                           {"receive_buffer", opened.receive_buffer_bytes},
                           {"send_buffer", opened.send_buffer_bytes}});
    if (opened.address_absent)
        log.warn("address_absent", {{"proxy", proxy.name},
                                    {"listen", format(endpoint)},
                                    {"effect", "not on this host yet; serves as soon as it is"}});
}

void log_absent_interfaces(Log& log, const Config& config) {
    const auto tell = [&](const ProxyConfig& proxy, const char* key, const std::string& text,
                          const std::string& interface) {
        log.warn("interface_absent", {{"proxy", proxy.name},
                                      {"key", key},
                                      {"address", text},
                                      {"interface", interface},
                                      {"effect", "used as soon as there is such an interface"}});
    };
    for (const ProxyConfig& proxy : config.proxies) {
        for (const ListenAddress& listen : proxy.listen)
            if (listen.is_absent()) tell(proxy, "listen", listen.text, listen.interface);
        const UpstreamAddress& upstream = proxy.upstream;
        if (upstream.endpoint && is_absent_interface(upstream.endpoint->scope))
            tell(proxy, "upstream", upstream.text, upstream.interface);
        for (const Alias& alias : proxy.reply_aliases)
            if (is_absent_interface(alias.scope))
                tell(proxy, "reply_aliases", alias.text, alias.interface);
    }
}

}  // namespace udpproxy
