// Which columns of a table stay, and how wide each is: names are shortened first, then columns are
// left out by their rank, at last every cell is shortened.
#include "table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy::ctl {

namespace {

constexpr std::size_t gap = 2;
constexpr std::string_view ellipsis = "\u2026";
/// Narrower, a cell that is broken into lines is no text any more.
constexpr std::size_t wrapped_cell_min = 32;

/// The byte at which the text's character with this number begins, or the text's end.
std::size_t offset_of(std::string_view text, std::size_t character) {
    std::size_t offset = 0;
    for (std::size_t seen = 0; offset < text.size(); ++offset)
        if (begins_character(text[offset]) && seen++ == character) return offset;
    return offset;
}

/// The last blank up to `end` at which the line may be broken: behind its indentation, and not
/// inside a number, `12 345`.
std::size_t last_break(std::string_view line, std::size_t end) {
    const auto is_digit = [&](std::size_t at) { return line[at] >= '0' && line[at] <= '9'; };
    const std::size_t text = line.find_first_not_of(' ');
    for (std::size_t blank = line.rfind(' ', end); blank != std::string_view::npos && blank > text;
         blank = line.rfind(' ', blank - 1))
        if (!is_digit(blank - 1) || !is_digit(blank + 1)) return blank;
    return std::string_view::npos;
}

struct Layout {
    std::vector<std::size_t> columns;  // those that stay, as indices
    std::vector<std::size_t> widths;   // of each of them
};

std::size_t total(const std::vector<std::size_t>& widths) {
    return std::accumulate(widths.begin(), widths.end(), gap * (widths.size() - 1));
}

/// Narrows the widest columns until the table fits, none below its least width.
void narrow(std::vector<std::size_t>& widths, const std::vector<std::size_t>& least,
            std::size_t width) {
    while (total(widths) > width) {
        std::size_t widest = widths.size();
        for (std::size_t i = 0; i < widths.size(); ++i)
            if (widths[i] > least[i] && (widest == widths.size() || widths[i] > widths[widest]))
                widest = i;
        if (widest == widths.size()) return;
        --widths[widest];
    }
}

Layout lay_out(const std::vector<Column>& columns, const std::vector<std::size_t>& natural,
               std::size_t width) {
    Layout layout;
    for (std::size_t i = 0; i < columns.size(); ++i) layout.columns.push_back(i);
    for (;;) {
        std::vector<std::size_t> least;
        layout.widths.clear();
        for (const std::size_t i : layout.columns) {
            layout.widths.push_back(natural[i]);
            const std::size_t wanted = columns[i].wraps ? wrapped_cell_min : columns[i].least;
            least.push_back(wanted == 0 ? natural[i] : std::min(wanted, natural[i]));
        }
        narrow(layout.widths, least, width);
        if (total(layout.widths) <= width) return layout;
        const auto first_to_go = std::max_element(
            layout.columns.begin(), layout.columns.end(), [&](std::size_t left, std::size_t right) {
                return columns[left].rank < columns[right].rank;
            });
        if (columns[*first_to_go].rank > 0) {
            layout.columns.erase(first_to_go);
            continue;
        }
        narrow(layout.widths, std::vector<std::size_t>(layout.widths.size(), 1), width);
        return layout;
    }
}

std::string cell(const std::string& text, std::size_t width, bool is_number) {
    const std::string shown = shortened(text, width);
    const std::string blanks(width - width_of(shown), ' ');
    return is_number ? blanks + shown : shown + blanks;
}

void add_line(const std::vector<Column>& columns, const Layout& layout,
              const std::vector<std::string>& row, std::size_t width, std::string& made) {
    std::string line;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < layout.columns.size(); ++i) {
        const Column& column = columns[layout.columns[i]];
        const std::string& text = row[layout.columns[i]];
        if (i > 0) line += std::string(gap, ' ');
        if (column.wraps)
            line += wrapped(std::string(begin, ' ') + text, begin, width).substr(begin);
        else
            line += cell(text, layout.widths[i], column.is_number);
        begin += layout.widths[i] + gap;
    }
    made += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
}

}  // namespace

std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins_character));
}

std::string shortened(const std::string& text, std::size_t width) {
    const std::size_t all = width_of(text);
    if (all <= width) return text;
    const std::size_t kept = width - 1;
    return text.substr(0, offset_of(text, kept - kept / 2)) + std::string{ellipsis} +
           text.substr(offset_of(text, all - kept / 2));
}

std::string wrapped(std::string_view line, std::size_t indent, std::size_t width) {
    UDPPROXY_ASSERT(indent < width);
    line = line.substr(0, line.find_last_not_of(' ') + 1);
    std::string made;
    std::size_t taken = 0;  // columns of the line that is being made
    while (width_of(line) + taken > width) {
        std::size_t end = offset_of(line, width - taken);
        std::size_t next = end;
        if (const std::size_t blank = last_break(line, end); blank != std::string_view::npos) {
            const std::string_view rest = line.substr(blank + 1);
            // A word that no line has room for begins where the line before it ends.
            if (width_of(rest.substr(0, rest.find(' '))) + indent <= width) {
                end = line.find_last_not_of(' ', blank) + 1;
                next = blank + 1;
            }
        }
        made += line.substr(0, end);
        line.remove_prefix(next);
        made += '\n' + std::string(indent, ' ');
        taken = indent;
    }
    return made += line;
}

std::string table(const std::vector<Column>& columns, const Rows& rows, std::size_t width) {
    width = std::max(width, width_min);
    std::vector<std::size_t> natural;
    std::vector<std::string> headings;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        headings.push_back(columns[i].heading);
        natural.push_back(width_of(columns[i].heading));
        for (const auto& row : rows) natural[i] = std::max(natural[i], width_of(row[i]));
    }
    const Layout layout = lay_out(columns, natural, width);
    std::string made;
    add_line(columns, layout, headings, width, made);
    for (const auto& row : rows) add_line(columns, layout, row, width, made);
    std::string left_out;
    for (std::size_t i = 0; i < columns.size(); ++i)
        if (std::find(layout.columns.begin(), layout.columns.end(), i) == layout.columns.end())
            left_out += (left_out.empty() ? "" : ", ") + columns[i].heading;
    if (!left_out.empty())
        made += wrapped("not shown, for want of width: " + left_out, 2, width) + '\n';
    return made;
}

}  // namespace udpproxy::ctl
