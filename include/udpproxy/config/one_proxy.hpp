// One proxy without a file: what the options of the command line say, as the TOML that says the
// same. Complaints name the options.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "udpproxy/config/config.hpp"

namespace udpproxy {

/// What such a configuration is called where a file has its name.
inline constexpr std::string_view command_line = "command line";
[[nodiscard]] inline std::string shown_config(const std::string& file) {
    return file.empty() ? std::string{command_line} : file;
}

struct OneProxy {
    std::optional<std::string> name;         // --name; else "udpproxy"
    std::vector<std::string> listen;         // --listen
    std::optional<std::string> upstream;     // --upstream
    std::vector<std::string> reply_aliases;  // --reply-alias
    std::vector<std::string> settings;       // --set, each KEY=VALUE
};

/// The TOML with one line for each option, and what each line came from.
struct OneProxyText {
    std::string toml;
    std::vector<std::string> origins;
};

/// A value of --set that is a number, true, false, a TOML string or a TOML list is taken as TOML;
/// any other one is a string.
[[nodiscard]] OneProxyText text_of(const OneProxy& options);
/// Complaints: those of parse_config(), with the option instead of file, line and column; about an
/// option that is missing, with command_line.
[[nodiscard]] std::variant<Config, ConfigComplaints> parse_one_proxy(const OneProxy& options);

}  // namespace udpproxy
