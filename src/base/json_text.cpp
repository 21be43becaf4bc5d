// Separators, numbers and strings of JSON (RFC 8259).
#include "udpproxy/base/json_text.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "udpproxy/base/printable.hpp"

namespace udpproxy {

namespace {

void append_code(std::string& to, unsigned code) {
    static constexpr std::string_view digits = "0123456789abcdef";
    to += "\\u";
    for (const unsigned shift : {12U, 8U, 4U, 0U}) to += digits[code >> shift & 15U];
}

/// The code point of a sequence of two or three bytes.
unsigned code_of(std::string_view sequence) {
    const auto bits = [&](std::size_t i) {
        return static_cast<unsigned char>(sequence[i]) & 0x3fU;
    };
    return sequence.size() == 2 ? (bits(0) & 0x1fU) << 6U | bits(1)
                                : (bits(0) & 0x0fU) << 12U | bits(1) << 6U | bits(2);
}

// Requires: JSON or a terminal gives the letter a meaning.
void append_escaped(std::string& to, char letter) {
    switch (letter) {
        case '"':
        case '\\':
            to += '\\';
            to += letter;
            return;
        case '\b':
            to += "\\b";
            return;
        case '\f':
            to += "\\f";
            return;
        case '\n':
            to += "\\n";
            return;
        case '\r':
            to += "\\r";
            return;
        case '\t':
            to += "\\t";
            return;
        default:
            break;
    }
    append_code(to, static_cast<unsigned char>(letter));
}

}  // namespace

void append_json_string(std::string& to, std::string_view text) {
    to += '"';
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const std::string_view sequence = text.substr(0, length);
        if (length == 0)
            to += "\xef\xbf\xbd";
        else if (length > 1 && is_obeyed(sequence))
            append_code(to, code_of(sequence));
        else if (length == 1 &&
                 (is_obeyed(sequence) || text.front() == '"' || text.front() == '\\'))
            append_escaped(to, text.front());
        else
            to += sequence;
        text.remove_prefix(length == 0 ? 1 : length);
    }
    to += '"';
}

JsonText& JsonText::key(std::string_view name) {
    separate();
    append_json_string(text_, name);
    text_ += ':';
    return *this;
}

JsonText& JsonText::value(std::string_view text) {
    separate();
    append_json_string(text_, text);
    return *this;
}

JsonText& JsonText::value(double number) {
    if (!std::isfinite(number)) return null();
    std::array<char, 32> digits{};
    const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    return raw({digits.data(), end});
}

JsonText& JsonText::raw(std::string_view json) {
    separate();
    text_ += json;
    return *this;
}

JsonText& JsonText::open(char bracket) {
    separate();
    text_ += bracket;
    return *this;
}

JsonText& JsonText::close(char bracket) {
    text_ += bracket;
    return *this;
}

void JsonText::separate() {
    if (text_.empty()) return;
    const char last = text_.back();  // a string ends with a quote, so these are no one's content
    if (last != '{' && last != '[' && last != ':') text_ += ',';
}

}  // namespace udpproxy
