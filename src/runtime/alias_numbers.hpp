// Which counter of its proxy counts the replies of an alias.
#pragma once

#include <cstdint>
#include <vector>

#include "udpproxy/runtime/reconfigurer.hpp"

namespace udpproxy {

/// The counter numbers of the proxy's aliases, in the order of the aliases. A new alias gets a
/// number that was never used. If none is left, it gets the number of an alias that has gone.
[[nodiscard]] std::vector<std::uint8_t> number_aliases(ProxySlot& slot);

}  // namespace udpproxy
