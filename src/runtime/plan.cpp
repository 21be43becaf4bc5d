// Compares two configurations key by key, and sorts the differences into steps.
#include "udpproxy/runtime/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "udpproxy/config/keys.hpp"
#include "udpproxy/runtime/shard_setup.hpp"

namespace udpproxy {

namespace {

bool same_upstream(const UpstreamAddress& a, const UpstreamAddress& b) {
    return a.endpoint == b.endpoint && a.host == b.host && a.port == b.port;
}

bool same_aliases(const ProxyConfig& a, const ProxyConfig& b) {
    const auto same = [](const Alias& x, const Alias& y) {
        return x.prefix == y.prefix && x.scope == y.scope && x.port == y.port;
    };
    return a.alias_filter == b.alias_filter &&
           std::equal(a.reply_aliases.begin(), a.reply_aliases.end(), b.reply_aliases.begin(),
                      b.reply_aliases.end(), same);
}

/// `prefix` stands before each key's name. An empty prefix stands for the key's section.
template <class Owner>
void note_restarts(Plan& plan, const std::string& prefix, const Owner& present,
                   const Owner& wanted) {
    for (const ConfigKey& key : config_keys()) {
        const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
        if (member == nullptr || key.takes_effect == TakesEffect::at_reload ||
            member->same(present, wanted))
            continue;
        plan.needs_restart.push_back(fmt::format(
            "{}{}{}", prefix.empty() ? fmt::format("{}.", key.section) : prefix, key.name,
            key.takes_effect == TakesEffect::at_restart_for_listeners ? " (of its listeners)"
                                                                      : ""));
    }
}

template <class Owner>
void keep_members(Owner& wanted, const Owner& present) {
    for (const ConfigKey& key : config_keys())
        if (const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
            member != nullptr && key.takes_effect == TakesEffect::at_restart)
            member->copy(wanted, present);
}

void compare_proxies(Plan& plan, const ProxyConfig& a, const ProxyConfig& b) {
    const ProxyStep step = step_between(a, b);
    if (step.settings || step.aliases || step.upstream || step.sources)
        plan.proxies.push_back(step);
    note_restarts(plan, fmt::format("proxy \"{}\": ", a.name), a, b);
}

/// A listening address whose interface is absent has no listener, and so no step. A listener at one
/// address stays when one at every address takes its place: the kernel delivers to the more
/// specific one, so its sessions and queues are left alone.
void plan_listeners(Plan& plan, const Config& present, const Config& wanted) {
    std::map<Endpoint, std::string> owner_wanted;
    std::map<Endpoint, std::string> owner_present;
    for (const ProxyConfig& proxy : wanted.proxies)
        for (const ListenAddress& listen : proxy.listen)
            if (!listen.is_absent()) owner_wanted.emplace(listen.endpoint, proxy.name);
    for (const ProxyConfig& proxy : present.proxies) {
        for (const ListenAddress& listen : proxy.listen) {
            if (listen.is_absent()) continue;
            owner_present.emplace(listen.endpoint, proxy.name);
            auto next = owner_wanted.find(listen.endpoint);
            if (next == owner_wanted.end())
                next = owner_wanted.find(
                    {Address::any(listen.endpoint.family()), 0, listen.endpoint.port});
            if (next == owner_wanted.end())
                plan.listeners.push_back({listen.endpoint, proxy.name, std::nullopt});
            else if (next->second != proxy.name)
                plan.listeners.push_back({listen.endpoint, proxy.name, next->second});
        }
    }
    for (const ProxyConfig& proxy : wanted.proxies)
        for (const ListenAddress& listen : proxy.listen)
            if (!listen.is_absent() && !owner_present.contains(listen.endpoint))
                plan.listeners.push_back({listen.endpoint, std::nullopt, proxy.name});
}

}  // namespace

const ProxyConfig* find_proxy(const Config& config, std::string_view name) {
    const auto found = std::find_if(config.proxies.begin(), config.proxies.end(),
                                    [&](const ProxyConfig& proxy) { return proxy.name == name; });
    return found == config.proxies.end() ? nullptr : &*found;
}

bool listens_at(const Config& config, const Endpoint& endpoint) {
    return std::any_of(config.proxies.begin(), config.proxies.end(), [&](const ProxyConfig& proxy) {
        return std::any_of(
            proxy.listen.begin(), proxy.listen.end(),
            [&](const ListenAddress& listen) { return listen.endpoint == endpoint; });
    });
}

ProxyStep step_between(const ProxyConfig& present, const ProxyConfig& wanted) {
    ProxyStep step;
    step.name = wanted.name;
    // The plan names the keys that need a restart; their values stay as they are until then.
    ProxyConfig in_place = wanted;
    keep_members(in_place, present);
    step.settings = !(settings_of(present) == settings_of(in_place)) ||
                    present.sessions_max != wanted.sessions_max;
    step.aliases = !same_aliases(present, wanted);
    step.upstream = !same_upstream(present.upstream, wanted.upstream);
    step.sources = present.source != wanted.source || present.ports != wanted.ports;
    return step;
}

Plan plan_reload(const Config& present, const Config& wanted) {
    Plan plan;
    plan.keys = key_changes(present, wanted);
    for (const ProxyConfig& proxy : present.proxies) {
        if (const ProxyConfig* next = find_proxy(wanted, proxy.name))
            compare_proxies(plan, proxy, *next);
        else
            plan.proxies.push_back({ProxyStep::Kind::removed, proxy.name});
    }
    for (const ProxyConfig& proxy : wanted.proxies)
        if (find_proxy(present, proxy.name) == nullptr)
            plan.proxies.push_back({ProxyStep::Kind::added, proxy.name});
    plan_listeners(plan, present, wanted);
    note_restarts(plan, "", present, wanted);
    plan.limits = present.sessions_max != wanted.sessions_max ||
                  !(rate_of(present.new_sessions) == rate_of(wanted.new_sessions)) ||
                  present.pool_min != wanted.pool_min ||
                  present.log_sessions != wanted.log_sessions;
    plan.log = present.log_level != wanted.log_level || present.log_format != wanted.log_format ||
               present.log_file != wanted.log_file;
    return plan;
}

void keep_what_needs_a_restart(Config& wanted, const Config& present) {
    keep_members(wanted, present);
    for (ProxyConfig& proxy : wanted.proxies)
        if (const ProxyConfig* before = find_proxy(present, proxy.name))
            keep_members(proxy, *before);
    // Says of admin.socket whether it is the file's.
    wanted.admin.socket_given = present.admin.socket_given;
}

void take_what_needs_a_restart(Config& to, const Config& from) {
    const std::optional<std::uint32_t> shards = to.shards;
    keep_what_needs_a_restart(to, from);
    to.shards = shards;
}

std::string text_of(const ProxyStep& step) {
    if (step.kind == ProxyStep::Kind::added) return "added";
    if (step.kind == ProxyStep::Kind::removed) return "removed";
    std::string text;
    const auto name = [&](bool changed, const char* what) {
        if (changed) text += (text.empty() ? "" : ", ") + std::string{what};
    };
    name(step.settings, "settings");
    name(step.aliases, "aliases");
    name(step.upstream, "upstream");
    name(step.sources, "sources");
    return "changed " + text;
}

}  // namespace udpproxy
