// Distance by edits, of the words as they stand and of their parts in another order.
#include "udpproxy/base/nearest.hpp"

#include <algorithm>
#include <limits>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

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

/// The parts between underscores and hyphens, sorted: `max_sessions` and `sessions_max` are alike.
std::string with_sorted_parts(std::string_view name) {
    std::vector<std::string> parts(1);
    for (const char letter : name) {
        if (letter == '_' || letter == '-')
            parts.emplace_back();
        else
            parts.back() += letter;
    }
    std::sort(parts.begin(), parts.end());
    std::string sorted;
    for (const std::string& part : parts) sorted += part + '_';
    return sorted;
}

}  // namespace

std::string_view nearest(std::string_view name, const std::vector<std::string_view>& candidates) {
    constexpr std::size_t name_max = 64;
    if (name.size() > name_max) return {};
    const std::string sorted = with_sorted_parts(name);
    std::string_view best;
    std::size_t best_distance = std::numeric_limits<std::size_t>::max();
    for (const std::string_view candidate : candidates) {
        const std::size_t distance = std::min(edit_distance(name, candidate),
                                              edit_distance(sorted, with_sorted_parts(candidate)));
        // A third of the letters may be wrong; beyond that a suggestion is a guess.
        const std::size_t distance_max =
            std::max<std::size_t>(1, std::max(name.size(), candidate.size()) / 3);
        const bool shares_a_letter = distance < std::max(name.size(), candidate.size());
        if (distance <= distance_max && shares_a_letter && distance < best_distance) {
            best = candidate;
            best_distance = distance;
        }
    }
    if (!best.empty() || name.size() < 4) return best;
    for (const std::string_view candidate : candidates)
        if (candidate.find(name) != std::string_view::npos) return candidate;
    return {};
}

std::string unknown_word(std::string_view thing, std::string_view word,
                         const std::vector<std::string_view>& candidates) {
    constexpr std::size_t shown_max = 100;
    std::string text =
        "there is no " + std::string{thing} + " \"" + printable(word.substr(0, shown_max)) + '"';
    if (const std::string_view meant = nearest(word, candidates); !meant.empty())
        return text + "; did you mean " + std::string{meant} + '?';
    if (candidates.empty() || candidates.size() > listed_max) return text;
    text += candidates.size() == 1 ? "; there is " : "; there are ";
    return text + listed({candidates.begin(), candidates.end()}, "and");
}

std::string listed(const std::vector<std::string>& words, std::string_view conjunction) {
    std::string text;
    for (std::size_t i = 0; i < words.size(); ++i) {
        if (i > 0) text += i + 1 == words.size() ? ' ' + std::string{conjunction} + ' ' : ", ";
        text += words[i];
    }
    return text;
}

}  // namespace udpproxy
