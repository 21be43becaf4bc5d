// Obedience: what the control thread asks for, done between turns. Nothing here allocates or frees: what a command brings was made by the control
// thread, which also keeps it until the last shard has let go of it. What concerns groups and sessions that are there is left to refit.cpp.
#include <algorithm>

#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

namespace {

void set_upstream(Shard& shard, Command& command) {
    Proxy& proxy = shard.proxies[command.proxy];
    for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane) {
        shard.groups.set_upstream(lane, command.upstream.get());
        shard.lanes[lane].checked = false;  // another way may lead there
    }
    if (command.close_older) proxy.closes_below = command.upstream->version();
    proxy.setup.upstream = std::move(command.upstream);
}

void set_settings(Shard& shard, const Command& command) {
    Proxy& proxy = shard.proxies[command.proxy];
    if (command.fresh) {
        shard.counters_of(command.proxy).reset();
        proxy.draining = false;
    }
    static_cast<ProxySettings&>(proxy.setup) = command.settings;
    for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane)
        shard.groups.set_rest(lane, proxy.setup.port_rest);
    shard.table.set_timeouts(command.proxy, {proxy.setup.idle_timeout, proxy.setup.unassured_timeout});
}

/// Sessions keep their ports; groups that rest in the old lanes close, and newcomers are bound in the new ones.
void retire_lanes(Shard& shard, Proxy& proxy) {
    for (PoolLane lane = proxy.first_lane; lane < proxy.first_lane + proxy.lanes; ++lane) {
        shard.lanes[lane].retired = true;
        shard.groups.outdate(lane);
        ++shard.leaving;
    }
    proxy.lanes = 0;
}

void set_lanes(Shard& shard, const Command& command) {
    LaneChange& change = *command.lanes;
    for (LaneChange::Pool& brought : change.pools) {
        if (brought.index == shard.ports.size()) {
            UDPPROXY_ASSERT(shard.ports.size() < shard.ports.capacity());
            shard.ports.push_back(std::move(brought.pool));
        } else {
            brought.pool.take_over(shard.ports[brought.index]);
            std::swap(brought.pool, shard.ports[brought.index]);
        }
    }
    Proxy& proxy = shard.proxies[command.proxy];
    retire_lanes(shard, proxy);
    UDPPROXY_ASSERT(change.first + change.lanes.size() <= shard.lanes.capacity());
    if (shard.lanes.size() < change.first + change.lanes.size()) shard.lanes.resize(change.first + change.lanes.size());
    proxy.first_lane = change.first;
    proxy.lanes = static_cast<PoolLane>(change.lanes.size());
    proxy.next_lane = 0;
    for (PoolLane i = 0; i < proxy.lanes; ++i) {
        SourceLane& lane = shard.lanes[change.first + i];
        lane = SourceLane{};
        lane.proxy = command.proxy;
        lane.wanted = change.lanes[i].source;
        lane.port_pool = change.lanes[i].port_pool;
        lane.port_range = change.lanes[i].port_range;
        if (!lane.wanted.is_unspecified()) shard.pool_sources[lane.port_pool] = lane.wanted;
        shard.groups.use_lane(change.first + i, proxy.setup.port_rest, proxy.setup.upstream.get());
    }
}

void adopt_listener(Shard& shard, Sockets& sockets, const Command& command) {
    Listener& listener = shard.listeners[command.listener];
    UDPPROXY_ASSERT(!listener.open);
    shard.setup.listeners[command.listener] = ListenerSetup{command.proxy, command.arrival->endpoint};
    const int error = sockets.adopt(Slot{command.listener}, command.arrival->socket, command.arrival->endpoint.family(),
                                    shard.proxies[command.proxy].setup.offload);
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
    retire_lanes(shard, proxy);
    ++shard.leaving;
}

void set_draining(Shard& shard, std::uint16_t proxy, bool draining) {
    (proxy == all_proxies ? shard.draining : shard.proxies[proxy].draining) = draining;
}

}  // namespace

void obey(Shard& shard, Sockets& sockets, Command& command, Instant now) {
    switch (command.kind) {
        case CommandKind::stop:
            shard.stopping = true;
            return;
        case CommandKind::drain:
        case CommandKind::resume:
            set_draining(shard, command.proxy, command.kind == CommandKind::drain);
            shard.filling = true;
            return;
        case CommandKind::set_limits:
            shard.setup.sessions_max = command.sessions_max;
            shard.setup.newcomers = command.newcomers;
            shard.setup.pool_min = command.pool_min;
            shard.filling = true;
            shard.setup.report_sessions = command.report_sessions;
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
        case CommandKind::set_upstream:
            set_upstream(shard, command);
            break;
        case CommandKind::set_settings:
            set_settings(shard, command);
            break;
        case CommandKind::set_lanes:
            set_lanes(shard, command);
            break;
        case CommandKind::close_listener:
            close_listener(shard, command.listener);
            break;
        case CommandKind::close_proxy:
            close_proxy(shard, shard.proxies[command.proxy]);
            break;
    }
    // From the first group on, whatever was under way.
    shard.refit_at = now;
    shard.filling = true;
    shard.refit_next = 0;
}

}  // namespace udpproxy
