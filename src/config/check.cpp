// What several keys must agree on: within a proxy (families, duplicates, what a connected socket
// can express, time-outs) and among proxies (names, listeners, forwarding loops). Everything here
// follows from the file alone; capacity.cpp checks numbers against the machine, the doctor checks
// routes.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "proxy.hpp"
#include "udpproxy/config/values.hpp"
#include "udpproxy/session/group_pool.hpp"

namespace udpproxy {

namespace {

/// The family of the replies, and the key that decides it: the upstream, or the first alias if the
/// upstream is a name.
struct ReplyFamily {
    Family family;
    std::string because;
};

std::optional<ReplyFamily> reply_family(const ProxyDraft& draft) {
    const ProxyConfig& config = draft.config;
    if (config.upstream.endpoint) {
        const Family family = config.upstream.endpoint->family();
        return ReplyFamily{family,
                           fmt::format("the upstream {} is {}", format(*config.upstream.endpoint),
                                       family_name(family))};
    }
    if (!config.reply_aliases.empty()) {
        const Family family = config.reply_aliases.front().prefix.address.family();
        return ReplyFamily{
            family, fmt::format("the first alias, {}, is {}",
                                in_quotes(config.reply_aliases.front().text), family_name(family))};
    }
    return std::nullopt;
}

void check_aliases(const ProxyDraft& draft, Complaints& complaints) {
    const ProxyConfig& config = draft.config;
    if (!draft.upstream_valid) return;  // aliases are compared with its family and port
    const std::optional<ReplyFamily> replies = reply_family(draft);
    using Key = std::tuple<Address, std::uint8_t, std::uint32_t, std::uint32_t>;
    constexpr std::uint32_t any_port = 0;
    std::map<Key, std::size_t> seen;
    for (std::size_t i = 0; i < config.reply_aliases.size(); ++i) {
        const Alias& alias = config.reply_aliases[i];
        const Location& place = draft.reply_aliases[i];
        const Family family = alias.prefix.address.family();
        if (family != replies->family) {
            complaints.add(
                place, fmt::format("{} is {}, but {}; write an address of that family",
                                   in_quotes(alias.text), family_name(family), replies->because));
            continue;
        }
        const Key key{alias.prefix.address, alias.prefix.bits, alias.scope,
                      alias.port ? *alias.port : any_port};
        const auto [first, is_new] = seen.try_emplace(key, i);
        if (!is_new) {
            complaints.add(place,
                           fmt::format("{} is the same as {}; leave one out", in_quotes(alias.text),
                                       in_quotes(config.reply_aliases[first->second].text)));
            continue;
        }
        if (alias.is_exact() &&
            config.upstream.endpoint == Endpoint{alias.prefix.address, alias.scope, *alias.port})
            complaints.add(
                place,
                fmt::format(
                    "{} is the upstream itself, whose replies are always taken; leave it out",
                    in_quotes(alias.text)));
    }
}

void check_alias_filter(const ProxyDraft& draft, Complaints& complaints) {
    const ProxyConfig& config = draft.config;
    if (config.alias_filter != AliasFilter::connected) return;
    for (std::size_t i = 0; i < config.reply_aliases.size(); ++i) {
        const Alias& alias = config.reply_aliases[i];
        if (alias.is_exact()) continue;
        complaints.add(
            draft.alias_filter,
            fmt::format("\"connected\" does not fit the alias {}: a connected socket takes "
                        "datagrams of one address and port, and this "
                        "is {}; write \"auto\" or \"open\", or list its addresses and ports",
                        in_quotes(alias.text), alias.port ? "a prefix" : "any port"));
        return;
    }
    if (config.reply_aliases.size() > connected_aliases_max)
        complaints.add(draft.alias_filter,
                       fmt::format("\"connected\" would open a socket per session for each of {} "
                                   "aliases, and the maximum is {}; write \"auto\" or "
                                   "\"open\"",
                                   config.reply_aliases.size(), connected_aliases_max));
}

void check_source(const ProxyDraft& draft, Complaints& complaints) {
    const ProxyConfig& config = draft.config;
    std::optional<ReplyFamily> replies = draft.upstream_valid ? reply_family(draft) : std::nullopt;
    if (!replies && !config.source.empty() && draft.upstream_valid) {
        const Family family = config.source.front().family();
        replies =
            ReplyFamily{family, fmt::format("the first one, {}, is {}",
                                            format(config.source.front()), family_name(family))};
    }
    std::set<Address> seen;
    for (std::size_t i = 0; i < config.source.size(); ++i) {
        const Address& source = config.source[i];
        const Location& place = draft.source[i];
        const std::string text = format(source);
        if (replies && source.family() != replies->family)
            complaints.add(place,
                           fmt::format("{} is {}, but {}; write an address of that family", text,
                                       family_name(source.family()), replies->because));
        else if (!seen.insert(source).second)
            complaints.add(place, fmt::format("{} is listed twice; leave one out", text));
        // A link-local address needs an interface, and only the upstream can name one.
        else if (source.is_link_local() && draft.upstream_valid &&
                 (!config.upstream.endpoint || config.upstream.endpoint->scope == 0))
            complaints.add(
                place,
                fmt::format(
                    "{} is link-local, but the upstream is not; write an address that reaches it",
                    text));
    }
}

void check_timeouts(const ProxyDraft& draft, Complaints& complaints) {
    const ProxyConfig& config = draft.config;
    if (!draft.timeouts_valid || config.unassured_timeout <= config.idle_timeout) return;
    const std::string idle = format_duration(config.idle_timeout);
    const std::string unassured = format_duration(config.unassured_timeout);
    if (draft.unassured_timeout)
        complaints.add(
            *draft.unassured_timeout,
            fmt::format("\"{}\" is longer than idle_timeout (\"{}\"{}); write at most that",
                        unassured, idle, draft.idle_timeout ? "" : ", its default"));
    else if (draft.idle_timeout)
        complaints.add(*draft.idle_timeout,
                       fmt::format("\"{}\" is shorter than unassured_timeout (\"{}\", its "
                                   "default); write at least that, or "
                                   "unassured_timeout = \"{}\" as well",
                                   idle, unassured, idle));
}

/// Each session takes one local port at one source address.
void check_ports(const ProxyDraft& draft, Complaints& complaints) {
    const ProxyConfig& config = draft.config;
    if (!config.ports || !config.sessions_max) return;
    const std::size_t ports = std::size_t{config.ports->last} - config.ports->first + 1;
    const std::size_t sources = std::max<std::size_t>(config.source.size(), 1);
    if (*config.sessions_max <= ports * sources) return;
    complaints.add(draft.sessions_max,
                   fmt::format("{} is more than ports and source allow: {} port{} x {} source "
                               "address{} = {}; write at most that, or widen them",
                               *config.sessions_max, ports, ports == 1 ? "" : "s", sources,
                               sources == 1 ? "" : "es", ports * sources));
}

void check_names(const std::vector<ProxyDraft>& drafts, Complaints& complaints) {
    std::map<std::string, Position> seen;
    for (const ProxyDraft& draft : drafts) {
        if (draft.config.name.empty()) continue;
        const auto [first, is_new] = seen.try_emplace(draft.config.name, draft.name.at);
        if (!is_new)
            complaints.add(draft.name,
                           fmt::format("the proxy at {} has this name already; give each its own",
                                       complaints.position(first->second)));
    }
}

/// Index of all listeners by endpoint, and by port for listeners on every address.
class Listeners {
public:
    struct Listener {
        const ProxyDraft* proxy;
        const ListenAddress* address;
    };

    /// The listener added earlier that conflicts with `address`. The first socket of each listener
    /// binds exclusively, so the unspecified address of a family conflicts with every address of
    /// that family on the same port. IPv6 sockets are V6ONLY, so families never conflict.
    [[nodiscard]] const Listener* conflict(const ListenAddress& address) const {
        if (const auto same = by_endpoint_.find(address.endpoint); same != by_endpoint_.end())
            return &same->second;
        const PortOfFamily port{address.endpoint.family(), address.endpoint.port};
        const auto& others = address.endpoint.address.is_unspecified() ? by_port_ : unspecified_;
        const auto other = others.find(port);
        return other != others.end() ? &other->second : nullptr;
    }

    /// The listener that would receive a datagram sent to `target`. A listener on every address
    /// receives it only if `target` is a loopback address: other addresses may be another host's.
    [[nodiscard]] const Listener* receiver(const Endpoint& target) const {
        if (const auto same = by_endpoint_.find(target); same != by_endpoint_.end())
            return &same->second;
        if (!is_loopback(target.address)) return nullptr;
        const auto other = unspecified_.find({target.family(), target.port});
        return other != unspecified_.end() ? &other->second : nullptr;
    }

    void add(const ProxyDraft& proxy, const ListenAddress& address) {
        const PortOfFamily port{address.endpoint.family(), address.endpoint.port};
        by_endpoint_.try_emplace(address.endpoint, Listener{&proxy, &address});
        by_port_.try_emplace(port, Listener{&proxy, &address});
        if (address.endpoint.address.is_unspecified())
            unspecified_.try_emplace(port, Listener{&proxy, &address});
    }

private:
    using PortOfFamily = std::pair<Family, std::uint16_t>;

    static bool is_loopback(const Address& address) {
        if (address.is_ipv4()) return address.bytes[12] == 127;
        Address one{};
        one.bytes[15] = 1;
        return address == one;
    }

    std::map<Endpoint, Listener> by_endpoint_;
    std::map<PortOfFamily, Listener> by_port_;
    std::map<PortOfFamily, Listener> unspecified_;
};

std::string whose(const ProxyDraft& other, const ProxyDraft& self) {
    return &other == &self ? "of this proxy" : "of " + other.label;
}

Listeners check_listeners(const std::vector<ProxyDraft>& drafts, Complaints& complaints) {
    Listeners listeners;
    for (const ProxyDraft& draft : drafts) {
        const Location* complained = nullptr;
        for (std::size_t i = 0; i < draft.config.listen.size(); ++i) {
            const ListenAddress& address = draft.config.listen[i];
            const Location& place = draft.listen[i];
            const Listeners::Listener* other = listeners.conflict(address);
            // ":53" is two listeners at one position; one complaint is enough.
            const bool is_repeated = complained != nullptr && complained->what == place.what;
            if (other != nullptr && !is_repeated) {
                const bool same = other->address->endpoint == address.endpoint;
                complaints.add(
                    place,
                    fmt::format("{} {} the listener {} {}; write another address or port",
                                in_quotes(address.text), same ? "is the same as" : "conflicts with",
                                in_quotes(other->address->text), whose(*other->proxy, draft)));
                complained = &place;
            }
            listeners.add(draft, address);
        }
    }
    return listeners;
}

void check_loops(const ProxyDraft& draft, const Listeners& listeners, Complaints& complaints) {
    const auto check = [&](const Location& place, const std::string& text,
                           const Endpoint& endpoint) {
        if (const Listeners::Listener* own = listeners.receiver(endpoint))
            complaints.add(place, fmt::format("{} is the listener {} {}, which would be a loop; "
                                              "write the address of the service",
                                              in_quotes(text), in_quotes(own->address->text),
                                              whose(*own->proxy, draft)));
    };
    const ProxyConfig& config = draft.config;
    if (!draft.upstream_valid) return;
    if (config.upstream.endpoint)
        check(draft.upstream, config.upstream.text, *config.upstream.endpoint);
    for (std::size_t i = 0; i < config.reply_aliases.size(); ++i) {
        const Alias& alias = config.reply_aliases[i];
        if (alias.is_exact())
            check(draft.reply_aliases[i], alias.text,
                  Endpoint{alias.prefix.address, alias.scope, *alias.port});
    }
}

void check_pace(const ProxyDraft& draft, Complaints& complaints) {
    if (draft.new_sessions_burst)
        check_burst(draft.config.new_sessions, *draft.new_sessions_burst, complaints);
}

}  // namespace

void check_burst(const NewSessions& limit, const Location& burst, Complaints& complaints) {
    if (limit.burst && limit.per_second == 0)
        complaints.add(
            burst,
            "has no effect without new_sessions_per_second; write that too, or leave this out");
}

void check_proxies(const std::vector<ProxyDraft>& drafts, Complaints& complaints) {
    for (const ProxyDraft& draft : drafts) {
        check_aliases(draft, complaints);
        check_alias_filter(draft, complaints);
        check_source(draft, complaints);
        check_timeouts(draft, complaints);
        check_ports(draft, complaints);
        check_pace(draft, complaints);
    }
    check_names(drafts, complaints);
    const Listeners listeners = check_listeners(drafts, complaints);
    for (const ProxyDraft& draft : drafts) check_loops(draft, listeners, complaints);
}

}  // namespace udpproxy
