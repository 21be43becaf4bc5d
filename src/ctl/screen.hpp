// Standard output as a person sees it: how wide it is, and whether it shows colours.
#pragma once

#include <cstddef>
#include <string_view>

#include "table.hpp"

namespace udpproxy::ctl {

struct Screen {
    bool is_terminal = false;
    bool has_colours = false;  // a terminal, and neither NO_COLOR nor TERM=dumb
    std::size_t width = unlimited;
    std::size_t rows = unlimited;
};

/// COLUMNS goes before what the terminal says. An output that is no terminal has no width of its
/// own.
[[nodiscard]] Screen look_at_screen();

/// Prints lines. With colours, the word that a line begins with shows how grave it is: PROBLEM and
/// problem, note, ok.
void print_on(const Screen& screen, std::string_view text);

}  // namespace udpproxy::ctl
