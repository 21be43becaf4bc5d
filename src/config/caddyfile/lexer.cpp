// The rules of Caddy 1's lexer: words end at blanks, `#` begins a comment where a word could begin.
// A word that begins with a quotation mark ends at the next one without a backslash before it, and
// may span lines.
#include <fmt/format.h>

#include "lexer.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

bool is_blank(char letter) {
    return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\v' || letter == '\f';
}
class Lexer {
public:
    Lexer(std::string_view text, const Environment& environment, Complaints& complaints)
        : text_(text), environment_(environment), complaints_(complaints) {
        if (text_.substr(0, byte_order_mark.size()) == byte_order_mark)
            text_.remove_prefix(byte_order_mark.size());
    }

    std::vector<CaddyLine> read() {
        CaddyLine line;
        while (next_ < text_.size()) {
            const char letter = text_[next_];
            if (letter == '\n') {
                if (!line.empty()) lines_.push_back(std::move(line));
                line.clear();
                take();
            } else if (is_blank(letter)) {
                take();
            } else if (letter == '#') {
                while (next_ < text_.size() && text_[next_] != '\n') take();
            } else {
                CaddyWord word = letter == '"' ? quoted_word() : bare_word();
                word.text = substitute(word);
                line.push_back(std::move(word));
            }
        }
        if (!line.empty()) lines_.push_back(std::move(line));
        return std::move(lines_);
    }

private:
    char take() {
        const char letter = text_[next_++];
        if (letter == '\n')
            at_ = {at_.line + 1, 1};
        else if (begins_character(letter))
            ++at_.column;
        return letter;
    }

    CaddyWord bare_word() {
        CaddyWord word{at_, {}, false};
        while (next_ < text_.size() && text_[next_] != '\n' && !is_blank(text_[next_]))
            word.text += take();
        return word;
    }

    // Requires: a quotation mark comes next.
    CaddyWord quoted_word() {
        CaddyWord word{at_, {}, true};
        take();
        while (next_ < text_.size()) {
            const char letter = take();
            if (letter == '"') return word;
            if (letter == '\\' && next_ < text_.size() && text_[next_] == '"')
                word.text += take();
            else
                word.text += letter;
        }
        complaints_.add({word.at, "syntax"}, "a quotation mark that is never closed");
        return word;
    }

    /// Replaces `{$NAME}` and `{%NAME%}` anywhere in the word. A value is not substituted again.
    std::string substitute(const CaddyWord& word) {
        std::string result;
        std::string_view remaining = word.text;
        for (;;) {
            const std::size_t open = std::min(remaining.find("{$"), remaining.find("{%"));
            if (open == std::string_view::npos) return result.append(remaining);
            const std::string_view closing = remaining[open + 1] == '$' ? "}" : "%}";
            const std::size_t close = remaining.find(closing, open + 2);
            if (close == std::string_view::npos) {
                complaints_.add(
                    {word.at, in_quotes(word.text)},
                    fmt::format("the end of the variable, {}, is missing", in_quotes(closing)));
                return result.append(remaining);
            }
            const std::string name{remaining.substr(open + 2, close - open - 2)};
            result.append(remaining.substr(0, open));
            if (const std::optional<std::string> value = environment_(name))
                result.append(*value);
            else
                complaints_.add({word.at, in_quotes(word.text)},
                                fmt::format("the environment variable {} is not set; set it for "
                                            "this command, or write its value",
                                            in_quotes(name)));
            remaining.remove_prefix(close + closing.size());
        }
    }

    std::string_view text_;
    std::size_t next_ = 0;
    Position at_;
    const Environment& environment_;
    Complaints& complaints_;
    std::vector<CaddyLine> lines_;
};

}  // namespace

std::vector<CaddyLine> read_caddy_lines(std::string_view text, const Environment& environment,
                                        Complaints& complaints) {
    return Lexer{text, environment, complaints}.read();
}

}  // namespace udpproxy
