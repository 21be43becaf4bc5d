// The list of the configuration's keys, written once. What is told about a key follows from its
// entry: the kind from the type of the member, the values from the bounds that the reader checks,
// the default from a Config that nothing was read into.
#include "udpproxy/config/keys.hpp"

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <type_traits>
#include <utility>

#include "sections.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

using namespace std::chrono_literals;

using Form = ConfigKey::Form;
using Words = ConfigKey::Words;
using Numbers = ConfigKey::Numbers;
using Durations = ConfigKey::Durations;
using Sizes = ConfigKey::Sizes;
using Entries = ConfigKey::Entries;

/// The member at the end of `path`, which are member pointers one within the other.
template <auto... path>
constexpr auto at = [](auto& owner) -> auto& {
    return (owner.*....*path);
};

template <class Owner, class Member, class... Rest>
Owner owner_of(Member Owner::*, Rest...);
template <auto... path>
using OwnerOf = decltype(owner_of(path...));
template <auto... path>
using ValueOf = std::remove_reference_t<decltype(at<path...>(std::declval<OwnerOf<path...>&>()))>;

template <class T>
constexpr std::string_view kind_of() {
    if constexpr (std::is_enum_v<T>)
        return "word";
    else if constexpr (std::is_same_v<T, bool>)
        return "boolean";
    else if constexpr (std::is_same_v<T, std::string>)
        return "string";
    else if constexpr (std::is_same_v<T, std::uint32_t>)
        return "number";
    else if constexpr (std::is_same_v<T, std::optional<std::uint32_t>>)
        return "number or auto";
    else if constexpr (std::is_same_v<T, Duration>)
        return "duration";
    else if constexpr (std::is_same_v<T, std::uint64_t>)
        return "size";
}

template <class T>
std::string text_of(const ConfigKey& key, const T& value) {
    if constexpr (std::is_enum_v<T>)
        return std::string{std::get<Words>(key.accepts).at(static_cast<std::size_t>(value))};
    else if constexpr (std::is_same_v<T, bool>)
        return value ? "true" : "false";
    else if constexpr (std::is_same_v<T, std::string>)
        return value;
    else if constexpr (std::is_same_v<T, std::uint32_t>)
        return std::to_string(value);
    else if constexpr (std::is_same_v<T, std::optional<std::uint32_t>>)
        return value ? std::to_string(*value) : "auto";
    else if constexpr (std::is_same_v<T, Duration>)
        return format_duration(value);
    else if constexpr (std::is_same_v<T, std::uint64_t>)
        return format_size(value);
}

struct ValuesText {
    std::string operator()(const Form& form) const { return std::string{form.values}; }
    std::string operator()(const Words& words) const {
        return fmt::format("{}", fmt::join(words, " | "));
    }
    std::string operator()(const Numbers& bounds) const {
        return fmt::format("{} to {}", bounds.least, bounds.most);
    }
    std::string operator()(const Durations& bounds) const {
        return fmt::format("{} to {}", format_duration(bounds.least), format_duration(bounds.most));
    }
    std::string operator()(const Sizes& bounds) const {
        return fmt::format("{} to {}", format_size(bounds.least), format_size(bounds.most));
    }
    std::string operator()(const Entries& bounds) const {
        return fmt::format("{} to {} entries", bounds.least, bounds.most);
    }
};

template <auto... path>
auto member_at() {
    using Owner = OwnerOf<path...>;
    ConfigMember<Owner> member;
    member.same = [](const Owner& a, const Owner& b) { return at<path...>(a) == at<path...>(b); };
    member.copy = [](Owner& to, const Owner& from) { at<path...>(to) = at<path...>(from); };
    return member;
}

/// A key whose value is read by its kind into the member at the end of `path`.
template <auto... path>
ConfigKey key(std::string_view section, std::string_view name, ConfigKey::Accepts accepts,
              std::string_view summary, TakesEffect takes_effect = TakesEffect::at_reload) {
    using Owner = OwnerOf<path...>;
    using Value = ValueOf<path...>;
    ConfigMember<Owner> member = member_at<path...>();
    member.read = [](SectionReader& reader, const ConfigKey& of, Owner& owner) {
        return reader.read(of, at<path...>(owner));
    };
    member.text = [](const ConfigKey& of, const Owner& owner) {
        return text_of(of, at<path...>(owner));
    };
    ConfigKey key;
    key.section = section;
    key.name = name;
    key.kind = kind_of<Value>();
    key.values = std::visit(ValuesText{}, accepts);
    key.accepts = std::move(accepts);
    key.default_value = member.text(key, Owner{});
    constexpr bool is_bare = std::is_same_v<Value, bool> || std::is_same_v<Value, std::uint32_t>;
    if (!is_bare) key.default_value = '"' + key.default_value + '"';
    key.takes_effect = takes_effect;
    key.summary = summary;
    key.member = member;
    return key;
}

/// The same for booleans and strings, which have no bounds.
template <auto... path>
ConfigKey key(std::string_view section, std::string_view name, std::string_view summary,
              TakesEffect takes_effect = TakesEffect::at_reload) {
    constexpr bool is_boolean = std::is_same_v<ValueOf<path...>, bool>;
    return key<path...>(section, name, Form{is_boolean ? "true | false" : ""}, summary,
                        takes_effect);
}

/// A key whose text the section parses itself.
ConfigKey form(std::string_view section, std::string_view name, std::string_view kind,
               ConfigKey::Accepts accepts, std::string default_value, std::string_view summary) {
    ConfigKey key;
    key.section = section;
    key.name = name;
    key.kind = kind;
    key.values = std::visit(ValuesText{}, accepts);
    key.accepts = std::move(accepts);
    key.default_value = std::move(default_value);
    key.summary = summary;
    return key;
}

/// The same where a restart is needed, and a reload therefore compares the member.
template <auto... path>
ConfigKey form_for_restart(std::string_view section, std::string_view name, std::string_view kind,
                           ConfigKey::Accepts accepts, std::string default_value,
                           std::string_view summary) {
    ConfigKey key =
        form(section, name, kind, std::move(accepts), std::move(default_value), summary);
    key.takes_effect = TakesEffect::at_restart;
    key.member = member_at<path...>();
    return key;
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
    static const std::vector<ConfigKey> keys{
        key<&Config::engine>("runtime", "engine", Words{"auto", "io_uring", "epoll"},
                             "I/O back end; auto asks the kernel once.", TakesEffect::at_restart),
        key<&Config::shards>("runtime", "shards", Numbers{1, 1024},
                             "Threads that forward; auto is one per CPU that the process may use, "
                             "and no more than its CPU quota.",
                             TakesEffect::at_restart),
        key<&Config::cpu_pinning>("runtime", "cpu_pinning",
                                  "Whether each shard stays on a CPU of its own.",
                                  TakesEffect::at_restart),
        key<&Config::busy_poll>("runtime", "busy_poll", Durations{0us, 1ms},
                                "How long an idle shard polls for datagrams before it sleeps.",
                                TakesEffect::at_restart),
        key<&Config::batch_wait>(
            "runtime", "batch_wait", Durations{0us, 1ms},
            "How long a shard that a few datagrams woke waits for more, to process them together.",
            TakesEffect::at_restart),
        key<&Config::log_level>("log", "level", Words{"error", "warn", "info"},
                                "Minimum log level."),
        key<&Config::log_format>("log", "format", Words{"text", "json"},
                                 "One line per event, as key=value or as JSON."),
        key<&Config::log_file>("log", "file", "Where lines go; empty is standard error."),
        key<&Config::log_sessions>("log", "sessions",
                                   "Whether a summary line is written when a session ends."),
        key<&Config::sessions_max>(
            "limits", "sessions_max", Numbers{1, 1048576},
            "Sessions of all proxies together; auto is what descriptors allow."),
        key<&Config::new_sessions, &NewSessions::per_second>(
            "limits", "new_sessions_per_second", Numbers{0, 1000000},
            "New sessions a second, of all proxies together; 0 is no limit."),
        key<&Config::new_sessions, &NewSessions::burst>(
            "limits", "new_sessions_burst", Numbers{1, 1048576},
            "How many new sessions may come at once; auto is one second's worth."),
        key<&Config::pool_min>(
            "limits", "pool_min", Numbers{0, 65536},
            "Reply groups that each proxy keeps open in advance for new clients; 0 is none."),
        key<&Config::admin, &AdminConfig::socket>("admin", "socket",
                                                  "Unix socket for udpproxyctl; empty is none.",
                                                  TakesEffect::at_restart),
        key<&Config::admin, &AdminConfig::group>(
            "admin", "group",
            "Group that may use the socket, including changes; empty is the program's own group, "
            "read-only.",
            TakesEffect::at_restart),
        form_for_restart<&Config::admin, &AdminConfig::listen>(
            "admin", "listen", "string", Form{}, R"("")",
            "HTTP address for metrics, probes and the status page, read-only; empty is none."),
        key<&Config::admin, &AdminConfig::allow_remote>(
            "admin", "allow_remote",
            "Whether listen may be an address other than a loopback address.",
            TakesEffect::at_restart),
        form("proxy", "name", "string", Form{}, "",
             "What logs and metrics call this proxy: 1 to 64 letters, digits, `_`, `.` or `-`."),
        form("proxy", "listen", "string or list", Entries{1, 16}, "",
             "Where clients write to: address:port, or :port for every address."),
        form("proxy", "upstream", "string", Form{}, "",
             "Where requests go: address:port or name:port."),
        key<&ProxyConfig::on_change>("proxy", "on_change", Words{"keep", "close"},
                                     "Sessions of an upstream that a reload changes: keep them on "
                                     "the old one, or close them."),
        form("proxy", "reply_aliases", "string or list", Entries{0, 64}, "[]",
             "Other addresses that the upstream may answer from."),
        key<&ProxyConfig::alias_filter>(
            "proxy", "alias_filter", Words{"auto", "connected", "open"},
            "Who checks that a reply comes from an alias: the kernel, on one connected socket per "
            "alias, or the proxy, on one open socket."),
        key<&ProxyConfig::unlisted_replies>("proxy", "unlisted_replies",
                                            Words{"auto", "all", "off"},
                                            "Which sessions also watch for replies from addresses "
                                            "that are not listed, to count and name them."),
        form("proxy", "source", "string or list", Entries{0, 16}, "",
             "Local addresses towards the upstream; absent: chosen by routing."),
        form("proxy", "ports", "port range", Form{"1-1 to 65535-65535"}, "",
             "Local ports towards the upstream; absent: the system's range."),
        key<&ProxyConfig::port_cooldown>(
            "proxy", "port_cooldown", Durations{0s, 1h},
            "How long the group of an ended session cools down before its next client."),
        key<&ProxyConfig::idle_timeout>(
            "proxy", "idle_timeout", Durations{100ms, std::chrono::days{7}},
            "An assured session ends after this long without a datagram."),
        key<&ProxyConfig::unassured_timeout>("proxy", "unassured_timeout",
                                             Durations{100ms, std::chrono::days{7}},
                                             "The same for all other sessions."),
        key<&ProxyConfig::sessions_max>(
            "proxy", "sessions_max", Numbers{1, 65536},
            "Sessions of this proxy; auto is what descriptors and ports allow."),
        key<&ProxyConfig::sessions_per_client_max>(
            "proxy", "sessions_per_client_max", Numbers{0, 65536},
            "Sessions of one client: an IPv4 address or an IPv6 /64; 0 is no limit."),
        key<&ProxyConfig::new_sessions, &NewSessions::per_second>(
            "proxy", "new_sessions_per_second", Numbers{0, 1000000},
            "New sessions a second of this proxy; 0 is no limit."),
        key<&ProxyConfig::new_sessions, &NewSessions::burst>(
            "proxy", "new_sessions_burst", Numbers{1, 1048576},
            "How many new sessions of this proxy may come at once; auto is one second's worth."),
        key<&ProxyConfig::amplification_limit>("proxy", "amplification_limit", Numbers{0, 1000},
                                               "Bytes to a client that is not assured, as a "
                                               "multiple of the bytes from it; 0 is no limit."),
        key<&ProxyConfig::replies_max>(
            "proxy", "replies_max", Numbers{0, 65535},
            "Reply datagrams for each datagram of a client; 0 is no limit."),
        key<&ProxyConfig::end_after_replies>(
            "proxy", "end_after_replies", Numbers{0, 65535},
            "A session ends with this many replies, once it has as many as it had requests; 0 is "
            "never."),
        key<&ProxyConfig::end_after_requests>(
            "proxy", "end_after_requests", Numbers{0, 65535},
            "A client has a new session after this many requests; 0 is never."),
        key<&ProxyConfig::datagram_max>(
            "proxy", "datagram_max", Numbers{0, 65535},
            "Bytes of payload that a datagram may have, either way; 0 is no limit."),
        key<&ProxyConfig::dscp>("proxy", "dscp", Words{"copy", "clear"},
                                "Whether the DSCP of a datagram is forwarded; ECN always is."),
        key<&ProxyConfig::path_mtu>("proxy", "path_mtu", Words{"want", "probe", "omit"},
                                    "What to do with datagrams larger than a path takes: learn "
                                    "from ICMP, refuse at once, or always fragment.",
                                    TakesEffect::at_restart_for_listeners),
        key<&ProxyConfig::offload>(
            "proxy", "offload", Words{"auto", "off"},
            "Whether datagrams pass through the kernel in trains where it can do that.",
            TakesEffect::at_restart_for_listeners),
        key<&ProxyConfig::receive_buffer_bytes>(
            "proxy", "receive_buffer", Sizes{4 << 10, 1 << 30},
            "Receive buffer of each listener; sockets towards the upstream get a quarter.",
            TakesEffect::at_restart),
        key<&ProxyConfig::send_buffer_bytes>("proxy", "send_buffer", Sizes{4 << 10, 1 << 30},
                                             "Send buffer of each listener.",
                                             TakesEffect::at_restart),
    };
    return keys;
}

const ConfigKey& config_key(std::string_view section, std::string_view name) {
    for (const ConfigKey& key : config_keys())
        if (key.section == section && key.name == name) return key;
    assertion_failed("config_keys() lists the key", __FILE__, __LINE__);
}

}  // namespace udpproxy
