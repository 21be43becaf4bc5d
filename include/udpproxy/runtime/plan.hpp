// Plan: the difference between two configurations, as a pure function. Proxies are matched by name,
// listeners by address. The plan says what changes; the reconfigurer turns it into commands.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/config/keys.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

/// A proxy that is added, removed or changed. An unchanged proxy has no step.
struct ProxyStep {
    enum class Kind : std::uint8_t { added, removed, changed };
    Kind kind = Kind::changed;
    std::string name;
    // For a changed proxy:
    bool settings = false;  // time-outs, limits and the like: in place, for present sessions too
    bool aliases = false;   // the same upstream, other aliases: in place, for present sessions too
    bool upstream = false;  // another upstream for new clients; on_change decides about sessions
    bool sources = false;   // other source bindings for new clients; sessions keep their ports

    friend bool operator==(const ProxyStep&, const ProxyStep&) = default;
};

/// A listening address that is added, removed, or moved to another proxy. Its sockets stay open as
/// long as any proxy has the address.
struct ListenerStep {
    Endpoint endpoint;
    std::optional<std::string> from;  // absent: added
    std::optional<std::string> to;    // absent: removed

    friend bool operator==(const ListenerStep&, const ListenerStep&) = default;
};

/// A key with another value than before. An absent value is an empty text, a long one is cut.
struct KeyChange {
    std::string proxy;    // empty: a key of the other sections
    std::string key;      // `idle_timeout`, `limits.sessions_max`
    std::string present;  // as the file would have it, without quotation marks
    std::string wanted;
    TakesEffect takes_effect = TakesEffect::at_reload;
};

inline constexpr std::size_t key_changes_told_max = 1000;

/// All keys but `listen` and `name` of the proxies that stay; then those of the other sections.
[[nodiscard]] std::vector<KeyChange> key_changes(const Config& present, const Config& wanted);
/// `limits.sessions_max`, `proxy "dns": idle_timeout`
[[nodiscard]] std::string name_of(const KeyChange& change);
/// `proxy "dns": idle_timeout 1m -> 30s`, `runtime.shards 2 -> 4: needs a restart`
[[nodiscard]] std::string text_of(const KeyChange& change);

struct Plan {
    std::vector<KeyChange> keys;
    std::vector<ProxyStep> proxies;          // in present order; added ones last, in new order
    std::vector<ListenerStep> listeners;     // in the same order
    std::vector<std::string> needs_restart;  // keys whose change needs one, as `runtime.shards`
    // Listeners on every address that only a restart makes narrower; the reconfigurer knows them.
    std::vector<std::string> listeners_kept;
    bool limits = false;  // [limits], or whether ended sessions are reported
    bool log = false;     // level, format or file
};

/// The differences for a proxy in both configurations; all false when there are none.
[[nodiscard]] ProxyStep step_between(const ProxyConfig& present, const ProxyConfig& wanted);

[[nodiscard]] Plan plan_reload(const Config& present, const Config& wanted);

/// Puts keys that need a restart back to the values in force, so that the next reload reports the
/// difference again.
void keep_what_needs_a_restart(Config& wanted, const Config& present);
/// The values of these keys from another configuration, for a start that keeps all else. The number
/// of shards stays: it decides which shard a client's datagrams reach.
void take_what_needs_a_restart(Config& to, const Config& from);

/// Whether a proxy listens at this very endpoint.
[[nodiscard]] bool listens_at(const Config& config, const Endpoint& endpoint);

/// The proxy of that name, or null.
[[nodiscard]] const ProxyConfig* find_proxy(const Config& config, std::string_view name);

/// `changed settings, aliases`, `added`, `removed`
[[nodiscard]] std::string text_of(const ProxyStep& step);

}  // namespace udpproxy
