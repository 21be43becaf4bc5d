// One [[proxy]] as it was read, together with the positions of its values: checks across keys and
// across proxies (check.cpp) name them in their complaints. sections.cpp drops the positions after
// the checks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tree.hpp"
#include "udpproxy/config/config.hpp"

namespace udpproxy {

struct ProxyDraft {
    ProxyConfig config;
    std::string label;                    // `proxy "dns"`, or `proxy[0]` while it has no name
    Location name;                        // of the keys' values; of the table where a key is absent
    std::vector<Location> listen;         // one for each of config.listen
    Location upstream;                    //
    std::vector<Location> reply_aliases;  // one for each of config.reply_aliases
    std::vector<Location> source;         // one for each of config.source
    Location alias_filter;                //
    Location sessions_max;                //
    std::optional<Location> new_sessions_burst;  // absent: the default holds
    std::optional<Location> idle_timeout;        // absent: the default holds
    std::optional<Location> unassured_timeout;   // absent: the default holds
    bool upstream_valid = false;
    bool timeouts_valid = false;
};

/// Reads the `index`th [[proxy]], counted from 0. An invalid value leads to a complaint and is left
/// out of the draft.
[[nodiscard]] ProxyDraft read_proxy(const ConfigNode& table, std::size_t index,
                                    Complaints& complaints);

/// Complains about a burst without a rate limit.
void check_burst(const NewSessions& limit, const Location& burst, Complaints& complaints);
/// Checks what the keys of one proxy must agree on, and then what all proxies must.
void check_proxies(const std::vector<ProxyDraft>& drafts, Complaints& complaints);

}  // namespace udpproxy
