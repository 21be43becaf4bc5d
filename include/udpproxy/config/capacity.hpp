// Capacity: how many sessions a configuration may have on a machine, with the arithmetic in words,
// and the complaints about numbers that exceed it. One pure function for the start, for reloads,
// for --check-config, for the doctor and for what is shown.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/reserved.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/session/upstream.hpp"

namespace udpproxy {

inline constexpr std::uint32_t sessions_per_proxy_max = 65536;

/// The limits of this machine that capacity depends on.
struct MachineLimits {
    std::uint64_t descriptors = 0;  // RLIMIT_NOFILE, or what fit_address_space() leaves of it
    std::uint32_t shards = 1;
    PortRange ephemeral;                         // net.ipv4.ip_local_port_range
    std::vector<PortRange> reserved_ports = {};  // net.ipv4.ip_local_reserved_ports
};

/// The sizes of tables: as much as the machine allows, whatever the configuration of the start
/// asks for, so that a reload may bring more. They are made in reserved address space (Reserved).
struct TableSizes {
    std::uint32_t listeners = 0;        // addresses, those that drain included
    std::uint32_t source_bindings = 0;  // likewise
    std::uint32_t port_pools = 0;       // likewise
    std::uint32_t slots = 0;            // of each shard, listeners and members together
    std::uint32_t sessions = 0;         // of each shard
    std::uint32_t clients = 0;          // of all shards together
    std::uint32_t buffers_per_leg = 0;  // of each shard, 64 KiB each
    std::uint64_t bytes = 0;            // of address space, about; buffers included
    std::uint64_t ledger_bytes = 0;     // of address space that only RLIMIT_AS counts, besides
};

[[nodiscard]] TableSizes table_sizes(const MachineLimits& machine);

/// The machine with as many descriptors as `fits` finds address space for their tables: by halves
/// from RLIMIT_NOFILE, but no fewer than 1024.
[[nodiscard]] MachineLimits fit_address_space(MachineLimits machine,
                                              bool (*fits)(std::size_t) = can_reserve);
/// Why the ledger cannot be made beside the tables: sessions end with the process. Empty if it can.
[[nodiscard]] std::string want_of_ledger(const TableSizes& sizes);
/// Why fit_address_space() returns fewer.
inline constexpr std::string_view address_space_short =
    "address space is short: RLIMIT_AS, or vm.overcommit_memory = 2";

struct ProxyCapacity {
    std::uint32_t sessions_max = 0;
    std::uint64_t ports = 0;  // of all of its source addresses
    std::string arithmetic;   // `(20000 descriptors - 108 reserved) / 3 per session = 6630; 28232
                              // ports; at most 65536`
};

struct Capacity {
    std::uint32_t descriptors_reserved = 0;
    std::uint32_t descriptors_max = 0;  // for reply groups
    std::uint32_t sessions_max = 0;     // all proxies together
    std::vector<ProxyCapacity> proxies;
    std::vector<std::string> complaints;  // numbers that exceed a limit, with file:line:column
    // Where the configuration asks for no number, and there are fewer sessions than few_sessions:
    // `2 sessions at most, for want of descriptors: (100 descriptors - 92 reserved) / 3 per
    // session`; else empty.
    std::string want_of_descriptors;
};
inline constexpr std::uint32_t few_sessions = 1024;
/// What gives more descriptors.
inline constexpr std::string_view more_descriptors = "LimitNOFILE= in the unit, or ulimit -Hn";

[[nodiscard]] Capacity compute_capacity(const Config& config, const MachineLimits& machine);

/// Whether the kernel checks that a reply comes from an alias (connected members). It does if the
/// configuration asks for it, or if all aliases are exact and few; otherwise the program checks.
[[nodiscard]] AliasMembers alias_members_of(const ProxyConfig& config);

}  // namespace udpproxy
