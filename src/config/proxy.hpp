// One [[proxy]] as it was read, with the places of its values, which the checks across keys and
// proxies need for their complaints.
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

/// Reads the table, which is the `index`th [[proxy]], counted from 0. What is invalid is left out
/// of the draft and complained about.
[[nodiscard]] ProxyDraft read_proxy(const ConfigNode& table, std::size_t index,
                                    Complaints& complaints);

/// A burst means nothing where the pace is not limited.
void check_burst(const NewSessions& limit, const Location& burst, Complaints& complaints);
/// What the keys of a proxy, and proxies among each other, must agree on.
void check_proxies(const std::vector<ProxyDraft>& drafts, Complaints& complaints);

}  // namespace udpproxy
