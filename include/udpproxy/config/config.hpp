// The configuration as values: what the TOML file says, checked, complete and immutable. The
// runtime makes shards from it. Only config/toml_reader.cpp knows TOML, and nothing here touches
// the network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/log/level.hpp"
#include "udpproxy/net/endpoint.hpp"
#include "udpproxy/net/socket.hpp"
#include "udpproxy/session/port_pool.hpp"

namespace udpproxy {

inline constexpr std::uint32_t config_proxies_max = 256;
/// Open admin connections over all admin sockets together; their descriptors are reserved.
inline constexpr std::uint32_t admin_connections_max = 32;

enum class EngineChoice : std::uint8_t { automatic, io_uring, epoll };
enum class AliasFilter : std::uint8_t { automatic, connected, open };
enum class UnlistedReplies : std::uint8_t { automatic, all, off };
enum class OnChange : std::uint8_t { keep, close };
enum class DscpPolicy : std::uint8_t { copy, clear };
enum class Offload : std::uint8_t { automatic, off };

/// The rate limit of new sessions. `per_second` 0: no limit; no burst: one second's worth.
struct NewSessions {
    std::uint32_t per_second = 0;
    std::optional<std::uint32_t> burst;
};

/// One address to listen on. `":53"` becomes two of them: 0.0.0.0:53 and [::]:53.
struct ListenAddress {
    Endpoint endpoint;
    std::string text;          // as configured, for messages
    std::string interface {};  // of a link-local address, by name

    /// Nothing can listen there until an interface has that name.
    [[nodiscard]] bool is_absent() const noexcept { return is_absent_interface(endpoint.scope); }
    /// One of the two addresses that `":port"` stands for.
    [[nodiscard]] bool is_of_every_family() const noexcept { return text.starts_with(':'); }
    /// The endpoint; as configured while its interface is absent.
    [[nodiscard]] std::string shown() const { return is_absent() ? text : format(endpoint); }
};

/// Where requests go: an endpoint, or a host name that runtime/resolver.hpp resolves.
struct UpstreamAddress {
    std::optional<Endpoint> endpoint;  // set when configured as an address
    std::string host;                  // set when configured as a name
    std::uint16_t port = 0;
    std::string text;
    std::string position{};    // file:line:column, for complaints about the resolver's answer
    std::string interface {};  // of a link-local address, by name
};

/// Another address the same upstream may answer from. An exact address is a prefix of full length.
struct Alias {
    Prefix prefix;
    std::uint32_t scope = 0;
    std::optional<std::uint16_t> port;  // absent: any port
    std::string text;
    std::string interface {};  // of a link-local address, by name

    /// One address and one port, so that a socket can be connected to it.
    [[nodiscard]] bool is_exact() const noexcept;
};

struct ProxyConfig {
    std::string name;
    std::vector<ListenAddress> listen;
    UpstreamAddress upstream;
    std::vector<Alias> reply_aliases;
    OnChange on_change = OnChange::keep;
    AliasFilter alias_filter = AliasFilter::automatic;
    UnlistedReplies unlisted_replies = UnlistedReplies::automatic;
    std::vector<Address> source;     // empty: chosen by routing
    std::optional<PortRange> ports;  // absent: net.ipv4.ip_local_port_range
    Duration port_cooldown = std::chrono::seconds{10};
    Duration idle_timeout = std::chrono::minutes{5};
    Duration unassured_timeout = std::chrono::seconds{30};
    std::optional<std::uint32_t> sessions_max;  // absent: auto
    std::uint32_t sessions_per_client_max = 0;  // 0: no limit, here and below
    NewSessions new_sessions;
    std::uint32_t amplification_limit = 0;
    std::uint32_t replies_max = 0;
    std::uint32_t end_after_replies = 0;
    std::uint32_t end_after_requests = 0;
    std::uint32_t datagram_max = 0;
    DscpPolicy dscp = DscpPolicy::copy;
    PathMtu path_mtu = PathMtu::want;
    Offload offload = Offload::automatic;
    std::uint64_t receive_buffer_bytes = 4 << 20;
    std::uint64_t send_buffer_bytes = 4 << 20;
    std::string position;  // file:line:column of sessions_max, else of the table, for complaints
                           // about this machine's limits
};

/// The sockets for operators and their tools.
struct AdminConfig {
    std::string socket = "/run/udpproxy/admin.sock";  // a Unix socket; empty: none
    bool socket_given = false;  // false: the program also serves when the socket cannot be opened
    std::string group;  // its members may make changes, as root and the program's own user may
    std::optional<Endpoint> listen;  // HTTP, read-only; absent: none
    bool allow_remote = false;       // `listen` may be other than a loopback address
};

struct Config {
    EngineChoice engine = EngineChoice::automatic;
    std::optional<std::uint32_t> shards;  // absent: one per CPU the process may use
    bool cpu_pinning = false;
    Duration busy_poll{};   // 0: off
    Duration batch_wait{};  // 0: off
    LogLevel log_level = LogLevel::info;
    LogFormat log_format = LogFormat::text;
    std::string log_file;  // empty: standard error
    bool log_sessions = false;
    std::optional<std::uint32_t> sessions_max;  // [limits]; absent: auto
    std::string sessions_max_position;  // file:line:column of limits.sessions_max when given
    NewSessions new_sessions;           // [limits]
    std::uint32_t pool_min = 0;         // [limits]
    AdminConfig admin;
    std::vector<ProxyConfig> proxies;
};

/// Every complaint in the order of the file, each a whole line: `file:line:column: proxy "dns":
/// key: what is wrong, and what would be right`.
struct ConfigComplaints {
    std::vector<std::string> lines;
};

/// Time for a file to be read. At the start a pipe's writer may take long, and a signal ends the
/// program meanwhile; at a reload the control thread waits.
inline constexpr Duration config_read_limit_at_start = std::chrono::seconds{10};
inline constexpr Duration config_read_limit_at_reload = std::chrono::seconds{2};

/// Reads and checks `path`, a file or a pipe, within `limit`. Opens nothing else.
[[nodiscard]] std::variant<Config, ConfigComplaints> read_config(
    const std::string& path, Duration limit = config_read_limit_at_start);
/// The same from memory; complaints call the text `name`, and a line that has an origin by that.
[[nodiscard]] std::variant<Config, ConfigComplaints> parse_config(
    std::string_view text, const std::string& name, std::vector<std::string> origins = {});
/// The keys that differ from their defaults, as a file that parse_config() reads as the same
/// configuration.
[[nodiscard]] std::string toml_of(const Config& config);
/// The same for one [[proxy]] table.
[[nodiscard]] std::string toml_of(const ProxyConfig& proxy);
struct InterfaceNews {
    bool has_changed = false;  // an index is another than before
    bool is_complete = true;   // every interface could be asked for
};
/// Looks up the interfaces of link-local addresses by name again. One that cannot be asked for now
/// (no descriptor, no memory) keeps its index.
[[nodiscard]] InterfaceNews find_interfaces(Config& config);
/// What --check-config prints: one short paragraph per proxy and one line for the rest.
[[nodiscard]] std::string summarise(const Config& config, std::string_view automatic_shards = {});

}  // namespace udpproxy
