// Converts a Caddyfile to TOML that --check-config accepts. The server blocks are those of the
// Caddy 1 plugin that this program succeeds:
//     proxy :12345 10.0.0.254:12345 { reply-addr-alias 10.0.0.253:12345 10.0.0.252:12345 }
// Called by main for --from-caddyfile; nothing else knows the format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

inline constexpr std::size_t caddyfile_bytes_max = std::size_t{1} << 20;

/// The value of an environment variable, nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;
/// The UDP port of a service (`domain` is 53), nothing when it is not known.
using ServicePorts = std::function<std::optional<std::uint16_t>(const std::string& name)>;
/// The addresses of a host name, none when it is not resolved.
using HostAddresses = std::function<std::vector<Address>(const std::string& name)>;

/// The TOML, or every complaint as `file:line:column: directive: what is wrong, and what would be
/// right`. The TOML has passed parse_config(). `{$NAME}` and `{%NAME%}` become the variable's
/// value, as in Caddy; a variable that is not set is a complaint, where Caddy inserts nothing.
/// Names of services become ports, host names to listen on or of aliases their present addresses.
[[nodiscard]] std::variant<std::string, ConfigComplaints> migrate_caddyfile(
    std::string_view text, const std::string& name, const Environment& environment,
    const ServicePorts& service_ports = nullptr, const HostAddresses& host_addresses = nullptr);
/// The same from a file, with the process's environment, and what this host knows of names.
[[nodiscard]] std::variant<std::string, ConfigComplaints> migrate_caddyfile(
    const std::string& path);

}  // namespace udpproxy
