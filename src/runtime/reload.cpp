// Reload: from a file to commands. Everything that can fail is done first, on the side: reading, checking, the arithmetic of room, places, the sockets
// of new listeners. Only then is anything told to a shard, and from there on nothing fails.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "listeners.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

struct Operation::Preparation {
    struct Listener {
        std::uint16_t place = 0;
        Endpoint endpoint;
        ListenerSockets sockets;
        std::string proxy;
    };
    Plan plan;
    Room room;
    std::map<std::string, std::uint16_t> places;  // of every proxy of the new configuration
    std::vector<Listener> opened;
};

namespace {

std::string text_of(const ListenerStep& step) {
    if (!step.from) return fmt::format("listener {}: added to \"{}\"", format(step.endpoint), *step.to);
    if (!step.to) return fmt::format("listener {}: removed from \"{}\"", format(step.endpoint), *step.from);
    return fmt::format("listener {}: from \"{}\" to \"{}\"", format(step.endpoint), *step.from, *step.to);
}

std::vector<std::string> text_of(const Plan& plan) {
    std::vector<std::string> lines;
    for (const ProxyStep& step : plan.proxies) lines.push_back(fmt::format("proxy \"{}\": {}", step.name, text_of(step)));
    for (const ListenerStep& step : plan.listeners) lines.push_back(text_of(step));
    if (plan.limits) lines.emplace_back("limits: changed");
    if (plan.log) lines.emplace_back("log: changed");
    for (const std::string& key : plan.needs_restart) lines.push_back(key + ": needs a restart");
    return lines;
}

}  // namespace

Operation::Reload Operation::reload(Instant now) {
    auto outcome = read_config(roster_.config_file);
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome)) return refuse(complaints->lines);
    Config& wanted = std::get<Config>(outcome);
    Preparation preparation;
    if (std::vector<std::string> reasons = prepare(wanted, preparation); !reasons.empty()) return refuse(std::move(reasons));

    carry_out(wanted, preparation, now);
    keep_what_needs_a_restart(wanted);
    config_ = std::move(wanted);
    publish();
    ++reloads_;
    Reload report{true, text_of(preparation.plan)};
    for (const std::string& line : report.lines) log_.info("reload_change", {{"change", line}});
    for (const std::string& key : preparation.plan.needs_restart)
        log_.warn("needs_restart", {{"key", key}, {"effect", "what was in force stays in force until a restart"}});
    log_.info("reloaded", {{"config", roster_.config_file}, {"changes", report.lines.size()}, {"reloads", reloads_}});
    return report;
}

Operation::Reload Operation::refuse(std::vector<std::string> reasons) {
    ++reload_failures_;
    for (const std::string& reason : reasons) log_.error("reload_failed", {{"reason", reason}});
    log_.error("not_reloaded", {{"config", roster_.config_file}, {"effect", "everything stays as it was"}, {"failures", reload_failures_}});
    return {false, std::move(reasons)};
}

/// The reasons against it; none: it can be carried out.
std::vector<std::string> Operation::prepare(const Config& wanted, Preparation& preparation) {
    preparation.plan = plan_reload(config_, wanted);
    std::vector<ProxySetup> setups;
    for (const ProxyConfig& proxy : wanted.proxies)
        setups.push_back(setup_of(proxy, proxy.upstream.endpoint.value_or(Endpoint{}), ephemeral_ports()));
    const auto shards = static_cast<std::uint32_t>(start_.shards().size());
    preparation.room = reckon_room(wanted, setups, MachineRoom{descriptor_limit(), shards, ephemeral_ports()});
    if (!preparation.room.complaints.empty()) return preparation.room.complaints;
    if (versions_.size() + wanted.proxies.size() > upstream_versions_max)
        return {
            "sessions hold more versions of upstreams than there is room for; wait until some have ended, or use on_change = \"close\""};
    if (std::string reason = find_places(wanted, preparation); !reason.empty()) return {std::move(reason)};
    if (std::string reason = open_new_listeners(wanted, preparation); !reason.empty()) return {std::move(reason)};
    return {};
}

/// The places of the new configuration's proxies: the one it has, the one it had, one that nobody ever had, any vacant one.
std::string Operation::find_places(const Config& wanted, Preparation& preparation) const {
    std::vector<bool> taken(proxies_.size(), false);
    const auto find = [&](auto&& suits) -> std::optional<std::uint16_t> {
        for (std::uint16_t index = 0; index < proxies_.size(); ++index)
            if (!taken[index] && suits(proxies_[index])) return index;
        return std::nullopt;
    };
    const auto take = [&](const std::string& name, const std::optional<std::uint16_t>& place) {
        if (!place) return false;
        taken[*place] = true;
        preparation.places[name] = *place;
        return true;
    };
    std::vector<const ProxyConfig*> left;
    for (const ProxyConfig& proxy : wanted.proxies) {
        const auto has_it = [&](const ProxyPlace& place) {
            return place.config.name == proxy.name && (place.state == PlaceState::serving || place.state == PlaceState::retired);
        };
        const auto had_it = [&](const ProxyPlace& place) { return place.config.name == proxy.name && place.state == PlaceState::vacant; };
        if (!take(proxy.name, find(has_it)) && !take(proxy.name, find(had_it))) left.push_back(&proxy);
    }
    for (const ProxyConfig* proxy : left) {
        if (take(proxy->name, find([](const ProxyPlace& place) { return place.state == PlaceState::vacant && !place.was_ever_taken(); })))
            continue;
        if (take(proxy->name, find([](const ProxyPlace& place) { return place.state == PlaceState::vacant; }))) continue;
        return fmt::format("proxy \"{}\": {} proxies are there, with those that drain, and that is the most; try again when they have gone",
                           proxy->name, proxies_.size());
    }
    std::size_t lanes = 0;
    for (const ProxyConfig& proxy : wanted.proxies) lanes += std::max<std::size_t>(1, proxy.source.size());
    for (const ProxyConfig& proxy : config_.proxies) lanes -= std::min(lanes, std::max<std::size_t>(1, proxy.source.size()));
    if (lanes > 0 && !find_lanes(lanes)) return "more sources than reloads have room for; it needs a restart";
    return {};
}

std::string Operation::open_new_listeners(const Config& wanted, Preparation& preparation) {
    std::uint16_t next = 0;
    for (const ListenerStep& step : preparation.plan.listeners) {
        if (step.from) continue;
        const auto is_there = [&](const ListenerPlace& place) {
            return place.endpoint == step.endpoint && (place.state == PlaceState::serving || place.state == PlaceState::retired);
        };
        if (std::any_of(listeners_.begin(), listeners_.end(), is_there)) continue;  // still draining: it serves again
        while (next < listeners_.size() && listeners_[next].state != PlaceState::vacant) ++next;
        if (next == listeners_.size())
            return fmt::format("listener {}: {} listeners are there, and reloads have no room for more; it needs a restart",
                               format(step.endpoint), listeners_.size());
        const ProxyConfig& proxy = *find_proxy(wanted, *step.to);
        Result<ListenerSockets> opened =
            open_listener(proxy, step.endpoint, static_cast<std::uint32_t>(start_.shards().size()), bind_attempts_at_reload);
        if (!opened) return opened.error().message;
        preparation.opened.push_back({next++, step.endpoint, std::move(*opened), proxy.name});
    }
    const auto descriptors = static_cast<std::uint32_t>(preparation.opened.size() * start_.shards().size());
    if (descriptors > 0 && !start_.use()->descriptors.take(descriptors, start_.room().descriptors_max))
        return "no descriptors left for more listeners; raise LimitNOFILE and restart, or try again when there are fewer sessions";
    return {};
}

void Operation::carry_out(const Config& wanted, Preparation& preparation, Instant now) {
    if (preparation.plan.log) {
        if (Result<void> changed = log_.change(wanted.log_level, wanted.log_format, wanted.log_file); !changed)
            log_.error("log_kept", {{"reason", changed.error().message}});
    }
    if (preparation.plan.limits) set_limits(wanted, preparation.room);
    for (std::size_t i = 0; i < wanted.proxies.size(); ++i) {
        const ProxyConfig& proxy = wanted.proxies[i];
        const std::uint16_t place = preparation.places.at(proxy.name);
        bring_proxy(place, proxy, preparation.room.proxies[i], proxies_[place].state == PlaceState::serving);
    }
    for (std::uint16_t index = 0; index < proxies_.size(); ++index) {
        ProxyPlace& place = proxies_[index];
        if (place.state != PlaceState::serving || find_proxy(wanted, place.config.name) != nullptr) continue;
        names_.forget(index);
        place.state = PlaceState::retired;
        place.deadline = now + drain_timeout_;
    }
    bring_listeners(preparation, now);
}

/// Tells what is different and nothing else: an unchanged proxy is not touched.
void Operation::bring_proxy(std::uint16_t index, const ProxyConfig& wanted, const ProxyRoom& room, bool was_serving) {
    ProxyPlace& place = proxies_[index];
    const bool is_new = place.state == PlaceState::vacant;
    const bool is_fresh = is_new && place.config.name != wanted.name;
    Config before;
    Config after;
    before.proxies.push_back(std::exchange(place.config, wanted));
    after.proxies.push_back(wanted);
    before.proxies[0].name = wanted.name;
    ProxyStep step;
    if (const Plan plan = plan_reload(before, after); !plan.proxies.empty()) step = plan.proxies[0];
    place.state = PlaceState::serving;
    if (is_fresh) place.tallies.clear();
    if (is_new) start_.use()->proxies_held[index] = static_cast<std::uint32_t>(start_.shards().size());

    if (is_new || step.settings) {
        ProxySettings settings = settings_of(wanted);
        settings.sessions_max = room.sessions_max;
        place.settings = settings;
        Command command;
        command.kind = CommandKind::set_settings;
        command.proxy = index;
        command.fresh = is_fresh;
        command.settings = settings;
        tell_all(command);
    }
    const bool close_older = !is_new && wanted.on_change == OnChange::close;
    const Endpoint present = is_new ? Endpoint{} : place.upstream->endpoint();
    if (wanted.upstream.endpoint) {
        names_.forget(index);
        if (is_new || step.upstream || step.aliases)
            set_upstream(index, *wanted.upstream.endpoint, close_older && *wanted.upstream.endpoint != present);
    } else {
        // A new name's address comes later; until then sessions and newcomers have what there was.
        if (is_new || (step.aliases && !step.upstream)) set_upstream(index, present, false);
        ask_for_name(index);
    }
    if (!is_new && step.sources) set_lanes(index);
    if (is_new || !was_serving)
        log_.info("room", {{"proxy", wanted.name}, {"sessions", place.settings.sessions_max}, {"arithmetic", room.arithmetic}});
}

void Operation::ask_for_name(std::uint16_t proxy) {
    const ProxyPlace& place = proxies_[proxy];
    names_.ask(proxy, place.config, place.upstream->is_resolved() ? std::optional<Endpoint>{place.upstream->endpoint()} : std::nullopt);
}

void Operation::bring_listeners(Preparation& preparation, Instant now) {
    for (Preparation::Listener& opened : preparation.opened) {
        ListenerPlace& place = listeners_[opened.place];
        place.state = PlaceState::serving;
        place.endpoint = opened.endpoint;
        place.proxy = preparation.places.at(opened.proxy);
        place.is_late = true;
        const ProxyPlace& proxy = proxies_[place.proxy];
        tell_of_listener(log_, proxy.config, opened.endpoint, udpproxy::text_of(*proxy.upstream, proxy.config), opened.sockets);
        {
            const std::lock_guard lock(roster_.mutex);
            for (const Socket& socket : opened.sockets.sockets)
                roster_.listeners.push_back({place.proxy, format(opened.endpoint), socket.descriptor()});
        }
        start_.use()->listeners_held[opened.place] = static_cast<std::uint32_t>(start_.shards().size());
        for (std::size_t shard = 0; shard < start_.shards().size(); ++shard) {
            const auto arrival = std::make_shared<ListenerArrival>();
            arrival->socket = std::move(opened.sockets.sockets[shard]);
            arrival->endpoint = opened.endpoint;
            brought_.push_back(arrival);
            Command command;
            command.kind = CommandKind::adopt_listener;
            command.listener = opened.place;
            command.proxy = place.proxy;
            command.arrival = arrival;
            start_.shards()[shard]->tell(std::move(command));
        }
    }
    for (const ListenerStep& step : preparation.plan.listeners) {
        for (std::uint16_t index = 0; index < listeners_.size(); ++index) {
            ListenerPlace& place = listeners_[index];
            if (place.endpoint != step.endpoint || (place.state != PlaceState::serving && place.state != PlaceState::retired)) continue;
            Command command;
            command.listener = index;
            if (!step.to) {
                place.state = PlaceState::retired;
                place.deadline = now + drain_timeout_;
                command.kind = CommandKind::retire_listener;
            } else {
                place.state = PlaceState::serving;
                place.proxy = preparation.places.at(*step.to);
                {
                    const std::lock_guard lock(roster_.mutex);
                    for (ListenerWatch& watch : roster_.listeners)
                        if (watch.listen == format(place.endpoint)) watch.proxy = place.proxy;
                }
                command.kind = CommandKind::move_listener;
                command.proxy = place.proxy;
            }
            tell_all(command);
        }
    }
}

void Operation::set_limits(const Config& wanted, const Room& room) {
    Command command;
    command.kind = CommandKind::set_limits;
    // The tables have the size that they were made with.
    command.sessions_max = std::min(room.sessions_max, start_.sessions_max());
    command.newcomers = rate_of(wanted.new_sessions);
    command.pool_min = wanted.pool_min;
    command.report_sessions = wanted.log_sessions;
    tell_all(command);
    if (wanted.sessions_max && *wanted.sessions_max > start_.sessions_max())
        log_.warn("needs_restart", {{"key", "limits.sessions_max"},
                                    {"effect", fmt::format("{} until a restart: the tables have that size", start_.sessions_max())}});
}

/// So that the next reload finds them different again, and says so.
void Operation::keep_what_needs_a_restart(Config& wanted) const {
    wanted.engine = config_.engine;
    wanted.shards = config_.shards;
    wanted.cpu_pinning = config_.cpu_pinning;
    wanted.busy_poll = config_.busy_poll;
    wanted.batch_wait = config_.batch_wait;
    wanted.admin = config_.admin;
    for (ProxyConfig& proxy : wanted.proxies) {
        const ProxyConfig* before = find_proxy(config_, proxy.name);
        if (before == nullptr) continue;
        proxy.receive_buffer_bytes = before->receive_buffer_bytes;
        proxy.send_buffer_bytes = before->send_buffer_bytes;
    }
}

}  // namespace udpproxy
