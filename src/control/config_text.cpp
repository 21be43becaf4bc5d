// Finds what the parser would not survive. It needs to know where strings and comments are, and no more of TOML than that.
#include "config_text.hpp"

#include <algorithm>

namespace udpproxy {

namespace {

/// The end of the string that begins at `at`, behind its closing quotation marks (TOML 1.0, "String"). Unclosed strings end with their
/// line, or with the text: the parser will complain.
std::size_t skip_string(std::string_view text, std::size_t at) {
    const char quote = text[at];
    const std::string_view triple = quote == '"' ? R"(""")" : "'''";
    const bool is_multiline = text.substr(at, 3) == triple;
    at += is_multiline ? 3 : 1;
    while (at < text.size()) {
        if (is_multiline && text.substr(at, 3) == triple) {
            at += 3;
            // Up to two quotation marks may stand directly before the closing ones.
            for (int extra = 0; extra < 2 && at < text.size() && text[at] == quote; ++extra) ++at;
            return at;
        }
        if (!is_multiline && (text[at] == quote || text[at] == '\n')) return at + (text[at] == quote ? 1 : 0);
        at += quote == '"' && text[at] == '\\' ? 2 : 1;
    }
    return text.size();
}

Position position_at(std::string_view text, std::size_t at) {
    Position position;
    for (const char letter : text.substr(0, at)) {
        ++position.column;
        if (letter == '\n') position = {position.line + 1, 1};
    }
    return position;
}

}  // namespace

std::optional<Position> find_deep_key(std::string_view text) {
    constexpr int dots_max = 32;
    int dots = 0;
    for (std::size_t at = 0; at < text.size();) {
        switch (text[at]) {
            case '"':
            case '\'':
                at = skip_string(text, at);
                continue;
            case '#':
                at = std::min(text.find('\n', at), text.size());
                continue;
            case '\n':
            case '=':
            case ',':
            case '{':
            case '[':
                dots = 0;
                break;
            case '.':
                if (++dots > dots_max) return position_at(text, at);
                break;
            default:
                break;
        }
        ++at;
    }
    return std::nullopt;
}

}  // namespace udpproxy
