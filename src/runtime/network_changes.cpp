// What follows when routes, addresses or links have changed: the sources of sessions are looked at,
// and link-local addresses move to the interface that has their name now.
#include <fmt/format.h>

#include <algorithm>

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
    const InterfaceNews news = find_interfaces(wanted);
    interfaces_again_at_ = now + interfaces_again_after;
    if (news.has_changed) {
        const auto preparation = std::make_shared<Preparation>();
        preparation->is_reload = false;
        std::vector<std::string> reasons = prepare(wanted, *preparation);
        if (!reasons.empty()) return log_interface_failures(std::move(reasons));
        bring_about(std::move(wanted), preparation, now);
    }
    interface_failures_.clear();
    if (news.is_complete) interfaces_again_at_.reset();
}

/// One line for a reason, however often it is tried in vain.
void Reconfigurer::log_interface_failures(std::vector<std::string> reasons) {
    for (const std::string& reason : reasons) {
        if (std::find(interface_failures_.begin(), interface_failures_.end(), reason) ==
            interface_failures_.end())
            log_.error("interface_change_failed",
                       {{"reason", reason}, {"effect", "tried again every 10 s"}});
    }
    interface_failures_ = std::move(reasons);
}

}  // namespace udpproxy
