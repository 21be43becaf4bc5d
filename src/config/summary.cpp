// The text of --check-config. It shows what is always of interest, and options and limits only
// where they differ from the default.
#include <fmt/format.h>

#include "udpproxy/config/config.hpp"
#include "udpproxy/config/keys.hpp"

namespace udpproxy {

namespace {

/// The value as the file would say it, without quotation marks.
template <class Owner>
std::string value(std::string_view section, std::string_view name, const Owner& owner) {
    const ConfigKey& key = config_key(section, name);
    return std::get<ConfigMember<Owner>>(key.member).text(key, owner);
}

template <class Items, class ToText>
std::string joined(const Items& items, ToText to_text) {
    std::string text;
    std::string last;
    for (const auto& item : items) {
        std::string next = to_text(item);
        if (next == last) continue;  // ":53" stands for two addresses
        if (!text.empty()) text += ", ";
        text += next;
        last = std::move(next);
    }
    return text;
}

std::string alias_text(const Alias& alias) {
    return alias.is_exact() && !is_absent_interface(alias.scope)
               ? format(Endpoint{alias.prefix.address, alias.scope, *alias.port})
               : alias.text;
}

std::string pace(const NewSessions& limit) {
    return fmt::format("{} new sessions a second, {} at once", limit.per_second,
                       limit.burst.value_or(limit.per_second));
}

/// The limits of a proxy that are set; empty when none is.
std::string limits_of(const ProxyConfig& proxy) {
    std::vector<std::string> limits;
    if (proxy.sessions_per_client_max > 0)
        limits.push_back(fmt::format("{} sessions per client", proxy.sessions_per_client_max));
    if (proxy.new_sessions.per_second > 0) limits.push_back(pace(proxy.new_sessions));
    if (proxy.amplification_limit > 0)
        limits.push_back(fmt::format("replies at most {}x the client's bytes until it is assured",
                                     proxy.amplification_limit));
    if (proxy.replies_max > 0)
        limits.push_back(fmt::format("{} replies for one datagram", proxy.replies_max));
    if (proxy.end_after_replies > 0)
        limits.push_back(fmt::format("sessions end after {} replies", proxy.end_after_replies));
    if (proxy.end_after_requests > 0)
        limits.push_back(fmt::format("a new session after {} requests", proxy.end_after_requests));
    if (proxy.datagram_max > 0)
        limits.push_back(fmt::format("datagrams of at most {} bytes", proxy.datagram_max));
    return joined(limits, [](const std::string& limit) { return limit; });
}

/// `pool_min 100`, for each of the names whose value is not the default.
template <class Owner>
std::string changed(std::string_view section, std::initializer_list<std::string_view> names,
                    const Owner& owner) {
    std::vector<std::string> items;
    for (const std::string_view name : names)
        if (value(section, name, owner) != value(section, name, Owner{}))
            items.push_back(fmt::format("{} {}", name, value(section, name, owner)));
    return joined(items, [](const std::string& item) { return item; });
}

/// The options that trade processor time or descriptors for latency; empty when all are off.
std::string options_of(const Config& config) {
    std::string options = changed("runtime", {"busy_poll", "batch_wait"}, config);
    const std::string pool = changed("limits", {"pool_min"}, config);
    if (!options.empty() && !pool.empty()) options += ", ";
    return options + pool;
}

std::string describe(const ProxyConfig& proxy) {
    std::string text = fmt::format("proxy \"{}\"\n", proxy.name);
    text += fmt::format("  listen    {}\n", joined(proxy.listen, [](const ListenAddress& address) {
                            return address.text;
                        }));
    text += fmt::format("  upstream  {}\n", proxy.upstream.text);
    text += fmt::format("  aliases   {}\n",
                        proxy.reply_aliases.empty()
                            ? "none: only replies from the upstream's own address reach a client"
                            : fmt::format("{} (filter {})", joined(proxy.reply_aliases, alias_text),
                                          value("proxy", "alias_filter", proxy)));
    if (!proxy.source.empty() || proxy.ports)
        text += fmt::format(
            "  source    {}{}\n",
            proxy.source.empty()
                ? "chosen by routing"
                : joined(proxy.source, [](const Address& address) { return format(address); }),
            proxy.ports ? fmt::format(", ports {}-{}", proxy.ports->first, proxy.ports->last) : "");
    text += fmt::format(
        "  sessions  {}, idle {} ({} while unassured), port cooldown {}\n",
        value("proxy", "sessions_max", proxy), value("proxy", "idle_timeout", proxy),
        value("proxy", "unassured_timeout", proxy), value("proxy", "port_cooldown", proxy));
    if (const std::string limits = limits_of(proxy); !limits.empty())
        text += fmt::format("  limits    {}\n", limits);
    if (const std::string treatment = changed("proxy", {"offload", "path_mtu"}, proxy);
        !treatment.empty())
        text += fmt::format("  datagrams {}\n", treatment);
    return text;
}

}  // namespace

std::string summarise(const Config& config, std::string_view automatic_shards) {
    std::string text =
        fmt::format("engine {}, shards {}{}{}, sessions {}, log {} as {} to {}{}\n",
                    value("runtime", "engine", config), value("runtime", "shards", config),
                    automatic_shards.empty() ? "" : fmt::format(" ({})", automatic_shards),
                    config.cpu_pinning ? " pinned" : "", value("limits", "sessions_max", config),
                    value("log", "level", config), value("log", "format", config),
                    config.log_file.empty() ? "standard error" : config.log_file,
                    config.log_sessions ? " with each session's end" : "");
    if (config.new_sessions.per_second > 0)
        text += fmt::format("limits: {}\n", pace(config.new_sessions));
    if (const std::string options = options_of(config); !options.empty())
        text += fmt::format("options: {}\n", options);
    for (const ProxyConfig& proxy : config.proxies) text += describe(proxy);
    return text;
}

}  // namespace udpproxy
