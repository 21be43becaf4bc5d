// Room: how many sessions the machine's descriptors and ports allow, with the arithmetic in words,
// and the refusal of numbers that cannot fit. Pure functions over the configuration and the
// machine's limits.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/shard/setup.hpp"

namespace udpproxy {

inline constexpr std::uint32_t sessions_per_proxy_max = 65536;

/// What the arithmetic needs to know of the machine.
struct MachineRoom {
    std::uint64_t descriptors = 0;  // RLIMIT_NOFILE
    std::uint32_t shards = 1;
    PortRange ephemeral;
};

struct ProxyRoom {
    std::uint32_t sessions_max = 0;
    std::string arithmetic;  // `(20000 descriptors - 108 reserved) / 3 per session = 6630; 28232
                             // ports; at most 65536`
};

struct Room {
    std::uint32_t descriptors_reserved = 0;
    std::uint32_t descriptors_max = 0;  // for reply groups
    std::uint32_t sessions_max = 0;     // all proxies together
    std::vector<ProxyRoom> proxies;
    std::vector<std::string> complaints;  // numbers that cannot fit, as lines with file:line:column
};

/// `proxies` are the configuration's, made into setups (members and ports are read from them; their
/// sessions_max is not).
[[nodiscard]] Room reckon_room(const Config& config, const std::vector<ProxySetup>& proxies,
                               const MachineRoom& machine);

[[nodiscard]] Rate rate_of(const NewSessions& limit);

/// What a reload changes in place. sessions_max is left at 0.
[[nodiscard]] ProxySettings settings_of(const ProxyConfig& config);

/// The address that requests to `upstream` leave from when nothing is configured; unspecified:
/// there is no way now.
[[nodiscard]] Address routed_source_towards(const Endpoint& upstream);

/// How a proxy's upstream is called in the log.
[[nodiscard]] std::string text_of(const Upstream& upstream, const ProxyConfig& proxy);

/// A version of the proxy's upstream. `endpoint` with port 0: its host name has no address yet.
[[nodiscard]] std::shared_ptr<const Upstream> upstream_of(
    const ProxyConfig& config, const Endpoint& endpoint, std::uint32_t version,
    std::vector<std::uint8_t> counter_indices = {});

/// A proxy of the configuration as its shard needs it, with the first version of its upstream.
/// sessions_max is left at 0.
[[nodiscard]] ProxySetup setup_of(const ProxyConfig& config, const Endpoint& upstream,
                                  const PortRange& ephemeral);

}  // namespace udpproxy
