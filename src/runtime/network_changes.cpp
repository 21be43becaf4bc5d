// What follows when routes, addresses or links have changed: the sources of sessions are looked at,
// and link-local addresses move to the interface that has their name now.
#include <fmt/format.h>

#include "change.hpp"

namespace udpproxy {

namespace {

constexpr Duration interfaces_again_after = std::chrono::seconds{10};

}  // namespace

void Reconfigurer::watch_network() {
    const Result<void> watched = network_.open();
    if (watched) return;
    log_.warn("network_unwatched",
              {{"reason", watched.error().message},
               {"effect", fmt::format("changes of routes and addresses are looked for every {} s",
                                      network_look_every / std::chrono::seconds{1})}});
}

void Reconfigurer::follow_network(Instant now) {
    // A change is noted first: where memory is short, the next look goes on from the note.
    if (network_.has_changed(now)) {
        interfaces_again_at_ = now;
        sources_unseen_ = true;
    }
    if (interfaces_again_at_ && now >= *interfaces_again_at_) follow_interfaces(now);
    if (!sources_unseen_) return;
    send_about_proxy(CommandKind::look_at_sources, all_proxies);
    sources_unseen_ = false;
}

/// A link-local address is configured with an interface's name, and sockets are bound to its index.
/// When the name gets another index, or none, the configuration in force is brought about anew with
/// the indices of now, as a reload would.
void Reconfigurer::follow_interfaces(Instant now) {
    if (unlogged_) return;  // the lines of the last reload come first
    Config wanted = state_.config;
    if (!find_interfaces(wanted)) return interfaces_again_at_.reset();
    interfaces_again_at_ = now + interfaces_again_after;
    const auto preparation = std::make_shared<Preparation>();
    preparation->is_reload = false;
    if (const std::vector<std::string> reasons = prepare(wanted, *preparation); !reasons.empty()) {
        for (const std::string& reason : reasons)
            log_.error("interface_change_failed",
                       {{"reason", reason}, {"effect", "tried again in 10 s"}});
        return;
    }
    bring_about(std::move(wanted), preparation, now);
    interfaces_again_at_.reset();
}

}  // namespace udpproxy
