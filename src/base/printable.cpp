// Which bytes a terminal obeys, and how both programs write to standard output and error.
#include "udpproxy/base/printable.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>

namespace udpproxy {

namespace {

constexpr int reader_limit_ms = 1000;

void append_hex(std::string& to, char letter) {
    static constexpr std::string_view digits = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(letter);
    to += "\\x";
    to += digits[byte >> 4U];
    to += digits[byte & 15U];
}

std::string escaped(std::string_view text, bool keeps_line_ends) {
    std::string shown;
    shown.reserve(text.size());
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        const std::string_view sequence = text.substr(0, std::max<std::size_t>(length, 1));
        const bool is_line_end = keeps_line_ends && text.front() == '\n';
        if (is_line_end || (length > 0 && !is_obeyed(sequence)))
            shown += sequence;
        else
            for (const char letter : sequence) append_hex(shown, letter);
        text.remove_prefix(sequence.size());
    }
    return shown;
}

}  // namespace

std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return text.empty() ? 0 : 1;
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

bool is_obeyed(std::string_view sequence) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
    if (sequence.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
    if (sequence.size() == 2)
        return (byte(0) == 0xc2 && byte(1) < 0xa0) ||
               (byte(0) == 0xd8 && byte(1) == 0x9c);  // U+061C, a mark of direction
    if (sequence.size() != 3 || byte(0) != 0xe2) return false;
    const unsigned tail = static_cast<unsigned>(byte(1)) << 8U | byte(2);
    return tail == 0x808e || tail == 0x808f ||    // U+200E and U+200F, marks of direction
           (tail >= 0x80a8 && tail <= 0x80ae) ||  // U+2028 to U+202E, separators, embeddings
           (tail >= 0x81a6 && tail <= 0x81a9);    // U+2066 to U+2069, isolates
}

std::string printable(std::string_view text) { return escaped(text, false); }

std::string printable_lines(std::string_view text) { return escaped(text, true); }

void print(std::string_view text) {
    const std::string shown = printable_lines(text);
    (void)std::fwrite(shown.data(), 1, shown.size(), stdout);
}

void print_in(Ink ink, std::string_view text) {
    const char* const colour = ink == Ink::good     ? "\x1b[32m"
                               : ink == Ink::remark ? "\x1b[33m"
                                                    : "\x1b[1;31m";
    (void)std::fputs(colour, stdout);
    print(text);
    (void)std::fputs("\x1b[0m", stdout);
}

void clear_terminal() { (void)std::fputs("\x1b[H\x1b[2J", stdout); }

void print_error(std::string_view text) {
    std::fflush(stdout);
    write_error(printable_lines(text));
}

void write_error(std::string_view text) noexcept {
    while (!text.empty()) {
        // A pipe that is ready has room for PIPE_BUF bytes, so that such a write does not wait.
        pollfd waited{STDERR_FILENO, POLLOUT, 0};
        const int ready = ::poll(&waited, 1, reader_limit_ms);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return;
        const ssize_t written =
            ::write(STDERR_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
        if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (written <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(written));
    }
}

}  // namespace udpproxy
