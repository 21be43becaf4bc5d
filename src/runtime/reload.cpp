// Reload: from a file to commands. Everything that can fail is done first, on the side: reading,
// checking, the arithmetic of capacity, slots, the sockets of new listeners. Only then is anything
// told to a shard, and from there on nothing fails.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <new>

#include "listeners.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

struct Reconfigurer::Preparation {
    struct Listener {
        std::uint16_t slot = 0;
        Endpoint endpoint;
        ListenerSockets sockets;
        std::string proxy;
    };
    Plan plan;
    Capacity capacity;
    std::map<std::string, std::uint16_t> slots;  // of every proxy of the new configuration
    std::map<std::uint16_t, ProxyStep> steps;    // by slot: what becomes different for it
    Sources sources;                             // as they will be
    std::map<std::uint16_t, BindingGrant> grants;
    std::vector<Listener> opened;
};

namespace {

std::string text_of(const ListenerStep& step) {
    if (!step.from)
        return fmt::format("listener {}: added to \"{}\"", format(step.endpoint), *step.to);
    if (!step.to)
        return fmt::format("listener {}: removed from \"{}\"", format(step.endpoint), *step.from);
    return fmt::format("listener {}: from \"{}\" to \"{}\"", format(step.endpoint), *step.from,
                       *step.to);
}

std::vector<std::string> text_of(const Plan& plan) {
    std::vector<std::string> lines;
    for (const ProxyStep& step : plan.proxies)
        lines.push_back(fmt::format("proxy \"{}\": {}", step.name, text_of(step)));
    for (const ListenerStep& step : plan.listeners) lines.push_back(text_of(step));
    if (plan.limits) lines.emplace_back("limits: changed");
    if (plan.log) lines.emplace_back("log: changed");
    for (const std::string& key : plan.needs_restart) lines.push_back(key + ": needs a restart");
    return lines;
}

}  // namespace

Reconfigurer::Reload Reconfigurer::reload(Instant now) {
    try {
        return attempt_reload(now);
    } catch (const std::bad_alloc&) {
        return reject({"out of memory"});
    }
}

Reconfigurer::Reload Reconfigurer::attempt_reload(Instant now) {
    auto outcome = read_config(config_file_);
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome))
        return reject(complaints->lines);
    Config& wanted = std::get<Config>(outcome);
    Preparation preparation;
    if (std::vector<std::string> reasons = prepare(wanted, preparation); !reasons.empty())
        return reject(std::move(reasons));

    carry_out(wanted, preparation, now);
    wait_until_taken();
    keep_what_needs_a_restart(wanted);
    config_ = std::move(wanted);
    ++reloads_;
    publish();
    Reload report{true, text_of(preparation.plan)};
    for (const std::string& line : report.lines) log_.info("reload_change", {{"change", line}});
    for (const std::string& key : preparation.plan.needs_restart)
        log_.warn("needs_restart",
                  {{"key", key}, {"effect", "what was in force stays in force until a restart"}});
    log_.info("reloaded",
              {{"config", config_file_}, {"changes", report.lines.size()}, {"reloads", reloads_}});
    return report;
}

Reconfigurer::Reload Reconfigurer::reject(std::vector<std::string> reasons) {
    ++reload_failures_;
    publish();
    for (const std::string& reason : reasons) log_.error("reload_failed", {{"reason", reason}});
    log_.error("not_reloaded", {{"config", config_file_},
                                {"effect", "everything stays as it was"},
                                {"failures", reload_failures_}});
    return {false, std::move(reasons)};
}

/// The reasons against it; none: it can be carried out.
std::vector<std::string> Reconfigurer::prepare(const Config& wanted, Preparation& preparation) {
    preparation.plan = plan_reload(config_, wanted);
    // The tables have the size that they were made with.
    MachineLimits machine = bootstrap_.machine();
    machine.descriptors = std::min(machine.descriptors, descriptor_limit());
    machine.ephemeral = ephemeral_ports();
    preparation.capacity = compute_capacity(wanted, machine);
    if (!preparation.capacity.complaints.empty()) return preparation.capacity.complaints;
    if (std::string reason = find_slots(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    if (std::string reason = plan_proxies(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    if (std::string reason = open_new_listeners(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    return {};
}

/// The places of the new configuration's proxies: the one it has, the one it had, one that nobody
/// ever had, any vacant one.
std::string Reconfigurer::find_slots(const Config& wanted, Preparation& preparation) const {
    std::vector<bool> taken(proxies_.size(), false);
    const auto find = [&](auto&& suits) -> std::optional<std::uint16_t> {
        for (std::uint16_t index = 0; index < proxies_.size(); ++index)
            if (!taken[index] && suits(proxies_[index])) return index;
        return std::nullopt;
    };
    const auto take = [&](const std::string& name, const std::optional<std::uint16_t>& slot) {
        if (!slot) return false;
        taken[*slot] = true;
        preparation.slots[name] = *slot;
        return true;
    };
    std::vector<const ProxyConfig*> left;
    for (const ProxyConfig& proxy : wanted.proxies) {
        const auto has_it = [&](const ProxySlot& slot) {
            return slot.config.name == proxy.name &&
                   (slot.state == SlotState::serving || slot.state == SlotState::retired);
        };
        const auto had_it = [&](const ProxySlot& slot) {
            return slot.config.name == proxy.name && slot.state == SlotState::vacant &&
                   !slot.superseded;
        };
        if (!take(proxy.name, find(has_it)) && !take(proxy.name, find(had_it)))
            left.push_back(&proxy);
    }
    for (const ProxyConfig* proxy : left) {
        if (take(proxy->name, find([](const ProxySlot& slot) {
                     return slot.state == SlotState::vacant && !slot.was_ever_used();
                 })))
            continue;
        if (take(proxy->name,
                 find([](const ProxySlot& slot) { return slot.state == SlotState::vacant; })))
            continue;
        return fmt::format(
            "proxy \"{}\": {} proxies are there, with those that drain, and that is the most; try "
            "again when they have gone",
            proxy->name, proxies_.size());
    }
    return {};
}

/// What becomes different for each proxy, the source bindings for it, and how many versions of
/// upstreams that makes.
std::string Reconfigurer::plan_proxies(const Config& wanted, Preparation& preparation) const {
    preparation.sources = sources_;
    note_held(preparation.sources);
    std::size_t versions = versions_.size();
    for (const ProxyConfig& proxy : wanted.proxies) {
        const std::uint16_t index = preparation.slots.at(proxy.name);
        const ProxySlot& slot = proxies_[index];
        const bool is_new = slot.state == SlotState::vacant;
        ProxyStep& step = preparation.steps[index];
        if (is_new)
            step = ProxyStep{ProxyStep::Kind::added, proxy.name, true, true, true, true};
        else
            step = step_between(slot.config, proxy);
        // A new name's address comes later; until then sessions and new clients have what there
        // was.
        const bool has_address = proxy.upstream.endpoint.has_value();
        const bool makes_version =
            is_new || (step.aliases && !step.upstream) || (step.upstream && has_address);
        versions += (makes_version ? 1 : 0) + (has_address ? 0 : 1);
        if (!makes_version && !step.sources) continue;
        const Endpoint present = is_new ? Endpoint{} : slot.upstream->endpoint();
        std::vector<BindingLocation> bindings =
            bindings_wanted(index, proxy, proxy.upstream.endpoint.value_or(present));
        if (!is_new && same_bindings(bindings, slot.bindings)) continue;
        BindingGrant grant;
        if (const std::string reason =
                grant_bindings(preparation.sources, std::move(bindings), grant);
            !reason.empty())
            return fmt::format("proxy \"{}\": source: {}", proxy.name, reason);
        preparation.grants[index] = std::move(grant);
    }
    if (versions > upstream_versions_max)
        return fmt::format(
            "sessions hold {} versions of upstreams, this would make it {}, and there is room for "
            "{}; try again when some have ended, or use on_change = \"close\"",
            versions_.size(), versions, upstream_versions_max);
    return {};
}

std::string Reconfigurer::open_new_listeners(const Config& wanted, Preparation& preparation) {
    std::uint16_t next = 0;
    for (const ListenerStep& step : preparation.plan.listeners) {
        if (step.from) continue;
        const auto is_there = [&](const ListenerSlot& slot) {
            return slot.endpoint == step.endpoint &&
                   (slot.state == SlotState::serving || slot.state == SlotState::retired);
        };
        if (std::any_of(listeners_.begin(), listeners_.end(), is_there))
            continue;  // still draining: it serves again
        while (next < listeners_.size() && listeners_[next].state != SlotState::vacant) ++next;
        if (next == bootstrap_.tables().listeners)
            return fmt::format(
                "listener {}: {} listeners are there, with those that drain, and that is the most; "
                "try again when they have gone",
                format(step.endpoint), next);
        const ProxyConfig& proxy = *find_proxy(wanted, *step.to);
        Result<ListenerSockets> opened = open_listener(
            proxy, step.endpoint, static_cast<std::uint32_t>(bootstrap_.shards().size()),
            bind_attempts_at_reload);
        if (!opened && (opened.error().code == EMFILE || opened.error().code == ENFILE))
            return opened.error().message +
                   "; try again when there are fewer sessions, or raise LimitNOFILE and restart";
        if (!opened) return opened.error().message;
        preparation.opened.push_back({next++, step.endpoint, std::move(*opened), proxy.name});
    }
    return {};
}

void Reconfigurer::carry_out(const Config& wanted, Preparation& preparation, Instant now) {
    if (preparation.plan.log) {
        if (Result<void> changed =
                log_.change(wanted.log_level, wanted.log_format, wanted.log_file);
            !changed)
            log_.error("log_kept", {{"reason", changed.error().message}});
    }
    sources_ = std::move(preparation.sources);
    const Capacity before = std::exchange(capacity_, preparation.capacity);
    if (preparation.plan.limits || before.sessions_max != capacity_.sessions_max ||
        before.descriptors_max != capacity_.descriptors_max)
        set_limits(wanted);
    for (std::size_t i = 0; i < wanted.proxies.size(); ++i) {
        const ProxyConfig& proxy = wanted.proxies[i];
        const std::uint16_t slot = preparation.slots.at(proxy.name);
        bring_proxy(slot, proxy, preparation.capacity.proxies[i], preparation);
    }
    for (std::uint16_t index = 0; index < proxies_.size(); ++index) {
        ProxySlot& slot = proxies_[index];
        if (slot.state != SlotState::serving || find_proxy(wanted, slot.config.name) != nullptr)
            continue;
        names_.forget(index);
        slot.state = SlotState::retired;
        slot.deadline = now + drain_timeout_;
    }
    bring_listeners(preparation, now);
}

/// Tells what is different and nothing else: an unchanged proxy is not touched.
void Reconfigurer::bring_proxy(std::uint16_t index, const ProxyConfig& wanted,
                               const ProxyCapacity& capacity, Preparation& preparation) {
    ProxySlot& slot = proxies_[index];
    const ProxyStep& step = preparation.steps.at(index);
    const bool was_serving = slot.state == SlotState::serving;
    const bool is_new = slot.state == SlotState::vacant;
    const bool is_fresh =
        is_new && (std::exchange(slot.superseded, false) || slot.config.name != wanted.name);
    slot.config = wanted;
    slot.state = SlotState::serving;
    if (is_fresh) slot.alias_counters.clear();
    // The name has one place: an earlier one that is still closing is shown no more.
    for (ProxySlot& other : proxies_)
        if (other.state == SlotState::closing && other.config.name == wanted.name)
            other.superseded = true;
    if (is_new)
        bootstrap_.use()->proxies_held[index] =
            static_cast<std::uint32_t>(bootstrap_.shards().size());

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
    const bool close_older = !is_new && wanted.on_change == OnChange::close;
    const Endpoint present = is_new ? Endpoint{} : slot.upstream->endpoint();
    if (wanted.upstream.endpoint) {
        names_.forget(index);
        if (is_new || step.upstream || step.aliases)
            set_upstream(index, *wanted.upstream.endpoint,
                         close_older && *wanted.upstream.endpoint != present);
    } else {
        // A new name's address comes later; until then sessions and new clients have what there
        // was.
        if (is_new || (step.aliases && !step.upstream)) set_upstream(index, present, false);
        ask_for_name(index);
    }
    if (const auto grant = preparation.grants.find(index); grant != preparation.grants.end())
        bring_bindings(index, std::move(grant->second));
    if (is_new || !was_serving)
        log_.info("capacity", {{"proxy", wanted.name},
                               {"sessions", slot.settings.sessions_max},
                               {"limit", capacity.arithmetic}});
}

void Reconfigurer::ask_for_name(std::uint16_t proxy) {
    const ProxySlot& slot = proxies_[proxy];
    names_.ask(proxy, slot.config,
               slot.upstream->is_resolved() ? std::optional<Endpoint>{slot.upstream->endpoint()}
                                            : std::nullopt);
}

void Reconfigurer::bring_listeners(Preparation& preparation, Instant now) {
    for (Preparation::Listener& opened : preparation.opened) {
        if (listeners_.size() <= opened.slot) listeners_.resize(opened.slot + std::size_t{1});
        ListenerSlot& slot = listeners_[opened.slot];
        slot.state = SlotState::serving;
        slot.endpoint = opened.endpoint;
        slot.proxy = preparation.slots.at(opened.proxy);
        const ProxySlot& proxy = proxies_[slot.proxy];
        log_listener(log_, proxy.config, opened.endpoint,
                     udpproxy::text_of(*proxy.upstream, proxy.config), opened.sockets);
        slot.queues = std::make_shared<ListenerQueues>(descriptors_of(opened.sockets));
        bootstrap_.use()->listeners_held[opened.slot] =
            static_cast<std::uint32_t>(bootstrap_.shards().size());
        for (std::size_t shard = 0; shard < bootstrap_.shards().size(); ++shard) {
            const auto arrival = arrival_watched_by(slot.queues);
            arrival->socket = std::move(opened.sockets.sockets[shard]);
            arrival->endpoint = opened.endpoint;
            brought_.push_back(arrival);
            Command command;
            command.kind = CommandKind::adopt_listener;
            command.listener = opened.slot;
            command.proxy = slot.proxy;
            command.arrival = arrival;
            bootstrap_.shards()[shard]->send(std::move(command));
        }
    }
    for (const ListenerStep& step : preparation.plan.listeners) {
        for (std::uint16_t index = 0; index < listeners_.size(); ++index) {
            ListenerSlot& slot = listeners_[index];
            if (slot.endpoint != step.endpoint ||
                (slot.state != SlotState::serving && slot.state != SlotState::retired))
                continue;
            Command command;
            command.listener = index;
            if (!step.to) {
                slot.state = SlotState::retired;
                slot.deadline = now + drain_timeout_;
                command.kind = CommandKind::retire_listener;
            } else {
                slot.state = SlotState::serving;
                slot.proxy = preparation.slots.at(*step.to);
                command.kind = CommandKind::move_listener;
                command.proxy = slot.proxy;
            }
            send_to_all(command);
        }
    }
}

/// So that the next reload finds them different again, and says so.
void Reconfigurer::keep_what_needs_a_restart(Config& wanted) const {
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
