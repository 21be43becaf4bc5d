// What goes on while the program runs: names that get addresses, what drains, and what shards have given back.
#include "udpproxy/runtime/reconfigurer.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace udpproxy {

namespace {

/// The numbers of the proxy's aliases, in their order. A new alias gets one that nobody has had, or when there is none left, one whose alias has gone.
std::vector<std::uint8_t> number_aliases(ProxyPlace& place) {
    std::vector<AliasTally> present;
    std::vector<bool> taken(reply_sources_max, false);
    taken[0] = true;  // the upstream's own
    const auto is_of = [](const Alias& alias) {
        return [&alias](const AliasTally& tally) {
            return tally.prefix == alias.prefix && tally.scope == alias.scope && tally.port == alias.port;
        };
    };
    for (const Alias& alias : place.config.reply_aliases) {
        const auto known = std::find_if(place.tallies.begin(), place.tallies.end(), is_of(alias));
        present.push_back({alias.prefix, alias.scope, alias.port, known == place.tallies.end() ? std::uint8_t{0} : known->number});
        taken[present.back().number] = true;
    }
    std::vector<bool> remembered = taken;
    for (const AliasTally& tally : place.tallies) remembered[tally.number] = true;
    std::vector<std::uint8_t> numbers;
    for (AliasTally& tally : present) {
        if (tally.number == 0) {
            auto free = std::find(remembered.begin(), remembered.end(), false);
            if (free == remembered.end()) free = remembered.begin() + (std::find(taken.begin(), taken.end(), false) - taken.begin());
            tally.number = static_cast<std::uint8_t>(free - remembered.begin());
            remembered[tally.number] = taken[tally.number] = true;
            std::erase_if(place.tallies, [&](const AliasTally& each) { return each.number == tally.number; });
            place.tallies.push_back(tally);
        }
        numbers.push_back(tally.number);
    }
    return numbers;
}

}  // namespace

Operation::Operation(Config config, Duration drain_timeout, Start& start, Names& names, Roster& roster, Log& log)
    : config_(std::move(config)),
      drain_timeout_(drain_timeout),
      start_(start),
      names_(names),
      roster_(roster),
      log_(log),
      proxies_(config_proxies_max),
      listeners_(start.listeners_max()) {
    const auto shards = static_cast<std::uint32_t>(start.shards().size());
    SharedUse& use = *start.use();
    for (std::size_t i = 0; i < start.proxies().size(); ++i) {
        ProxyPlace& place = proxies_[i];
        place.state = PlaceState::serving;
        place.config = config_.proxies[i];
        place.settings = start.proxies()[i];
        place.upstream = start.proxies()[i].upstream;
        place.versions = 1;
        (void)number_aliases(place);
        versions_.push_back(place.upstream);
        use.proxies_held[i] = shards;
    }
    for (std::size_t i = 0; i < start.listeners().size(); ++i) {
        listeners_[i].state = PlaceState::serving;
        listeners_[i].endpoint = start.listeners()[i].endpoint;
        listeners_[i].proxy = start.listeners()[i].proxy;
        use.listeners_held[i] = shards;
    }
    PoolLane next = 0;
    for (const LanePlace& lane : places_of_lanes(start.proxies())) {
        ProxyPlace& place = proxies_[lane.proxy];
        place.lanes.push_back(lane);
        if (lane.port_pool >= pools_.size()) pools_.resize(lane.port_pool + 1);
        pools_[lane.port_pool].address = lane.pool_address;
        pools_[lane.port_pool].ranges.push_back(lane.ports);
        use.lanes_held[next++] = shards;
    }
    publish();
}

/// What others may see: every place that was ever taken, whoever is there now.
void Operation::publish() {
    const std::lock_guard lock(roster_.mutex);
    std::size_t count = 0;
    for (std::size_t index = 0; index < proxies_.size(); ++index)
        if (proxies_[index].was_ever_taken()) count = index + 1;
    std::vector<ProxyConfig> configs(count);
    roster_.proxies.resize(count);
    roster_.draining.resize(count);
    for (std::size_t index = 0; index < count; ++index) {
        const ProxyPlace& place = proxies_[index];
        configs[index] = place.config;
        ProxySetup& setup = roster_.proxies[index];
        static_cast<ProxySettings&>(setup) = place.settings;
        setup.name = place.config.name;
        roster_.draining[index] = place.draining || drain_deadline_ || place.state != PlaceState::serving;
        setup.upstream = place.upstream ? place.upstream : upstream_of(place.config, Endpoint{}, 1);
        setup.sources = place.config.source;
        setup.ports = place.lanes.empty() ? PortRange{} : place.lanes.front().ports;
    }
    shown_ = config_;
    shown_.proxies = std::move(configs);
    roster_.config = &shown_;
    roster_.listener_endpoints.clear();
    for (const ListenerPlace& place : listeners_) roster_.listener_endpoints.push_back(place.endpoint);
    roster_.ready = is_ready();
}

/// Before the shards close a listener's sockets: their numbers may be somebody else's then.
void Operation::unwatch(const Endpoint& endpoint) {
    const std::lock_guard lock(roster_.mutex);
    std::erase_if(roster_.listeners, [text = format(endpoint)](const ListenerWatch& watch) { return watch.listen == text; });
}

void Operation::look(Instant now) {
    for (const Names::Found& found : names_.look(config_, now)) {
        const ProxyPlace& place = proxies_[found.proxy];
        const bool is_new = !place.upstream->is_resolved();
        if (place.upstream->endpoint() != found.endpoint)
            set_upstream(found.proxy, found.endpoint, !is_new && place.config.on_change == OnChange::close);
        publish();
    }
    close_retired(now);
    for (const auto& shard : start_.shards()) shard->post_waiting();
    free_vacated();
}

bool Operation::drain(const std::optional<std::string>& proxy, Instant now) {
    if (!proxy) {
        if (drain_deadline_) return true;
        drain_deadline_ = now + drain_timeout_;
        publish();
        tell_of_proxy(CommandKind::drain, all_proxies);
        log_.info("draining", {{"sessions", start_.use()->sessions.read()},
                               {"seconds_at_most", std::chrono::duration<double>(drain_timeout_).count()}});
        return true;
    }
    const std::optional<std::uint16_t> index = serving(*proxy);
    if (!index) return false;
    proxies_[*index].draining = true;
    publish();
    tell_of_proxy(CommandKind::drain, *index);
    log_.info("draining", {{"proxy", *proxy}, {"sessions", start_.use()->proxies[*index].sessions.read()}});
    return true;
}

std::uint64_t Operation::sessions(const std::string& proxy) const {
    if (proxy.empty()) return start_.use()->sessions.read();
    const std::optional<std::uint16_t> index = serving(proxy);
    return index ? start_.use()->proxies[*index].sessions.read() : 0;
}

bool Operation::resume(const std::string& proxy) {
    const std::optional<std::uint16_t> index = serving(proxy);
    if (!index) return false;
    proxies_[*index].draining = false;
    publish();
    tell_of_proxy(CommandKind::resume, *index);
    log_.info("resumed", {{"proxy", proxy}});
    return true;
}

bool Operation::has_drained(Instant now) const {
    return drain_deadline_ && (now >= *drain_deadline_ || start_.use()->sessions.read() == 0);
}

void Operation::tell_all(const Command& command) {
    for (const auto& shard : start_.shards()) shard->tell(command);
}

void Operation::tell_of_proxy(CommandKind kind, std::uint16_t proxy) {
    Command command;
    command.kind = kind;
    command.proxy = proxy;
    tell_all(command);
}

/// A new version: the place's configuration with this endpoint.
void Operation::set_upstream(std::uint16_t proxy, const Endpoint& endpoint, bool close_older) {
    ProxyPlace& place = proxies_[proxy];
    place.upstream = upstream_of(place.config, endpoint, ++place.versions, number_aliases(place));
    versions_.push_back(place.upstream);
    Command command;
    command.kind = CommandKind::set_upstream;
    command.proxy = proxy;
    command.close_older = close_older;
    command.upstream = place.upstream;
    tell_all(command);
    set_lanes(proxy);
}

bool Operation::has_listeners(std::uint16_t proxy) const {
    return std::any_of(listeners_.begin(), listeners_.end(),
                       [&](const ListenerPlace& place) { return place.state != PlaceState::vacant && place.proxy == proxy; });
}

std::optional<std::uint16_t> Operation::serving(const std::string& name) const {
    for (std::uint16_t index = 0; index < proxies_.size(); ++index) {
        if (proxies_[index].state == PlaceState::serving && proxies_[index].config.name == name) return index;
    }
    return std::nullopt;
}

/// All shards close a listener at once: one that went earlier would move the others' clients to sockets that do not know them.
void Operation::close_retired(Instant now) {
    const SharedUse& use = *start_.use();
    for (std::uint16_t index = 0; index < listeners_.size(); ++index) {
        ListenerPlace& place = listeners_[index];
        if (place.state != PlaceState::retired || (use.listener_sessions[index].read() > 0 && now < place.deadline)) continue;
        place.state = PlaceState::closing;
        unwatch(place.endpoint);
        Command command;
        command.kind = CommandKind::close_listener;
        command.listener = index;
        tell_all(command);
    }
    for (std::uint16_t index = 0; index < proxies_.size(); ++index) {
        ProxyPlace& place = proxies_[index];
        if (place.state != PlaceState::retired || has_listeners(index)) continue;
        if (use.proxies[index].sessions.read() > 0 && now < place.deadline) continue;
        place.state = PlaceState::closing;
        tell_of_proxy(CommandKind::close_proxy, index);
    }
}

void Operation::free_vacated() {
    SharedUse& use = *start_.use();
    for (std::size_t index = 0; index < listeners_.size(); ++index) {
        ListenerPlace& place = listeners_[index];
        if (place.state != PlaceState::closing || use.listeners_held[index].load(std::memory_order_acquire) > 0) continue;
        if (place.is_late) use.descriptors.give(static_cast<std::uint32_t>(start_.shards().size()));
        log_.info("listener_closed", {{"proxy", proxies_[place.proxy].config.name}, {"listen", format(place.endpoint)}});
        place = ListenerPlace{};
    }
    for (std::size_t index = 0; index < proxies_.size(); ++index) {
        ProxyPlace& place = proxies_[index];
        if (place.state != PlaceState::closing || use.proxies_held[index].load(std::memory_order_acquire) > 0) continue;
        log_.info("proxy_gone", {{"proxy", place.config.name}});
        place.state = PlaceState::vacant;
        place.draining = false;
        place.upstream.reset();
        place.lanes.clear();
        publish();
    }
    // One holder is the list here: nobody else can come by another.
    const auto is_let_go = [](const auto& held) { return held.use_count() == 1; };
    std::erase_if(versions_, is_let_go);
    std::erase_if(brought_, is_let_go);
}

}  // namespace udpproxy
