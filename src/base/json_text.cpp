// Separators, numbers and strings of JSON (RFC 8259).
#include "udpproxy/base/json_text.hpp"

#include <array>
#include <charconv>
#include <cmath>

namespace udpproxy {

namespace {

/// Bytes of the UTF-8 sequence that `text` begins with (RFC 3629); 0: it begins with none.
std::size_t sequence_length(std::string_view text) {
    const auto byte = [&](std::size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) return 0;
    // No longer form than needed, no surrogates, nothing beyond U+10FFFF.
    const unsigned second_min = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned second_max = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(1) < second_min || byte(1) > second_max) return 0;
    for (std::size_t i = 2; i < length; ++i)
        if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
    return length;
}

void append_escaped(std::string& to, char letter) {
    static constexpr std::string_view digits = "0123456789abcdef";
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
    const auto code = static_cast<unsigned char>(letter);
    if (code >= 0x20 && code != 0x7f) {
        to += letter;
        return;
    }
    to += "\\u00";
    to += digits[code >> 4U];
    to += digits[code & 15U];
}

}  // namespace

void append_json_string(std::string& to, std::string_view text) {
    to += '"';
    while (!text.empty()) {
        const std::size_t length = sequence_length(text);
        if (length == 0)
            to += "\xef\xbf\xbd";
        else if (length == 1)
            append_escaped(to, text.front());
        else
            to += text.substr(0, length);
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
