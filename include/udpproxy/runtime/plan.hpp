// Plan: what is different between two configurations, as a pure function: proxies by name,
// listeners by address. It names what changes, not how it is done; the reconfigurer makes commands
// of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

/// A proxy that comes, goes or changes. One that stays as it is has none.
struct ProxyStep {
    enum class Kind : std::uint8_t { added, removed, changed };
    Kind kind = Kind::changed;
    std::string name;
    // Of a changed one:
    bool settings = false;  // time-outs, limits and the like: in place, for its sessions too
    bool aliases = false;   // the same upstream, other aliases: in place, for its sessions too
    bool upstream = false;  // new clients go elsewhere; on_change says what its sessions do
    bool sources = false;   // new clients are bound elsewhere; sessions keep their ports

    friend bool operator==(const ProxyStep&, const ProxyStep&) = default;
};

/// A listening address that comes, goes, or belongs to another proxy from now on. Its sockets stay
/// the same ones as long as any proxy has it.
struct ListenerStep {
    Endpoint endpoint;
    std::optional<std::string> from;  // absent: it comes
    std::optional<std::string> to;    // absent: it goes

    friend bool operator==(const ListenerStep&, const ListenerStep&) = default;
};

struct Plan {
    std::vector<ProxyStep> proxies;          // changed and removed ones in the order of the present
                                             // configuration, then added ones in that of the new
    std::vector<ListenerStep> listeners;     // in the same order
    std::vector<std::string> needs_restart;  // what differs and cannot change while the program
                                             // runs, as `runtime.shards`
    bool limits = false;                     // [limits], or whether ended sessions are reported
    bool log = false;                        // level, format or file
};

/// What is different for a proxy that stays; none of it when nothing is.
[[nodiscard]] ProxyStep step_between(const ProxyConfig& present, const ProxyConfig& wanted);

[[nodiscard]] Plan plan_reload(const Config& present, const Config& wanted);

/// Puts what needs a restart back to what is in force, so that the next reload finds the file
/// different again and says so.
void keep_what_needs_a_restart(Config& wanted, const Config& present);

/// The proxy of that name, or null.
[[nodiscard]] const ProxyConfig* find_proxy(const Config& config, std::string_view name);

/// `changed settings, aliases`, `added`, `removed`
[[nodiscard]] std::string text_of(const ProxyStep& step);

}  // namespace udpproxy
