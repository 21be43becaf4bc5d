// The configuration's text before it is parsed.
#pragma once

#include <optional>
#include <string_view>

#include "config_tree.hpp"

namespace udpproxy {

/// Where a dotted key has more parts than any key of ours could have. toml++ makes a table of each part and destroys them recursively (seen
/// with 3.3.0: a key of 50 000 parts overflows the stack), while it bounds the nesting of values itself.
[[nodiscard]] std::optional<Position> find_deep_key(std::string_view text);

}  // namespace udpproxy
