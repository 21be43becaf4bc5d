// Applies the commands of the control thread between turns. Nothing here allocates or frees: the
// control thread makes what a command carries, and keeps it until the last shard has released it.
// Existing groups and sessions are left to reconcile.cpp.
#include <algorithm>

#include "steps.hpp"

namespace udpproxy {

namespace {

/// What a rate follows from has changed. Every shard does this once it has the new rate, so the
/// last one leaves no debt of the old rate.
void fit_buckets(Shard& shard, std::uint16_t proxy, Instant now) {
    SharedUse::ProxyUse& use = shard.setup.use->proxies[proxy];
    use.new_sessions.fit(now, shard.proxies[proxy].setup.new_sessions);
    use.evictions.fit(now, eviction_rate(shard, proxy));
}

void set_upstream(Shard& shard, Command& command) {
    Proxy& proxy = shard.proxies[command.proxy];
    for (BindingIndex binding = proxy.first_binding; binding < proxy.first_binding + proxy.bindings;
         ++binding) {
        shard.groups.set_upstream(binding, command.upstream.get());
        // The new upstream may be routed from another address.
        shard.bindings[binding].checked = false;
    }
    proxy.closes_below = std::max(proxy.closes_below, command.closes_below);
    proxy.setup.upstream = std::move(command.upstream);
}

void set_settings(Shard& shard, const Command& command, Instant now) {
    Proxy& proxy = shard.proxies[command.proxy];
    if (command.fresh) {
        shard.counters_of(command.proxy).reset();
        shard.setup.use->proxies[command.proxy].new_sessions.fill();
        shard.setup.use->proxies[command.proxy].evictions.fill();
        proxy.draining = false;
    }
    static_cast<ProxySettings&>(proxy.setup) = command.settings;
    for (BindingIndex binding = proxy.first_binding; binding < proxy.first_binding + proxy.bindings;
         ++binding)
        shard.groups.set_cooldown(binding, proxy.setup.port_cooldown);
    shard.table.set_timeouts(command.proxy,
                             {proxy.setup.idle_timeout, proxy.setup.unassured_timeout});
    fit_buckets(shard, command.proxy, now);
}

/// Sessions keep their ports. Cooling groups of the old source bindings close, and new clients get
/// groups of the new ones.
void retire_bindings(Shard& shard, Proxy& proxy) {
    for (BindingIndex binding = proxy.first_binding; binding < proxy.first_binding + proxy.bindings;
         ++binding) {
        shard.bindings[binding].retired = true;
        shard.groups.outdate(binding);
        ++shard.leaving;
    }
    proxy.bindings = 0;
}

void set_source_bindings(Shard& shard, const Command& command, Instant now) {
    SourceBindingChange& change = *command.bindings;
    for (SourceBindingChange::Pool& brought : change.pools) {
        if (brought.index == shard.ports.size()) {
            UDPPROXY_ASSERT(shard.ports.size() < shard.ports.capacity());
            shard.ports.push_back(std::move(brought.pool));
            shard.pool_sources.set(brought.index, Address{});
        } else {
            if (brought.is_fresh)
                shard.pool_sources.set(brought.index, Address{});
            else
                brought.pool.take_over(shard.ports[brought.index]);
            std::swap(brought.pool, shard.ports[brought.index]);
        }
    }
    Proxy& proxy = shard.proxies[command.proxy];
    retire_bindings(shard, proxy);
    UDPPROXY_ASSERT(change.first + change.bindings.size() <= shard.bindings.capacity());
    if (shard.bindings.size() < change.first + change.bindings.size())
        shard.bindings.resize(change.first + change.bindings.size());
    proxy.first_binding = change.first;
    proxy.bindings = static_cast<BindingIndex>(change.bindings.size());
    proxy.next_binding = 0;
    for (BindingIndex i = 0; i < proxy.bindings; ++i) {
        SourceBinding& binding = shard.bindings[change.first + i];
        binding = SourceBinding{};
        binding.proxy = command.proxy;
        binding.wanted = change.bindings[i].source;
        binding.port_pool = change.bindings[i].port_pool;
        binding.port_range = change.bindings[i].port_range;
        if (!binding.wanted.is_unspecified())
            shard.pool_sources.set(binding.port_pool, binding.wanted);
        shard.groups.use_binding(change.first + i, proxy.setup.port_cooldown,
                                 proxy.setup.upstream.get());
    }
    fit_buckets(shard, command.proxy, now);
}

void adopt_listener(Shard& shard, Sockets& sockets, const Command& command) {
    if (command.listener >= shard.listeners.size()) {
        UDPPROXY_ASSERT(command.listener < shard.listeners.capacity());
        shard.listeners.resize(command.listener + std::size_t{1});
        shard.setup.listeners.resize(shard.listeners.size());
    }
    Listener& listener = shard.listeners[command.listener];
    UDPPROXY_ASSERT(!listener.open);
    listener = Listener{};  // clears marks of commands to a listener that the engine refused
    shard.setup.listeners[command.listener] =
        ListenerSetup{command.proxy, command.arrival->endpoint};
    ListenerSocket arrived{std::move(command.arrival->socket), command.arrival->endpoint.family(),
                           shard.proxies[command.proxy].setup.offload};
    const int error = sockets.adopt(Slot{command.listener}, arrived);
    command.arrival->socket = std::move(arrived.socket);
    if (error == 0) {
        listener.open = true;
        ++shard.listeners_open;
        return;
    }
    Event event;
    event.kind = EventKind::listener_refused;
    event.proxy = command.proxy;
    event.listener = command.listener;
    event.error = error;
    shard.report(event);
    shard.setup.use->listeners_held[command.listener].fetch_sub(1, std::memory_order_release);
}

void close_listener(Shard& shard, std::uint16_t index) {
    Listener& listener = shard.listeners[index];
    if (!listener.open || std::exchange(listener.closing, true)) return;
    listener.retired = true;
    ++shard.leaving;
}

void close_proxy(Shard& shard, Proxy& proxy) {
    if (std::exchange(proxy.closing, true)) return;
    proxy.draining = true;
    retire_bindings(shard, proxy);
    ++shard.leaving;
}

void set_draining(Shard& shard, std::uint16_t proxy, bool draining) {
    (proxy == all_proxies ? shard.draining : shard.proxies[proxy].draining) = draining;
}

}  // namespace

void apply_command(Shard& shard, Sockets& sockets, Command& command, Instant now) {
    switch (command.kind) {
        case CommandKind::hand_over:
            shard.handing_over = true;
            return;
        case CommandKind::stop:
            shard.stopping = true;
            return;
        case CommandKind::drain:
        case CommandKind::resume:
            set_draining(shard, command.proxy, command.kind == CommandKind::drain);
            shard.prewarming = true;
            return;
        case CommandKind::set_limits:
            shard.setup.sessions_max = command.sessions_max;
            shard.setup.descriptors_max = command.descriptors_max;
            shard.setup.new_sessions = command.new_sessions;
            shard.setup.use->new_sessions.fit(now, command.new_sessions);
            shard.setup.pool_min = command.pool_min;
            shard.prewarming = true;
            shard.setup.report_sessions = command.report_sessions;
            return;
        case CommandKind::set_known_endpoints:
            shard.known_endpoints = std::move(command.known_endpoints);
            return;
        case CommandKind::adopt_listener:
            adopt_listener(shard, sockets, command);
            return;
        case CommandKind::move_listener:
            shard.setup.listeners[command.listener].proxy = command.proxy;
            shard.listeners[command.listener].retired = false;
            return;
        case CommandKind::retire_listener:
            shard.listeners[command.listener].retired = true;
            return;
        case CommandKind::look_at_sources:
            begin_source_pass(shard, now);
            shard.prewarming = true;
            return;
        case CommandKind::set_upstream:
            set_upstream(shard, command);
            break;
        case CommandKind::set_settings:
            set_settings(shard, command, now);
            break;
        case CommandKind::set_source_bindings:
            set_source_bindings(shard, command, now);
            break;
        case CommandKind::close_listener:
            close_listener(shard, command.listener);
            break;
        case CommandKind::close_proxy:
            close_proxy(shard, shard.proxies[command.proxy]);
            break;
    }
    // The pass starts again at the first group, even if one was under way.
    shard.reconcile_at = now;
    shard.prewarming = true;
    shard.reconcile_next = 0;
}

}  // namespace udpproxy
