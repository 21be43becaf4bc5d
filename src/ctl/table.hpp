// Text in a given number of columns: tables, and lines that are broken between words. Nothing is
// silently cut: a shortened name shows an ellipsis, and a table names the columns it left out.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace udpproxy::ctl {

/// For an output that is no terminal: nothing is shortened, broken or left out.
inline constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
/// Narrower terminals get lines of this width.
inline constexpr std::size_t width_min = 40;

struct Column {
    std::string heading;
    bool is_number = false;  // flush right
    int rank = 0;            // the highest rank is left out first; 0: always there
    std::size_t least = 0;   // cells are shortened to this width before a column is left out;
                             // 0: only when nothing else is left
    bool wraps = false;      // for the last column: its cells are broken into several lines
};
using Rows = std::vector<std::vector<std::string>>;

/// Rows under their headings, no line wider than `width` (at least `width_min`). A last line names
/// the columns that found no room.
[[nodiscard]] std::string table(const std::vector<Column>& columns, const Rows& rows,
                                std::size_t width);

/// The line, broken at blanks into lines of at most `width`; all but the first are indented by
/// `indent`. A longer word is broken where the line ends.
[[nodiscard]] std::string wrapped(std::string_view line, std::size_t indent, std::size_t width);

/// Columns that a terminal gives the text. A character beyond ASCII counts as one.
[[nodiscard]] std::size_t width_of(std::string_view text);

/// The text in at most `width` columns: its beginning and its end with an ellipsis between them.
[[nodiscard]] std::string shortened(const std::string& text, std::size_t width);

}  // namespace udpproxy::ctl
