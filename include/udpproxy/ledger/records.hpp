// What the ledger keeps, as values: one record for each reply group with its session, which a shard
// writes, and one for everything that the control thread decides. How they lie in memory is known
// to src/ledger alone.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/time.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// Descriptors in one group's record: a primary, 16 alias members, an open member.
inline constexpr std::size_t recorded_members_max = 18;

struct SessionRecord {
    std::uint64_t id = 0;
    std::uint16_t listener = 0;  // number
    Endpoint client;
    Address local;  // that the client wrote to; unspecified: the listener's own
    std::uint32_t interface_index = 0;
    bool replied = false;
    bool assured = false;
    bool has_successor = false;
    Instant admitted_at{};
    Instant last_active_at{};
    std::uint64_t request_datagrams = 0;
    std::uint64_t request_bytes = 0;
    std::uint64_t reply_datagrams = 0;
    std::uint64_t reply_bytes = 0;

    friend bool operator==(const SessionRecord&, const SessionRecord&) = default;
};

struct GroupRecord {
    std::uint16_t proxy = 0;             // number
    std::uint32_t binding = 0;           // number of the source binding
    std::uint32_t upstream_version = 0;  // of that proxy
    bool has_open_member = false;
    Endpoint local;
    Instant cooling_since{};   // without a session
    std::uint8_t members = 0;  // in `descriptors`
    /// Primary first, alias members in the order of the version's aliases, open member last.
    std::array<int, recorded_members_max> descriptors{};
    std::optional<SessionRecord> session;  // absent: the group cools down

    friend bool operator==(const GroupRecord&, const GroupRecord&) = default;
};

/// The state that the control thread brings the shards to: numbers of proxies, listeners, source
/// bindings and port pools, and what stands behind each.
struct ControlRecord {
    enum class State : std::uint8_t { serving, retired, closing };

    struct Proxy {
        std::uint16_t number = 0;
        State state = State::serving;
        bool draining = false;  // by request
        bool superseded = false;
        std::string toml;                    // its [[proxy]] table
        std::uint32_t versions = 0;          // that it has had
        std::uint32_t upstream_version = 0;  // in force
        std::uint32_t closes_below = 0;      // sessions of versions below it end
        Instant deadline{};                  // when retired
        struct AliasCounter {
            Prefix prefix;
            std::uint32_t scope = 0;
            std::optional<std::uint16_t> port;
            std::uint8_t number = 0;
            friend bool operator==(const AliasCounter&, const AliasCounter&) = default;
        };
        std::vector<AliasCounter> alias_counters;
        friend bool operator==(const Proxy&, const Proxy&) = default;
    };
    struct Version {
        std::uint16_t proxy = 0;
        std::uint32_t version = 0;
        Endpoint endpoint;  // port 0: the name had no address yet
        bool open = false;  // aliases are checked on an open member
        struct Alias {
            Prefix prefix;
            std::uint32_t scope = 0;
            std::optional<std::uint16_t> port;
            std::uint8_t counter_index = 0;
            friend bool operator==(const Alias&, const Alias&) = default;
        };
        std::vector<Alias> aliases;
        friend bool operator==(const Version&, const Version&) = default;
    };
    struct Listener {
        std::uint16_t number = 0;
        State state = State::serving;
        Endpoint endpoint;
        std::uint16_t proxy = 0;
        Instant deadline{};            // when retired
        std::vector<int> descriptors;  // by shard
        friend bool operator==(const Listener&, const Listener&) = default;
    };
    struct PortSpan {
        std::uint16_t first = 0;
        std::uint16_t last = 0;
        bool spares_reserved = false;
        friend bool operator==(const PortSpan&, const PortSpan&) = default;
    };
    struct Binding {
        std::uint32_t number = 0;
        std::uint16_t proxy = 0;
        bool in_use = false;   // new groups of the proxy are opened there
        Address source;        // unspecified: what routing says
        Address pool_address;  // of its port pool
        std::uint32_t pool = 0;
        std::uint32_t range = 0;  // in that pool
        PortSpan ports;
        friend bool operator==(const Binding&, const Binding&) = default;
    };
    struct Pool {
        std::uint32_t number = 0;
        Address address;
        std::vector<PortSpan> ranges;
        friend bool operator==(const Pool&, const Pool&) = default;
    };

    std::string program_version;
    std::string toml;  // the configuration in force
    std::uint64_t reloads = 0;
    std::optional<Instant> drain_deadline;  // of a drain of all
    std::vector<Proxy> proxies;
    std::vector<Version> versions;
    std::vector<Listener> listeners;
    std::vector<Binding> bindings;
    std::vector<Pool> pools;

    friend bool operator==(const ControlRecord&, const ControlRecord&) = default;
};

}  // namespace udpproxy
