// Finds the text that toml++ does not survive, before it is parsed. Called by toml_reader.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tree.hpp"

namespace udpproxy {

struct TextFault {
    Position at;
    std::string message;
    std::string_view lines_before;  // safe to parse; an error there is reported first
};

/// The first place that toml++ 3.3.0 must not be shown. All were found by mutating files, none can
/// stand in a configuration of ours:
/// - a dotted key of very many parts: a table is made of each, and they are destroyed recursively
/// (50 000 overflow the stack; toml++ bounds
///   the nesting of values itself);
/// - a letter beyond ASCII outside strings and comments, where TOML 1.0 has none, and behind the
/// `\` that joins the lines of a string:
///   is_non_ascii_horizontal_whitespace() reaches TOML_UNREACHABLE for U+00A1 to U+0499. Strings of
///   several lines are refused for it.
[[nodiscard]] std::optional<TextFault> find_fault(std::string_view text);

/// The text with an `x` for each character beyond ASCII, all positions unchanged. In a file that is
/// no TOML, what looks like a string may be none to the parser, and it would stumble over its
/// letters as above. The shadow is parsed first: errors of syntax come from there.
[[nodiscard]] std::string ascii_shadow(std::string_view text);

}  // namespace udpproxy
