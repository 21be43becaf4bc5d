// What a line that the TOML parser refuses most likely lacks. The parser's own words speak of its
// grammar (`could not determine value type`); nearly always quotation marks are missing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tree.hpp"

namespace udpproxy {

struct SyntaxAdvice {
    Position at;
    std::string message;
};
/// `refused` are the parser's words about a place in the text. Nothing: they say it better.
[[nodiscard]] std::optional<SyntaxAdvice> advise(std::string_view text, Position refused_at,
                                                 std::string_view refused);

}  // namespace udpproxy
