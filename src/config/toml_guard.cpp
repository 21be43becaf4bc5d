// The guard knows only as much of TOML as it needs: strings, comments and lines. All syntax errors
// proper are left to toml++.
#include "toml_guard.hpp"

#include <algorithm>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

bool is_marked(std::string_view text) {
    return text.substr(0, byte_order_mark.size()) == byte_order_mark;
}

/// The offset behind the string that begins at `at`. A string that is not closed ends with its
/// line; toml++ complains about it.
std::size_t skip_string(std::string_view text, std::size_t at) {
    const char quote = text[at];
    for (++at; at < text.size() && text[at] != '\n'; ++at) {
        if (text[at] == quote) return at + 1;
        const bool is_escape =
            quote == '"' && text[at] == '\\' && at + 1 < text.size() && text[at + 1] != '\n';
        if (is_escape) ++at;
    }
    return at;
}

/// Visits each offset that is not inside a string or a comment.
class Walk {
public:
    explicit Walk(std::string_view text)
        : text_(text), at_(is_marked(text) ? byte_order_mark.size() : 0) {}

    std::optional<TextFault> to_first_fault() {
        while (at_ < text_.size()) {
            if (const std::string_view message = fault_here(); !message.empty())
                return fault(message);
            step();
        }
        return std::nullopt;
    }

private:
    [[nodiscard]] std::string_view fault_here() const {
        constexpr int dots_max = 32;
        const char letter = text_[at_];
        const std::string_view three = text_.substr(at_, 3);
        if (three == R"(""")" || three == "'''")
            return "a string of several lines; no value needs one, write it on one line";
        if ((static_cast<unsigned char>(letter) & 0x80U) != 0)
            return "a letter beyond ASCII; write it in quotation marks, or in a comment";
        if (letter == '.' && dots_ == dots_max)
            return "a key of so many parts; write [section] and its keys below";
        return {};
    }

    void step() {
        const char letter = text_[at_];
        if (letter == '\n' || letter == '=' || letter == ',' || letter == '[' || letter == '{')
            dots_ = 0;
        switch (letter) {
            case '"':
            case '\'':
                at_ = skip_string(text_, at_);
                return;
            case '#':
                at_ = std::min(text_.find('\n', at_), text_.size());
                return;
            case '.':
                ++dots_;
                break;
            default:
                break;
        }
        ++at_;
    }

    [[nodiscard]] TextFault fault(std::string_view message) const {
        Position position;
        std::size_t line_start = 0;
        for (std::size_t i = 0; i < at_; ++i) {
            if (text_[i] == '\n') {
                position = {position.line + 1, 1};
                line_start = i + 1;
            } else if (begins_character(text_[i])) {  // columns count characters, as toml++ does
                ++position.column;
            }
        }
        return {position, std::string{message}, text_.substr(0, line_start)};
    }

    std::string_view text_;
    std::size_t at_;
    int dots_ = 0;
};

}  // namespace

std::optional<TextFault> find_fault(std::string_view text) { return Walk{text}.to_first_fault(); }

std::string ascii_shadow(std::string_view text) {
    std::string shadow;
    shadow.reserve(text.size());
    for (const char letter : text.substr(is_marked(text) ? byte_order_mark.size() : 0)) {
        const auto byte = static_cast<unsigned char>(letter);
        if (byte < 0x80)
            shadow += letter;
        else if (begins_character(letter))
            shadow += 'x';
    }
    return shadow;
}

}  // namespace udpproxy
