// The options of the command line become TOML, so that they have the file's parser, its checks and
// its complaints.
#include "udpproxy/config/one_proxy.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "toml_value.hpp"
#include "tree.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

/// Whether the value is meant as TOML, and is a whole value: the next option's line must not become
/// a part of it.
bool is_toml(std::string_view value) {
    const bool is_number =
        !value.empty() && value.find_first_not_of("0123456789_") == std::string_view::npos;
    const bool is_meant = is_number || value == "true" || value == "false" ||
                          value.starts_with('"') || value.starts_with('\'') ||
                          value.starts_with('[');
    return is_meant && is_toml_value(value);
}

/// Why the text is not KEY=VALUE; empty if it is.
std::string fault_of(const std::string& setting) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) return "write KEY=VALUE";
    const std::string key = setting.substr(0, equals);
    if (key_text(key) != key) return in_quotes(key) + " is no key";
    // A line break would begin another key.
    if (std::any_of(setting.begin(), setting.end(),
                    [](unsigned char character) { return character < 0x20 || character == 0x7f; }))
        return "has a control character";
    return {};
}

}  // namespace

OneProxyText text_of(const OneProxy& options) {
    OneProxyText text;
    const auto line = [&](const std::string& origin, const std::string& written) {
        text.toml += written + '\n';
        text.origins.push_back(origin);
    };
    const auto is_set = [&](std::string_view key) {
        return std::any_of(options.settings.begin(), options.settings.end(),
                           [&](const std::string& setting) {
                               return setting.starts_with(std::string{key} + '=');
                           });
    };
    line(std::string{command_line}, "[[proxy]]");
    if (options.name || !is_set("name"))
        line("--name", "name = " + toml_string(options.name.value_or("udpproxy")));
    if (options.listen.size() == 1)
        line("--listen", "listen = " + toml_string(options.listen.front()));
    else if (!options.listen.empty())
        line("--listen", "listen = " + toml_list(options.listen));
    if (options.upstream) line("--upstream", "upstream = " + toml_string(*options.upstream));
    if (!options.reply_aliases.empty())
        line("--reply-alias", "reply_aliases = " + toml_list(options.reply_aliases));
    for (const std::string& setting : options.settings) {
        const std::size_t equals = std::min(setting.find('='), setting.size());
        const std::string key = setting.substr(0, equals);
        const std::string value = equals < setting.size() ? setting.substr(equals + 1) : "";
        line("--set " + key, key + " = " + (is_toml(value) ? value : toml_string(value)));
    }
    return text;
}

std::variant<Config, ConfigComplaints> parse_one_proxy(const OneProxy& options) {
    ConfigComplaints faults;
    for (const std::string& setting : options.settings)
        if (const std::string fault = fault_of(setting); !fault.empty())
            faults.lines.push_back(fmt::format("--set {}: {}", printable(setting), fault));
    if (!faults.lines.empty()) return faults;
    OneProxyText text = text_of(options);
    return parse_config(text.toml, std::string{command_line}, std::move(text.origins));
}

}  // namespace udpproxy
