// Splits a Caddyfile into lines of words with positions, and resolves quotation marks, comments and
// variables. reader.cpp knows what the words mean.
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

/// The lines that contain words. Complains about unclosed quotation marks and unset variables.
[[nodiscard]] std::vector<CaddyLine> read_caddy_lines(std::string_view text,
                                                      const Environment& environment,
                                                      Complaints& complaints);

}  // namespace udpproxy
