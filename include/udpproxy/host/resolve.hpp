// One question to the system's resolver, /etc/hosts included. It may take half a minute to answer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/net/endpoint.hpp"

namespace udpproxy {

/// All addresses of a name, of one family if given, in the resolver's order. Blocks; control thread
/// only. Errors: `upstream "name:53": Name or service not known`.
[[nodiscard]] Result<std::vector<Endpoint>> resolve(const std::string& host, std::uint16_t port,
                                                    std::optional<Family> family);

}  // namespace udpproxy
