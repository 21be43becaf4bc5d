// A configuration in TOML: complaints that a person can read, or a Config that is still accepted,
// and the same, when it is written down again.
#include "udpproxy/config/config.hpp"
#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"
#include "unit/config_dump.hpp"

namespace udpproxy::fuzz {

void config(Bytes input) {
    const auto outcome = parse_config(Input::text_of(input), "file");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome)) {
        UDPPROXY_ASSERT(!complaints->lines.empty());
        for (const std::string& line : complaints->lines)
            UDPPROXY_ASSERT(line.starts_with("file:") && is_one_line(line));
        return;
    }
    const Config& accepted = std::get<Config>(outcome);
    UDPPROXY_ASSERT(!accepted.proxies.empty() && accepted.proxies.size() <= config_proxies_max);
    UDPPROXY_ASSERT(summarise(accepted).ends_with('\n'));
    const auto again = parse_config(toml_of(accepted), "again");
    UDPPROXY_ASSERT(std::holds_alternative<Config>(again));
    UDPPROXY_ASSERT(dump(std::get<Config>(again)) == dump(accepted));
    UDPPROXY_ASSERT(std::get<Config>(again).admin.socket_given == accepted.admin.socket_given);
}

}  // namespace udpproxy::fuzz
