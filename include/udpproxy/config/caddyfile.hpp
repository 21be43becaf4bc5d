// Converts a Caddyfile to TOML that --check-config accepts. The server blocks are those of the
// Caddy 1 plugin that this program succeeds:
//     proxy :12345 10.0.0.254:12345 { reply-addr-alias 10.0.0.253:12345 10.0.0.252:12345 }
// Called by main for --from-caddyfile; nothing else knows the format.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

/// The value of an environment variable, nothing when it is not set.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The TOML, or every complaint as `file:line:column: directive: what is wrong, and what would be
/// right`. The TOML has passed parse_config(). `{$NAME}` and `{%NAME%}` become the variable's
/// value, as in Caddy; a variable that is not set is a complaint, where Caddy inserts nothing.
[[nodiscard]] std::variant<std::string, ConfigComplaints> migrate_caddyfile(
    std::string_view text, const std::string& name, const Environment& environment);
/// The same from a file, with the process's environment.
[[nodiscard]] std::variant<std::string, ConfigComplaints> migrate_caddyfile(
    const std::string& path);

}  // namespace udpproxy
