// Complaints in the order of the file, and the pieces of text that they are made of.
#include "tree.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

std::string Complaints::position(Position at) const {
    if (at.line <= origins_.size()) return origins_[at.line - 1];
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

std::string in_quotes(std::string_view text) {
    constexpr std::size_t shown_max = 100;
    std::size_t shown = std::min(text.size(), shown_max);
    while (shown > 0 && shown < text.size() && !begins_character(text[shown])) --shown;
    return fmt::format("\"{}{}\"", printable(text.substr(0, shown)),
                       shown < text.size() ? "..." : "");
}

std::string toml_string(std::string_view text) {
    std::string result = "\"";
    for (const char letter : text) {
        if (letter == '"' || letter == '\\')
            (result += '\\') += letter;
        else if (static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f)
            result += fmt::format("\\u{:04X}", static_cast<unsigned>(letter));
        else
            result += letter;
    }
    return result + '"';
}

std::string toml_list(const std::vector<std::string>& texts) {
    std::string list;
    for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + toml_string(text);
    return '[' + list + ']';
}

std::string key_text(std::string_view key) {
    // TOML 1.0, "Keys".
    constexpr std::string_view bare =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    const bool is_bare =
        !key.empty() && key.size() <= 64 && key.find_first_not_of(bare) == std::string_view::npos;
    return is_bare ? std::string{key} : in_quotes(key);
}

}  // namespace udpproxy
