// What follows when routes, addresses or links have changed.
#include <fmt/format.h>

#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

void Reconfigurer::watch_network() {
    const Result<void> watched = network_.open();
    if (watched) return;
    log_.warn("network_unwatched",
              {{"reason", watched.error().message},
               {"effect", fmt::format("changes of routes and addresses are looked for every {} s",
                                      network_look_every / std::chrono::seconds{1})}});
}

void Reconfigurer::follow_network(Instant now) {
    if (network_.has_changed(now)) send_about_proxy(CommandKind::look_at_sources, all_proxies);
}

}  // namespace udpproxy
