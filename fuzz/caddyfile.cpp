// A Caddyfile: complaints that a person can read, or TOML that is accepted and has the proxies that
// were converted. The first line is the value of the environment variable E.
#include "udpproxy/config/caddyfile.hpp"
#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy::fuzz {

void caddyfile(Bytes bytes) {
    Input input(bytes);
    const std::string variable{input.line()};
    const std::string_view text = input.rest();
    const auto convert = [&] {
        return migrate_caddyfile(text, "Caddyfile",
                                 [&](const std::string& name) -> std::optional<std::string> {
                                     if (name == "E") return variable;
                                     return std::nullopt;
                                 });
    };
    const auto outcome = convert();
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome)) {
        UDPPROXY_ASSERT(!complaints->lines.empty());
        for (const std::string& line : complaints->lines)
            UDPPROXY_ASSERT(line.starts_with("Caddyfile:") && is_one_line(line));
        return;
    }
    const std::string& toml = std::get<std::string>(outcome);
    const auto config = parse_config(toml, "toml");
    UDPPROXY_ASSERT(std::holds_alternative<Config>(config));
    std::size_t tables = 0;
    for (std::size_t at = toml.find("[[proxy]]\n"); at != std::string::npos;
         at = toml.find("[[proxy]]\n", at + 1))
        ++tables;
    UDPPROXY_ASSERT(std::get<Config>(config).proxies.size() == tables);
    const auto again = convert();
    UDPPROXY_ASSERT(std::holds_alternative<std::string>(again) &&
                    std::get<std::string>(again) == toml);
}

}  // namespace udpproxy::fuzz
