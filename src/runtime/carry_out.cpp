// Turns a prepared reload into the new state and into commands in the outbox. Nothing is refused
// here. If memory runs out, the surrounding Change undoes the work so far.
#include <algorithm>
#include <utility>

#include "change.hpp"
#include "listeners.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

void Reconfigurer::carry_out(const Config& wanted, Preparation& preparation, Instant now) {
    state_.sources = std::move(preparation.sources);
    const Capacity before = std::exchange(state_.capacity, preparation.capacity);
    if (preparation.plan.limits || before.sessions_max != state_.capacity.sessions_max ||
        before.descriptors_max != state_.capacity.descriptors_max)
        set_limits(wanted);
    for (std::size_t i = 0; i < wanted.proxies.size(); ++i) {
        const ProxyConfig& proxy = wanted.proxies[i];
        const std::uint16_t slot = preparation.slots.at(proxy.name);
        bring_proxy(slot, proxy, preparation.capacity.proxies[i], preparation);
    }
    for (std::uint16_t index = 0; index < state_.proxies.size(); ++index) {
        ProxySlot& slot = state_.proxies[index];
        if (slot.state != SlotState::serving || find_proxy(wanted, slot.config.name) != nullptr)
            continue;
        names_.forget(index);
        slot.state = SlotState::retired;
        slot.deadline = now + drain_timeout_;
    }
    bring_listeners(wanted, preparation, now);
    set_known_endpoints();
}

/// Sends only what is different: an unchanged proxy gets no command.
void Reconfigurer::bring_proxy(std::uint16_t index, const ProxyConfig& wanted,
                               const ProxyCapacity& capacity, Preparation& preparation) {
    ProxySlot& slot = state_.proxies[index];
    const ProxyStep& step = preparation.steps.at(index);
    const bool was_serving = slot.state == SlotState::serving;
    const bool is_new = slot.state == SlotState::vacant;
    const bool is_fresh =
        is_new && (std::exchange(slot.superseded, false) || slot.config.name != wanted.name);
    slot.config = wanted;
    slot.state = SlotState::serving;
    if (is_fresh) slot.alias_counters.clear();
    // A name is shown once: an earlier slot of this name that is still closing is hidden.
    for (ProxySlot& other : state_.proxies)
        if (other.state == SlotState::closing && other.config.name == wanted.name)
            other.superseded = true;
    if (is_new) state_.newly_held.push_back(&bootstrap_.use()->proxies_held[index]);

    if (is_new || step.settings || slot.settings.sessions_max != capacity.sessions_max) {
        ProxySettings settings = settings_of(wanted);
        settings.sessions_max = capacity.sessions_max;
        slot.settings = settings;
        Command command;
        command.kind = CommandKind::set_settings;
        command.proxy = index;
        command.fresh = is_fresh;
        command.settings = settings;
        send_to_all(command);
    }
    const Endpoint present = is_new ? Endpoint{} : slot.upstream->endpoint();
    const bool close_older =
        !is_new && (wanted.on_change == OnChange::close || is_lost_interface(present.scope));
    if (wanted.upstream.endpoint) {
        names_.forget(index);
        if (is_new || step.upstream || step.aliases)
            set_upstream(index, *wanted.upstream.endpoint,
                         close_older && *wanted.upstream.endpoint != present);
    } else {
        // The address of a new name comes later. Until then sessions and new clients keep the
        // present upstream.
        if (is_new || (step.aliases && !step.upstream)) set_upstream(index, present, false);
        ask_for_name(index);
    }
    if (const auto grant = preparation.grants.find(index); grant != preparation.grants.end())
        bring_bindings(index, std::move(grant->second));
    if (!was_serving)
        preparation.added.push_back({wanted.name, slot.settings.sessions_max, capacity.arithmetic});
}

void Reconfigurer::ask_for_name(std::uint16_t proxy) {
    const ProxySlot& slot = state_.proxies[proxy];
    names_.ask(proxy, slot.config,
               slot.upstream->is_resolved() ? std::optional<Endpoint>{slot.upstream->endpoint()}
                                            : std::nullopt);
}

void Reconfigurer::bring_listeners(const Config& wanted, Preparation& preparation, Instant now) {
    for (Preparation::Listener& opened : preparation.opened) {
        if (state_.listeners.size() <= opened.slot)
            state_.listeners.resize(opened.slot + std::size_t{1});
        ListenerSlot& slot = state_.listeners[opened.slot];
        slot.state = SlotState::serving;
        slot.endpoint = opened.endpoint;
        slot.proxy = preparation.slots.at(opened.proxy);
        state_.newly_held.push_back(&bootstrap_.use()->listeners_held[opened.slot]);
        bring_listener(opened.slot, opened.sockets);
    }
    for (std::uint16_t index = 0; index < state_.listeners.size(); ++index) {
        ListenerSlot& slot = state_.listeners[index];
        if (slot.state != SlotState::serving && slot.state != SlotState::retired) continue;
        const ProxyConfig* const owner = owner_of(wanted, slot.endpoint);
        Command command;
        command.listener = index;
        if (owner == nullptr) {
            if (slot.state == SlotState::retired) continue;
            slot.state = SlotState::retired;
            // No datagram reaches anybody through an interface that is gone.
            slot.deadline = is_lost_interface(slot.endpoint.scope) ? now : now + drain_timeout_;
            command.kind = CommandKind::retire_listener;
        } else {
            const std::uint16_t proxy = preparation.slots.at(owner->name);
            if (slot.state == SlotState::serving && slot.proxy == proxy) continue;
            slot.state = SlotState::serving;
            slot.proxy = proxy;
            command.kind = CommandKind::move_listener;
            command.proxy = proxy;
        }
        send_to_all(command);
    }
}

/// Each shard gets its socket.
void Reconfigurer::bring_listener(std::uint16_t number, ListenerSockets& opened) {
    ListenerSlot& slot = state_.listeners[number];
    slot.descriptors = descriptors_of(opened);
    slot.queues = std::make_shared<ListenerQueues>(slot.descriptors);
    for (std::size_t shard = 0; shard < bootstrap_.shards().size(); ++shard) {
        const auto arrival = arrival_watched_by(slot.queues);
        arrival->socket = std::move(opened.sockets[shard]);
        arrival->endpoint = slot.endpoint;
        state_.brought.push_back(arrival);
        Command command;
        command.kind = CommandKind::adopt_listener;
        command.listener = number;
        command.proxy = slot.proxy;
        command.arrival = arrival;
        state_.outbox[shard].push_back(std::move(command));
    }
}

/// Tells the shards which endpoints they listen on and send to, ahead of the commands that bring
/// these into use.
void Reconfigurer::set_known_endpoints() {
    std::vector<Endpoint> listeners;
    for (const ListenerSlot& slot : state_.listeners)
        if (slot.state != SlotState::vacant) listeners.push_back(slot.endpoint);
    std::vector<std::shared_ptr<const Upstream>> upstreams;
    for (const UpstreamVersion& each : state_.versions) upstreams.push_back(each.upstream);
    const auto known = std::make_shared<const KnownEndpoints>(listeners, upstreams);
    if (*known == *state_.known_endpoints) return;
    state_.brought.push_back(known);
    Command command;
    command.kind = CommandKind::set_known_endpoints;
    command.known_endpoints = known;
    std::list<Command> copies(state_.outbox.size(), command);
    for (std::list<Command>& commands : state_.outbox)
        commands.splice(commands.begin(), copies, copies.begin());
    state_.known_endpoints = known;
}

/// The proxy that a listener is for: the one with its endpoint; else, for a listener at one
/// address, the one on every address; else, for a listener on every address, the one at an address
/// without a listener of its own. Null: none, and it goes.
const ProxyConfig* Reconfigurer::owner_of(const Config& wanted, const Endpoint& endpoint) const {
    const ProxyConfig* owner = nullptr;
    for (const ProxyConfig& proxy : wanted.proxies) {
        for (const ListenAddress& listen : proxy.listen) {
            if (listen.endpoint == endpoint) return &proxy;
            if (!overlap(listen.endpoint, endpoint)) continue;
            if (listen.endpoint.address.is_unspecified() ||
                covering_listener(listen.endpoint) != nullptr)
                owner = &proxy;
        }
    }
    return owner;
}

}  // namespace udpproxy
