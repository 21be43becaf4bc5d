// Nothing here knows what is shown. Colours mark words, never carry a meaning of their own.
#include "screen.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include "udpproxy/base/printable.hpp"

namespace udpproxy::ctl {

namespace {

// What a terminal has that does not tell, as serial lines do.
constexpr std::size_t usual_width = 80;
constexpr std::size_t usual_rows = 24;

std::string_view variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? std::string_view{} : value;
}

std::optional<std::size_t> width_wanted() {
    const std::string_view text = variable("COLUMNS");
    std::size_t width = 0;
    const auto read = std::from_chars(text.data(), text.data() + text.size(), width);
    const bool is_right = read.ec == std::errc{} && read.ptr == text.data() + text.size();
    return is_right && width > 0 ? std::optional{width} : std::nullopt;
}

struct Mark {
    std::string_view word;
    Ink ink;
};
constexpr std::array<Mark, 5> marks{{
    {"PROBLEM", Ink::bad},
    {"problem", Ink::bad},
    {"note", Ink::remark},
    {"ok", Ink::good},
    {"no problems", Ink::good},
}};

/// The bytes at the line's beginning that have a colour.
std::size_t marked(std::string_view line, Ink& ink) {
    for (const Mark& mark : marks) {
        const std::size_t end = mark.word.size();
        if (line.starts_with(mark.word) && (line.size() == end || line[end] == ' ')) {
            ink = mark.ink;
            return end;
        }
    }
    return 0;
}

}  // namespace

Screen look_at_screen() {
    Screen screen;
    screen.is_terminal = ::isatty(STDOUT_FILENO) == 1;
    if (screen.is_terminal) {
        winsize size{};
        (void)::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        screen.width = size.ws_col > 0 ? size.ws_col : usual_width;
        screen.rows = size.ws_row > 0 ? size.ws_row : usual_rows;
        screen.has_colours = variable("NO_COLOR").empty() && variable("TERM") != "dumb";
    }
    if (const std::optional<std::size_t> width = width_wanted()) screen.width = *width;
    screen.width = std::max(screen.width, width_min);
    return screen;
}

void print_on(const Screen& screen, std::string_view text) {
    if (!screen.has_colours) return print(text);
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        Ink ink{};
        const std::size_t coloured = marked(text.substr(0, end - 1), ink);
        if (coloured > 0) print_in(ink, text.substr(0, coloured));
        print(text.substr(coloured, end - coloured));
        text.remove_prefix(end);
    }
}

}  // namespace udpproxy::ctl
