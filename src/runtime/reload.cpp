// Carries out a reload from file to commands, all of it or nothing. First comes everything that may
// be refused, without touching the state: reading, checking, capacity, slots, the sockets of new
// listeners. Then carry_out.cpp changes the state and fills the outbox; an exception there undoes
// the change. The commit sends the commands and cannot fail. The log lines come last.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <new>
#include <system_error>

#include "change.hpp"
#include "listeners.hpp"
#include "udpproxy/config/one_proxy.hpp"
#include "udpproxy/host/limits.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

std::string text_of(const ListenerStep& step) {
    if (!step.from)
        return fmt::format("listener {}: added to \"{}\"", format(step.endpoint), *step.to);
    if (!step.to)
        return fmt::format("listener {}: removed from \"{}\"", format(step.endpoint), *step.from);
    return fmt::format("listener {}: from \"{}\" to \"{}\"", format(step.endpoint), *step.from,
                       *step.to);
}

/// A step whose keys are told needs no line of its own; an interface that comes or goes changes no
/// key.
bool is_told_by_keys(const Plan& plan, const ProxyStep& step) {
    return step.kind == ProxyStep::Kind::changed &&
           std::any_of(plan.keys.begin(), plan.keys.end(),
                       [&](const KeyChange& change) { return change.proxy == step.name; });
}

/// At most `key_changes_told_max` lines about keys, then one that counts the others.
std::vector<std::string> text_of(const Plan& plan) {
    std::vector<std::string> lines;
    for (const ProxyStep& step : plan.proxies)
        if (!is_told_by_keys(plan, step))
            lines.push_back(fmt::format("proxy \"{}\": {}", step.name, text_of(step)));
    for (const ListenerStep& step : plan.listeners) lines.push_back(text_of(step));
    const std::size_t told = std::min(plan.keys.size(), key_changes_told_max);
    for (std::size_t i = 0; i < told; ++i) lines.push_back(text_of(plan.keys[i]));
    if (told < plan.keys.size())
        lines.push_back(fmt::format("{} more keys changed", plan.keys.size() - told));
    for (const std::string& listener : plan.listeners_kept)
        lines.push_back(listener + ": needs a restart");
    return lines;
}

}  // namespace

Reconfigurer::Reload Reconfigurer::reload(Instant now) {
    reload_begins();
    const auto attempt = [&] {
        try {
            return attempt_reload(now);
        } catch (const std::bad_alloc&) {
            return reject({"out of memory"});
        } catch (const std::system_error& failure) {
            return reject({failure.what()});
        }
    };
    Reload report = attempt();
    reload_ends(report);
    return report;
}

Reconfigurer::Reload Reconfigurer::attempt_reload(Instant now) {
    // A reload whose lines had no memory yet speaks before the next one.
    if (unlogged_) log_reload();
    if (unlogged_) return reject({"out of memory"});
    if (config_file_.empty())
        return reject(
            {"there is no file: the configuration is the command line; what its options "
             "say changes with a restart"});
    auto outcome = read_config(config_file_, config_read_limit_at_reload);
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome))
        return reject(complaints->lines);
    Config& wanted = std::get<Config>(outcome);
    const auto preparation = std::make_shared<Preparation>();
    if (std::vector<std::string> reasons = prepare(wanted, *preparation); !reasons.empty())
        return reject(std::move(reasons));

    Reload report{true, preparation->lines, preparation->plan.keys};
    if (report.keys.size() > key_changes_told_max) report.keys.resize(key_changes_told_max);
    bring_about(std::move(wanted), preparation, now);
    return report;
}

/// All or nothing: an exception leaves everything as it was.
void Reconfigurer::bring_about(Config wanted, const std::shared_ptr<Preparation>& preparation,
                               Instant now) {
    Change change(*this);
    carry_out(wanted, *preparation, now);
    state_.config = std::move(wanted);
    if (preparation->is_reload) ++state_.reloads;
    std::shared_ptr<const Status> status = make_status();
    change.commit();
    if (preparation->log && *preparation->log)
        log_.become(std::move(**preparation->log));
    else if (preparation->log)
        log_.want(std::move(preparation->log_target));
    wait_until_taken();
    board_.set(std::move(status));
    is_published_ = true;
    unlogged_ = preparation;
    log_reload();
}

/// If memory is short, a later look() writes all lines again.
void Reconfigurer::log_reload() {
    try {
        const Preparation& done = *unlogged_;
        if (done.log && !*done.log) log_.error("log_kept", {{"reason", done.log->error().message}});
        for (const Preparation::Added& proxy : done.added)
            log_.info("capacity", {{"proxy", proxy.name},
                                   {"sessions", proxy.sessions_max},
                                   {"limit", proxy.arithmetic}});
        for (const Preparation::Listener& opened : done.opened) {
            const ProxySlot& proxy = state_.proxies[done.slots.at(opened.proxy)];
            log_listener(log_, proxy.config, opened.endpoint,
                         udpproxy::text_of(*proxy.upstream, proxy.config), opened.sockets);
        }
        const char* const event = done.is_reload ? "reload_change" : "interface_change";
        for (const std::string& line : done.lines) log_.info(event, {{"change", line}});
        log_absent_interfaces(log_, state_.config);
        for (const std::vector<std::string>* keys :
             {&done.plan.needs_restart, &done.plan.listeners_kept})
            for (const std::string& key : *keys)
                log_.warn(
                    "needs_restart",
                    {{"key", key}, {"effect", "what was in force stays in force until a restart"}});
        if (done.is_reload)
            log_.info("reloaded", {{"config", shown_config(config_file_)},
                                   {"changes", done.lines.size()},
                                   {"reloads", state_.reloads}});
        unlogged_.reset();
    } catch (const std::bad_alloc&) {
        return;
    }
}

Reconfigurer::Reload Reconfigurer::reject(std::vector<std::string> reasons) {
    ++reload_failures_;
    publish();
    for (const std::string& reason : reasons) log_.error("reload_failed", {{"reason", reason}});
    log_.error("not_reloaded", {{"config", shown_config(config_file_)},
                                {"effect", "everything stays as it was"},
                                {"failures", reload_failures_}});
    return {false, std::move(reasons), {}};
}

/// The reasons to refuse the reload; empty if it can be carried out.
std::vector<std::string> Reconfigurer::prepare(Config& wanted, Preparation& preparation) {
    preparation.plan = plan_reload(state_.config, wanted);
    // Before anything is made of it: with another key changed, it would take effect all the same.
    keep_what_needs_a_restart(wanted, state_.config);
    if (std::string reason = note_covered(wanted, preparation.plan); !reason.empty())
        return {std::move(reason)};
    preparation.lines = text_of(preparation.plan);
    // The tables keep the size that they have from the start.
    MachineLimits machine = bootstrap_.machine();
    machine.descriptors = std::min(machine.descriptors, descriptor_limit());
    machine.ephemeral = ephemeral_ports();
    machine.reserved_ports = reserved_ports();
    preparation.capacity = compute_capacity(wanted, machine);
    if (!preparation.capacity.complaints.empty()) return preparation.capacity.complaints;
    if (std::string reason = find_slots(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    if (std::string reason = plan_proxies(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    if (std::string reason = open_new_listeners(wanted, preparation); !reason.empty())
        return {std::move(reason)};
    if (preparation.plan.log || log_.is_behind()) {
        preparation.log_target = {wanted.log_level, wanted.log_format, wanted.log_file};
        preparation.log.emplace(Log::open(preparation.log_target, &log_));
        if (!*preparation.log)
            preparation.lines.push_back("log: kept: " + preparation.log->error().message);
        else if (!preparation.plan.log)
            preparation.lines.emplace_back("log: the wanted file is open now");
    }
    return {};
}

/// Chooses a slot for each proxy of the new configuration: its present slot, else its earlier one,
/// else one that was never used, else any vacant one.
std::string Reconfigurer::find_slots(const Config& wanted, Preparation& preparation) const {
    std::vector<bool> taken(state_.proxies.size(), false);
    const auto find = [&](auto&& suits) -> std::optional<std::uint16_t> {
        for (std::uint16_t index = 0; index < state_.proxies.size(); ++index)
            if (!taken[index] && suits(state_.proxies[index])) return index;
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
            proxy->name, state_.proxies.size());
    }
    return {};
}

/// Works out the difference for each proxy, its source bindings, and the number of upstream
/// versions that the reload makes.
std::string Reconfigurer::plan_proxies(const Config& wanted, Preparation& preparation) const {
    preparation.sources = state_.sources;
    note_held(preparation.sources);
    std::size_t versions = state_.versions.size();
    for (const ProxyConfig& proxy : wanted.proxies) {
        const std::uint16_t index = preparation.slots.at(proxy.name);
        const ProxySlot& slot = state_.proxies[index];
        const bool is_new = slot.state == SlotState::vacant;
        ProxyStep& step = preparation.steps[index];
        if (is_new)
            step = ProxyStep{ProxyStep::Kind::added, proxy.name, true, true, true, true};
        else
            step = step_between(slot.config, proxy);
        // The address of a new name comes later. Until then sessions and new clients keep the
        // present upstream.
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
            state_.versions.size(), versions, upstream_versions_max);
    return {};
}

/// The listener on every address that serves this one, which has none of its own; null: there is
/// none. Its clients would be steered to other shards by sockets at the one address, since the
/// kernel's hash has the address that a socket is bound to.
const ListenerSlot* Reconfigurer::covering_listener(const Endpoint& endpoint) const {
    const ListenerSlot* covering = nullptr;
    for (const ListenerSlot& slot : state_.listeners) {
        if (slot.state != SlotState::serving && slot.state != SlotState::retired) continue;
        if (slot.endpoint == endpoint) return nullptr;
        if (slot.endpoint.address.is_unspecified() && overlap(slot.endpoint, endpoint))
            covering = &slot;
    }
    return covering;
}

/// From every address to one: the listener on every address stays until a restart. A reason to
/// refuse the reload: the addresses belong to several proxies.
std::string Reconfigurer::note_covered(const Config& wanted, Plan& plan) const {
    std::map<const ListenerSlot*, std::string> owners;
    for (const ProxyConfig& proxy : wanted.proxies) {
        for (const ListenAddress& listen : proxy.listen) {
            const ListenerSlot* const slot = covering_listener(listen.endpoint);
            if (slot == nullptr || listens_at(wanted, slot->endpoint)) continue;
            if (owners.try_emplace(slot, proxy.name).first->second != proxy.name)
                return fmt::format(
                    "listener {}: this program listens on {}, and only a restart can divide that "
                    "among proxies",
                    format(listen.endpoint), format(slot->endpoint));
            plan.listeners_kept.push_back(fmt::format("proxy \"{}\": listen ({} stays open)",
                                                      proxy.name, format(slot->endpoint)));
            std::erase_if(plan.listeners, [&](const ListenerStep& step) {
                return (step.endpoint == listen.endpoint && !step.from) ||
                       (step.endpoint == slot->endpoint && !step.to);
            });
        }
    }
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
        if (std::any_of(state_.listeners.begin(), state_.listeners.end(), is_there))
            continue;  // still draining: the listener serves again
        while (next < state_.listeners.size() && state_.listeners[next].state != SlotState::vacant)
            ++next;
        if (next == bootstrap_.tables().listeners)
            return fmt::format(
                "listener {}: {} listeners are there, with those that drain, and that is the most; "
                "try again when they have gone",
                format(step.endpoint), next);
        const ProxyConfig& proxy = *find_proxy(wanted, *step.to);
        const bool shares_port = std::any_of(
            state_.listeners.begin(), state_.listeners.end(), [&](const ListenerSlot& slot) {
                return slot.state != SlotState::vacant && overlap(slot.endpoint, step.endpoint);
            });
        Result<ListenerSockets> opened = open_listener(
            proxy, step.endpoint, static_cast<std::uint32_t>(bootstrap_.shards().size()),
            bind_attempts_at_reload, shares_port);
        if (!opened && may_go_without(proxy, step.endpoint, opened.error())) {
            log_left_out(log_, proxy, step.endpoint, opened.error());
            continue;
        }
        if (!opened && (opened.error().code == EMFILE || opened.error().code == ENFILE))
            return opened.error().message +
                   "; try again when there are fewer sessions, or raise LimitNOFILE and restart";
        if (!opened) return opened.error().message;
        preparation.opened.push_back({next++, step.endpoint, std::move(*opened), proxy.name});
    }
    return {};
}

}  // namespace udpproxy
