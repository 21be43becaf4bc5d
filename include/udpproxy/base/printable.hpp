// Text from outside (names of processes and interfaces, files, requests) on its way to a terminal.
// A terminal obeys control characters: it would hide lines, change its title or answer by typing.
// Both programs print through this file and nothing else; a house rule keeps it so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace udpproxy {

/// U+FEFF in UTF-8, with which some editors begin a file.
inline constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";
/// False for the continuation bytes of UTF-8, 10xxxxxx (RFC 3629 section 3).
[[nodiscard]] constexpr bool begins_character(char letter) noexcept {
    return (static_cast<unsigned char>(letter) & 0xc0U) != 0x80U;
}
/// Bytes of the UTF-8 sequence that `text` begins with (RFC 3629); 0: it begins with none.
[[nodiscard]] std::size_t utf8_length(std::string_view text) noexcept;
/// Whether a terminal obeys this sequence instead of showing it: C0, DEL, C1 (which some take for
/// ESC [), line separators, and marks that turn the direction of writing.
// Requires: `sequence` is one UTF-8 sequence.
[[nodiscard]] bool is_obeyed(std::string_view sequence) noexcept;

/// The text as one line: each byte that a terminal would obey, or that is no UTF-8, is `\x1b`.
[[nodiscard]] std::string printable(std::string_view text);
/// The same for several lines: the ends of lines stay.
[[nodiscard]] std::string printable_lines(std::string_view text);

/// Prints lines of any content to standard output.
void print(std::string_view text);
/// Colours of a terminal, by what they are for.
enum class Ink : std::uint8_t { good, remark, bad };
/// Prints to standard output, which must be a terminal that shows colours.
void print_in(Ink ink, std::string_view text);
/// Standard output is an empty terminal, written from its first line on.
void clear_terminal();
/// Prints lines of any content to standard error. If its reader takes nothing for a second, the
/// rest is left out: nobody waits for a reader that stands still.
void print_error(std::string_view text);
/// The same for a text of ours, without allocating.
void write_error(std::string_view text) noexcept;

}  // namespace udpproxy
