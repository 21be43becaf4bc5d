// Looks at one line: a key, an equals sign and a value, or an entry of a list that goes over
// several lines. The list of keys tells what kind of value was meant.
#include "toml_advice.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "udpproxy/base/printable.hpp"
#include "udpproxy/config/keys.hpp"

namespace udpproxy {

namespace {

constexpr std::string_view spaces = " \t\r";

std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(spaces);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

std::string_view line_of(std::string_view text, std::uint32_t number) {
    for (std::uint32_t line = 1; line < number; ++line) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return {};
        text.remove_prefix(end + 1);
    }
    return text.substr(0, text.find('\n'));
}

/// The kind of the keys of this name, in whatever section; empty: there is none.
std::string_view kind_of_key(std::string_view name) {
    for (const ConfigKey& key : config_keys())
        if (key.name == name) return key.kind;
    return {};
}

/// What a value of `key` that is not in quotation marks should be.
std::string advise_value(std::string_view key, std::string_view value) {
    const std::string_view kind = kind_of_key(key);
    if (kind == "boolean")
        return in_quotes(value) + " is not a boolean; write true or false, in small letters";
    const bool begins_number = value.find_first_of("0123456789+-") == 0;
    if (kind.starts_with("number") && begins_number)
        return in_quotes(value) + " is not a number; write digits alone";
    return fmt::format("the value needs quotation marks; write {} = {}", key_text(key),
                       in_quotes(value));
}

/// The first entry of a list that begins neither a string nor a list. Empty: there is none.
std::string_view bare_entry(std::string_view list) {
    while (!list.empty()) {
        const std::size_t end = std::min(list.find_first_of(",]"), list.size());
        const std::string_view entry = trimmed(list.substr(0, end));
        if (!entry.empty() && entry.find_first_of("\"'[{") == std::string_view::npos) return entry;
        list.remove_prefix(std::min(end + 1, list.size()));
    }
    return {};
}

}  // namespace

std::optional<SyntaxAdvice> advise(std::string_view text, Position refused_at,
                                   std::string_view refused) {
    const std::string_view whole = line_of(text, refused_at.line);
    const auto at = [&](std::string_view part) {
        // Columns count characters, as the parser's do: bytes but for 10xxxxxx.
        const std::string_view before =
            whole.substr(0, static_cast<std::size_t>(part.data() - whole.data()));
        const auto column = 1 + std::count_if(before.begin(), before.end(), begins_character);
        return Position{refused_at.line, static_cast<std::uint32_t>(column)};
    };
    if (refused.find("utf-8") != std::string_view::npos)
        return SyntaxAdvice{refused_at, "a byte that is not UTF-8; save the file as UTF-8"};
    const std::size_t equals = whole.find('=');
    std::string_view key;
    std::string_view value = trimmed(whole);
    if (equals != std::string_view::npos) {
        key = trimmed(whole.substr(0, equals));
        key = key.substr(key.rfind('.') + 1);
        if (key.size() > 1 && key.front() == '"') key = key.substr(1, key.size() - 2);
        value = trimmed(whole.substr(equals + 1));
    } else if (refused.find("expected '='") != std::string_view::npos || value.starts_with('[')) {
        return std::nullopt;
    }
    if (value.empty()) return std::nullopt;
    const char first = value.front();
    if (first == '"' || first == '\'') {
        if (value.find(first, 1) != std::string_view::npos) return std::nullopt;
        return SyntaxAdvice{at(value),
                            fmt::format("{} does not end; the second quotation mark is missing",
                                        in_quotes(value.substr(1)))};
    }
    value = trimmed(value.substr(0, value.find('#')));
    if (value.empty() || first == '{') return std::nullopt;
    const bool is_endpoint = first == '[' && value.find("]:") != std::string_view::npos;
    if (!key.empty() && (first != '[' || is_endpoint)) {
        if (value.find_first_of("\"'") != std::string_view::npos) return std::nullopt;
        return SyntaxAdvice{at(value), advise_value(key, value)};
    }
    const std::string_view entry = bare_entry(first == '[' ? value.substr(1) : value);
    if (entry.empty()) return std::nullopt;
    return SyntaxAdvice{at(entry), "the entry needs quotation marks; write " + in_quotes(entry)};
}

}  // namespace udpproxy
