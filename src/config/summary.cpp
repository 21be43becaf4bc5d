// The text of --check-config. It shows what is always of interest, and options and limits only
// where they differ from the default.
#include <fmt/format.h>

#include "udpproxy/config/config.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

/// The value as the file would spell it, from the list of keys.
template <class E>
std::string_view word(std::string_view section, std::string_view name, E value) {
    for (const ConfigKey& key : config_keys()) {
        if (key.section != section || key.name != name) continue;
        std::string_view words = key.values;
        for (auto skip = static_cast<std::size_t>(value); skip > 0; --skip)
            words.remove_prefix(words.find(" | ") + 3);
        return words.substr(0, words.find(" | "));
    }
    return {};
}

std::string number(const std::optional<std::uint32_t>& value) {
    return value ? std::to_string(*value) : "auto";
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
    return alias.is_exact() ? format(Endpoint{alias.prefix.address, alias.scope, *alias.port})
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
    return joined(limits, [](const std::string& limit) { return limit; });
}

/// The treatment of datagrams where it differs from the default; empty if it does not.
std::string treatment_of(const ProxyConfig& proxy) {
    std::vector<std::string> treatment;
    if (proxy.offload != Offload::automatic)
        treatment.push_back(fmt::format("offload {}", word("proxy", "offload", proxy.offload)));
    if (proxy.path_mtu != PathMtu::want)
        treatment.push_back(fmt::format("path_mtu {}", word("proxy", "path_mtu", proxy.path_mtu)));
    return joined(treatment, [](const std::string& item) { return item; });
}

/// The options that trade processor time or descriptors for latency; empty when all are off.
std::string options_of(const Config& config) {
    std::vector<std::string> options;
    if (config.busy_poll > Duration::zero())
        options.push_back("busy_poll " + format_duration(config.busy_poll));
    if (config.batch_wait > Duration::zero())
        options.push_back("batch_wait " + format_duration(config.batch_wait));
    if (config.pool_min > 0) options.push_back(fmt::format("pool_min {}", config.pool_min));
    return joined(options, [](const std::string& option) { return option; });
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
                                          word("proxy", "alias_filter", proxy.alias_filter)));
    if (!proxy.source.empty() || proxy.ports)
        text += fmt::format(
            "  source    {}{}\n",
            proxy.source.empty()
                ? "chosen by routing"
                : joined(proxy.source, [](const Address& address) { return format(address); }),
            proxy.ports ? fmt::format(", ports {}-{}", proxy.ports->first, proxy.ports->last) : "");
    text +=
        fmt::format("  sessions  {}, idle {} ({} while unassured), port cooldown {}\n",
                    number(proxy.sessions_max), format_duration(proxy.idle_timeout),
                    format_duration(proxy.unassured_timeout), format_duration(proxy.port_cooldown));
    if (const std::string limits = limits_of(proxy); !limits.empty())
        text += fmt::format("  limits    {}\n", limits);
    if (const std::string treatment = treatment_of(proxy); !treatment.empty())
        text += fmt::format("  datagrams {}\n", treatment);
    return text;
}

}  // namespace

std::string summarise(const Config& config) {
    std::string text = fmt::format("engine {}, shards {}{}, sessions {}, log {} as {} to {}{}\n",
                                   word("runtime", "engine", config.engine), number(config.shards),
                                   config.cpu_pinning ? " pinned" : "", number(config.sessions_max),
                                   word("log", "level", config.log_level),
                                   word("log", "format", config.log_format),
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
