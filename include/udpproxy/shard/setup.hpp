// The setup of a shard at start: its proxies, listeners and limits, as values. The daemon makes the
// setup from the configuration; tests build their shards from it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "udpproxy/base/siphash.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/ledger/ledger.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"
#include "udpproxy/session/group_pool.hpp"
#include "udpproxy/session/port_pool.hpp"
#include "udpproxy/session/upstream.hpp"
#include "udpproxy/shard/shared_use.hpp"

namespace udpproxy {

/// Which groups get an open member beside their connected ones, to see replies from unlisted
/// sources.
enum class Watch : std::uint8_t {
    none,
    all,
    spare_capacity,  // all while half of the descriptors are free, then one group in 16
};

/// Plain values that a reload changes in place, for existing sessions too.
struct ProxySettings {
    Watch watch = Watch::spare_capacity;
    Duration port_cooldown{};
    Duration idle_timeout{};
    Duration unassured_timeout{};
    std::uint32_t sessions_max = 0;             // of all shards together
    std::uint32_t sessions_per_client_max = 0;  // 0: no limit, as in the three below
    Rate new_sessions;
    /// Bytes to an unassured client, in multiples of bytes from it.
    std::uint32_t amplification_limit = 0;
    std::uint32_t replies_max = 0;  // datagrams to a client for each datagram from it
    std::uint32_t end_after_replies = 0;
    std::uint32_t end_after_requests = 0;
    std::uint32_t datagram_max = 0;  // bytes of payload, either way
    bool copy_dscp = true;
    PathMtu path_mtu = PathMtu::want;
    std::uint64_t member_receive_buffer_bytes = 0;  // 0: the system's default
    bool offload = false;                           // GSO batches; only where trains_supported()

    friend bool operator==(const ProxySettings&, const ProxySettings&) = default;
};
static_assert(std::is_trivially_copyable_v<ProxySettings>,
              "a shard takes new settings between turns, without allocating");

struct ProxySetup : ProxySettings {
    std::string name;
    std::shared_ptr<const Upstream> upstream;  // never null
    std::vector<Address> sources;              // never empty; unspecified: what routing says
    Address routed_source;  // what routing said at start; unspecified: nothing yet
    PortRange ports;
};

/// Versions of upstreams that one shard may hold at a time: those of its proxies, and older ones
/// that sessions still use.
inline constexpr std::size_t upstream_versions_max = 1024;

/// Listener i of the setup has slot i in the engine.
struct ListenerSetup {
    std::uint16_t proxy = 0;
    Endpoint endpoint;
};

/// A source of a proxy and where its ports come from. Source bindings with the same source address
/// share a pool, so that no port is ever leased twice.
struct BindingLocation {
    std::uint16_t proxy = 0;
    Address source;        // unspecified: what routing says
    Address pool_address;  // the pool's source address
    std::uint32_t port_pool = 0;
    std::uint32_t port_range = 0;  // in that pool
    PortRange ports;
};
/// The source bindings with which a shard starts, in their order; the same in all shards.
[[nodiscard]] std::vector<BindingLocation> binding_locations(
    const std::vector<ProxySetup>& proxies);

/// Source bindings of a proxy that is new, or whose sources or ports have changed. The control
/// thread makes the change for one shard, and frees it when the shard has taken what it needs. The
/// shard swaps pools in and out and allocates nothing.
struct SourceBindingChange {
    struct Binding {
        Address source;  // unspecified: what routing says
        std::uint32_t port_pool = 0;
        std::uint32_t port_range = 0;  // in that pool
    };
    struct Pool {
        std::uint32_t index = 0;
        PortPool pool;
        bool is_fresh = false;  // of a new source; else it takes over from the existing pool
    };
    BindingIndex first = 0;
    std::vector<Binding> bindings;
    std::vector<Pool> pools;
};

struct ShardSetup {
    std::uint32_t shard = 0;
    std::uint32_t shards = 1;
    std::vector<ProxySetup> proxies;
    std::vector<ListenerSetup> listeners;
    // The sizes of tables: how many a reload may reach. A size below the number at start means that
    // number.
    std::uint32_t proxies_max = 0;
    std::uint32_t listeners_max = 0;
    std::uint32_t bindings_max = 0;
    std::uint32_t port_pools_max = 0;
    std::uint32_t table_sessions_max = 0;  // of this shard
    std::uint32_t sessions_max = 0;        // [limits], all shards together
    Rate new_sessions;                     // [limits], all shards together
    /// [limits]: groups of each proxy that stand ready for new clients, all shards together.
    std::uint32_t pool_min = 0;
    std::uint32_t descriptors_max = 0;  // for reply groups, all shards together
    std::uint32_t slots_max = 0;        // of the engine
    std::uint32_t buffers_per_leg = 0;  // of the engine
    bool report_sessions = false;       // whether the end of a session is an event
    SipKey key;
    std::vector<PortRange> reserved_ports;  // that ranges may have to spare
    std::uint64_t ports_start = 0;  // where the queues of ports begin; random except in tests
    std::shared_ptr<SharedUse> use;
    std::shared_ptr<Ledger> ledger;  // null: sessions end with the process
};

}  // namespace udpproxy
