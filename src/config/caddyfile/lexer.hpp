// A Caddyfile as words with their places, lines kept apart: what is quoted, what is a comment, what
// a variable stands for. What the words mean is caddyfile.cpp's.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/tree.hpp"
#include "udpproxy/config/caddyfile.hpp"

namespace udpproxy {

struct CaddyWord {
    Position at;
    std::string text;
    bool is_quoted = false;  // a quoted brace is a word like any other
};

using CaddyLine = std::vector<CaddyWord>;

/// The lines that have words. Complains about quotation marks that are not closed and variables
/// that are not set.
[[nodiscard]] std::vector<CaddyLine> read_caddy_lines(std::string_view text,
                                                      const Environment& environment,
                                                      Complaints& complaints);

}  // namespace udpproxy
