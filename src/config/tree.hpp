// A configuration file as a tree of values with positions, independent of TOML: toml_reader.cpp
// builds it, sections.cpp and proxy.cpp read it. Complaints, which all of them collect, are here
// too.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace udpproxy {

/// Both count from 1.
struct Position {
    std::uint32_t line = 1;
    std::uint32_t column = 1;
    friend auto operator<=>(const Position&, const Position&) = default;
};

struct ConfigEntry;

struct ConfigNode {
    enum class Kind : std::uint8_t { string, integer, floating, boolean, time, list, table };

    Kind kind = Kind::table;
    Position at;
    std::string text;                  // string
    std::int64_t integer = 0;          // integer
    bool boolean = false;              // boolean
    std::vector<ConfigNode> items;     // list
    std::vector<ConfigEntry> entries;  // table
};

struct ConfigEntry {
    std::string name;
    Position name_at;
    ConfigNode value;
};

/// The position of a value and its name in complaints: `proxy "dns": reply_aliases[1]`.
struct Location {
    Position at;
    std::string what;
};

class Complaints {
public:
    /// `origins`: of a text that was made of something else, what each line came from.
    explicit Complaints(std::string file, std::vector<std::string> origins = {})
        : file_(std::move(file)), origins_(std::move(origins)) {}

    void add(const Location& place, std::string message) {
        complaints_.push_back({place.at, place.what + ": " + std::move(message)});
    }
    [[nodiscard]] bool empty() const noexcept { return complaints_.empty(); }
    /// `file:line:column`, or the line's origin.
    [[nodiscard]] std::string position(Position at) const;
    /// The complaints as lines in the order of the file: at most a thousand, then a line that
    /// counts the others.
    [[nodiscard]] std::vector<std::string> lines() const;

private:
    struct Complaint {
        Position at;
        std::string text;
    };

    std::string file_;
    std::vector<std::string> origins_;
    std::vector<Complaint> complaints_;
};

/// What is wrong with the encoding of a whole file, in words; empty if it may be UTF-8.
[[nodiscard]] std::string_view encoding_fault(std::string_view text);
/// The text in quotation marks, escaped to one line and cut to a bounded length.
[[nodiscard]] std::string in_quotes(std::string_view text);
/// The text as a TOML basic string.
[[nodiscard]] std::string toml_string(std::string_view text);
/// A list of such strings.
[[nodiscard]] std::string toml_list(const std::vector<std::string>& texts);
/// The key as TOML writes it: bare if possible, else in_quotes().
[[nodiscard]] std::string key_text(std::string_view key);

}  // namespace udpproxy
