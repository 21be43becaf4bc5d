// The difference of two configurations.
#include "udpproxy/runtime/plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

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

template <class T>
void note_restart(Plan& plan, std::string_view key, const T& present, const T& wanted) {
    if (present != wanted) plan.needs_restart.emplace_back(key);
}

void compare_proxies(Plan& plan, const ProxyConfig& a, const ProxyConfig& b) {
    const ProxyStep step = step_between(a, b);
    if (step.settings || step.aliases || step.upstream || step.sources)
        plan.proxies.push_back(step);
    const std::string prefix = fmt::format("proxy \"{}\": ", a.name);
    note_restart(plan, prefix + "receive_buffer", a.receive_buffer_bytes, b.receive_buffer_bytes);
    note_restart(plan, prefix + "send_buffer", a.send_buffer_bytes, b.send_buffer_bytes);
    note_restart(plan, prefix + "path_mtu (of its listeners)", a.path_mtu, b.path_mtu);
    note_restart(plan, prefix + "offload (of its listeners)", a.offload, b.offload);
}

void plan_listeners(Plan& plan, const Config& present, const Config& wanted) {
    std::map<Endpoint, std::string> owner_wanted;
    std::map<Endpoint, std::string> owner_present;
    for (const ProxyConfig& proxy : wanted.proxies)
        for (const ListenAddress& listen : proxy.listen)
            owner_wanted.emplace(listen.endpoint, proxy.name);
    for (const ProxyConfig& proxy : present.proxies) {
        for (const ListenAddress& listen : proxy.listen) {
            owner_present.emplace(listen.endpoint, proxy.name);
            const auto next = owner_wanted.find(listen.endpoint);
            if (next == owner_wanted.end())
                plan.listeners.push_back({listen.endpoint, proxy.name, std::nullopt});
            else if (next->second != proxy.name)
                plan.listeners.push_back({listen.endpoint, proxy.name, next->second});
        }
    }
    for (const ProxyConfig& proxy : wanted.proxies)
        for (const ListenAddress& listen : proxy.listen)
            if (!owner_present.contains(listen.endpoint))
                plan.listeners.push_back({listen.endpoint, std::nullopt, proxy.name});
}

}  // namespace

const ProxyConfig* find_proxy(const Config& config, std::string_view name) {
    const auto found = std::find_if(config.proxies.begin(), config.proxies.end(),
                                    [&](const ProxyConfig& proxy) { return proxy.name == name; });
    return found == config.proxies.end() ? nullptr : &*found;
}

ProxyStep step_between(const ProxyConfig& present, const ProxyConfig& wanted) {
    ProxyStep step;
    step.name = wanted.name;
    // A buffer's size is for listeners as well, and those stay as they are.
    ProxyConfig in_place = wanted;
    in_place.receive_buffer_bytes = present.receive_buffer_bytes;
    step.settings = !(settings_of(present) == settings_of(in_place)) ||
                    present.sessions_max != wanted.sessions_max;
    step.aliases = !same_aliases(present, wanted);
    step.upstream = !same_upstream(present.upstream, wanted.upstream);
    step.sources = present.source != wanted.source || present.ports != wanted.ports;
    return step;
}

Plan plan_reload(const Config& present, const Config& wanted) {
    Plan plan;
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
    note_restart(plan, "runtime.engine", present.engine, wanted.engine);
    note_restart(plan, "runtime.shards", present.shards, wanted.shards);
    note_restart(plan, "runtime.cpu_pinning", present.cpu_pinning, wanted.cpu_pinning);
    note_restart(plan, "runtime.busy_poll", present.busy_poll, wanted.busy_poll);
    note_restart(plan, "runtime.batch_wait", present.batch_wait, wanted.batch_wait);
    note_restart(plan, "admin.socket", present.admin.socket, wanted.admin.socket);
    note_restart(plan, "admin.group", present.admin.group, wanted.admin.group);
    note_restart(plan, "admin.listen", present.admin.listen, wanted.admin.listen);
    plan.limits = present.sessions_max != wanted.sessions_max ||
                  !(rate_of(present.new_sessions) == rate_of(wanted.new_sessions)) ||
                  present.pool_min != wanted.pool_min ||
                  present.log_sessions != wanted.log_sessions;
    plan.log = present.log_level != wanted.log_level || present.log_format != wanted.log_format ||
               present.log_file != wanted.log_file;
    return plan;
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
