// From a file to a Config: toml++ parses the text, and its result is copied into a tree that knows
// nothing of TOML (tree.hpp). The only file that includes toml++.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

// toml++ 3.3.0 fails an assertion on some mistyped files instead of reporting an error (`[=`, `[1,
// }`: https://github.com/marzer/tomlplusplus/pull/301). Debian's library is built with NDEBUG,
// where the same files are undefined behaviour. So toml++ is compiled here, with assertions that
// throw.
namespace udpproxy {
struct ParserAsserted {};
[[noreturn]] void parser_asserted();
}  // namespace udpproxy
#undef NDEBUG
#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(law) ((law) ? void() : ::udpproxy::parser_asserted())
#include <toml++/toml.h>

#include "sections.hpp"
#include "toml_advice.hpp"
#include "toml_guard.hpp"
#include "toml_value.hpp"
#include "tree.hpp"
#include "udpproxy/base/file.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/config/config.hpp"

namespace udpproxy {

void parser_asserted() { throw ParserAsserted{}; }

namespace {

// 256 proxies with all lists full take a third of it.
constexpr std::size_t file_bytes_max = std::size_t{1} << 20;
// The depth of a list in a proxy's table. No key lies deeper, so deeper values are not copied.
constexpr int depth_max = 4;

Position position_of(const toml::source_region& source) {
    // A table that exists only through the dotted keys of its members may have no position.
    if (source.begin.line == 0) return {};
    return {source.begin.line, source.begin.column};
}

ConfigNode copy(const toml::node& node, int depth) {
    using NodeKind = ConfigNode::Kind;
    ConfigNode result;
    result.at = position_of(node.source());
    if (const auto* table = node.as_table()) {
        result.kind = NodeKind::table;
        if (depth == depth_max) return result;
        for (const auto& [key, value] : *table)
            result.entries.push_back(
                {std::string{key.str()}, position_of(key.source()), copy(value, depth + 1)});
    } else if (const auto* list = node.as_array()) {
        result.kind = NodeKind::list;
        if (depth == depth_max) return result;
        for (const toml::node& item : *list) result.items.push_back(copy(item, depth + 1));
    } else if (const auto* text = node.as_string()) {
        result.kind = NodeKind::string;
        result.text = text->get();
    } else if (const auto* integer = node.as_integer()) {
        result.kind = NodeKind::integer;
        result.integer = integer->get();
    } else if (const auto* boolean = node.as_boolean()) {
        result.kind = NodeKind::boolean;
        result.boolean = boolean->get();
    } else {
        result.kind = node.is_floating_point() ? NodeKind::floating : NodeKind::time;
    }
    return result;
}

/// The first line that makes the parser fail an assertion. The parser reads from the top and stops
/// at the first error, so every longer part of the text fails too: binary search finds the line.
// Requires: the whole text fails.
Position line_of_failure(std::string_view text) {
    std::vector<std::size_t> line_ends;
    for (std::size_t end = text.find('\n'); end != std::string_view::npos;
         end = text.find('\n', end + 1))
        line_ends.push_back(end + 1);
    const auto parses = [&](std::size_t end) {
        try {
            const toml::table discarded = toml::parse(text.substr(0, end));
        } catch (const toml::parse_error&) {
            return true;
        } catch (const ParserAsserted&) {
            return false;
        }
        return true;
    };
    const auto line = std::partition_point(line_ends.begin(), line_ends.end(), parses);
    return {static_cast<std::uint32_t>(line - line_ends.begin()) + 1, 1};
}

ConfigComplaints unreadable(const std::string& path, std::string_view reason) {
    return {{fmt::format("{}: cannot be read: {}", path, reason)}};
}

}  // namespace

bool is_toml_value(std::string_view text) {
    try {
        const toml::table parsed = toml::parse(ascii_shadow("key = " + std::string{text}));
        return parsed.size() == 1;
    } catch (const toml::parse_error&) {
        return false;
    } catch (const ParserAsserted&) {
        return false;
    }
}

std::variant<Config, ConfigComplaints> read_config(const std::string& path, Duration limit) {
    const Result<std::string> text = read_file(path, file_bytes_max, limit);
    if (!text) return unreadable(path, text.error().message);
    return parse_config(*text, path);
}

std::variant<Config, ConfigComplaints> parse_config(std::string_view text, const std::string& name,
                                                    std::vector<std::string> origins) {
    if (text.size() > file_bytes_max) return unreadable(name, "it is larger than 1 MiB");
    if (const std::string_view reason = encoding_fault(text); !reason.empty())
        return unreadable(name, reason);
    Complaints complaints{name, std::move(origins)};
    const std::optional<TextFault> fault = find_fault(text);
    const std::string shadow = ascii_shadow(fault ? fault->lines_before : text);
    try {
        // Without the file's name: toml++ 3.3 copies it in a noexcept constructor, where a lack of
        // memory would end the program.
        const toml::table rehearsed = toml::parse(shadow);
        if (!fault) {
            Config config = build_config(copy(toml::parse(text), 0), complaints);
            if (complaints.empty()) return config;
        } else {
            complaints.add({fault->at, "syntax"}, fault->message);
        }
    } catch (const toml::parse_error& error) {
        // If the fault is inside a list, the list is cut off where lines_before ends. The parser's
        // complaint about that end is replaced by the fault.
        const bool is_cut =
            fault && error.description().find("end-of-file") != std::string_view::npos;
        const Position refused_at = position_of(error.source());
        const auto advice = advise(text, refused_at, error.description());
        if (is_cut)
            complaints.add({fault->at, "syntax"}, fault->message);
        else if (advice)
            complaints.add({advice->at, "syntax"}, advice->message);
        else
            complaints.add({refused_at, "syntax"}, printable(error.description()));
    } catch (const ParserAsserted&) {
        const Position line = line_of_failure(shadow);
        complaints.add({line, "syntax"},
                       "the line is neither a section nor a key with a value nor a comment; "
                       "check brackets and commas");
    }
    return ConfigComplaints{complaints.lines()};
}

}  // namespace udpproxy
