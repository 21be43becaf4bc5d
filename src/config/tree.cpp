// Complaints in the order of the file, and the pieces of text that they are made of.
#include "tree.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

std::string Complaints::position(Position at) const {
    return fmt::format("{}:{}:{}", file_, at.line, at.column);
}

std::vector<std::string> Complaints::lines() const {
    constexpr std::size_t lines_max = 1000;
    std::vector<const Complaint*> sorted;
    sorted.reserve(complaints_.size());
    for (const Complaint& complaint : complaints_) sorted.push_back(&complaint);
    std::stable_sort(
        sorted.begin(), sorted.end(),
        [](const Complaint* left, const Complaint* right) { return left->at < right->at; });
    std::vector<std::string> lines;
    for (const Complaint* complaint : sorted) {
        if (lines.size() == lines_max) {
            lines.push_back(fmt::format("{}: {} more complaints are not shown", file_,
                                        sorted.size() - lines_max));
            break;
        }
        lines.push_back(position(complaint->at) + ": " + complaint->text);
    }
    return lines;
}

std::string_view encoding_fault(std::string_view text) {
    const std::string_view mark =
        text.substr(0, 2);  // a byte order mark, or half of an ASCII letter
    if (mark == "\xff\xfe" || mark == "\xfe\xff" || mark.find('\0') != std::string_view::npos)
        return "it is UTF-16; save it as UTF-8";
    return {};
}

std::string quoted(std::string_view text) {
    constexpr std::size_t shown_max = 100;
    std::size_t shown = std::min(text.size(), shown_max);
    // Cut between characters: UTF-8 continuation bytes are 10xxxxxx.
    while (shown > 0 && shown < text.size() &&
           (static_cast<unsigned char>(text[shown]) & 0xc0U) == 0x80U)
        --shown;
    return fmt::format("\"{}{}\"", printable(text.substr(0, shown)),
                       shown < text.size() ? "..." : "");
}

namespace {

/// The number of letters to insert, remove, replace or swap with a neighbour (optimal string
/// alignment).
std::size_t edit_distance(std::string_view left, std::string_view right) {
    const std::size_t width = right.size() + 1;
    std::vector<std::size_t> before_last(width);
    std::vector<std::size_t> last(width);
    std::vector<std::size_t> row(width);
    for (std::size_t column = 0; column < width; ++column) row[column] = column;
    for (std::size_t i = 1; i <= left.size(); ++i) {
        before_last.swap(last);
        last.swap(row);
        row[0] = i;
        for (std::size_t j = 1; j < width; ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1,
                               last[j - 1] + (left[i - 1] == right[j - 1] ? 0U : 1U)});
            const bool swapped =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
    }
    return row[width - 1];
}

}  // namespace

std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates) {
    constexpr std::size_t name_max = 64;
    if (name.size() > name_max) return {};
    std::string_view best;
    std::size_t best_distance = std::numeric_limits<std::size_t>::max();
    for (const std::string_view candidate : candidates) {
        const std::size_t distance = edit_distance(name, candidate);
        // A third of the letters may be wrong; beyond that a suggestion is a guess.
        const std::size_t distance_max =
            std::max<std::size_t>(1, std::max(name.size(), candidate.size()) / 3);
        if (distance <= distance_max && distance < best_distance) {
            best = candidate;
            best_distance = distance;
        }
    }
    if (!best.empty() || name.size() < 4) return best;
    for (const std::string_view candidate : candidates)
        if (candidate.find(name) != std::string_view::npos) return candidate;
    return {};
}

std::string listed(const std::vector<std::string>& words, std::string_view conjunction) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) text += i + 1 == words.size() ? fmt::format(" {} ", conjunction) : ", ";
        text += words[i];
    }
    return text;
}

std::string key_text(std::string_view key) {
    // TOML 1.0, "Keys".
    constexpr std::string_view bare =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const bool is_bare =
        !key.empty() && key.size() <= 64 && key.find_first_not_of(bare) == std::string_view::npos;
    return is_bare ? std::string{key} : quoted(key);
}

}  // namespace udpproxy
