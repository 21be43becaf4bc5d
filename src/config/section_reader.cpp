// What each kind of key accepts, and the complaint about everything else. Words and bounds come
// from the list of keys (keys.cpp).
#include <fmt/format.h>

#include <algorithm>

#include "sections.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

using Kind = ConfigNode::Kind;

constexpr std::size_t keys_listed_max = 8;

bool is_number(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

}  // namespace

std::string_view kind_name(Kind kind) {
    switch (kind) {
        case Kind::string:
            return "a string";
        case Kind::integer:
            return "a number";
        case Kind::floating:
            return "a floating-point number";
        case Kind::boolean:
            return "a boolean";
        case Kind::time:
            return "a date or time";
        case Kind::list:
            return "a list";
        case Kind::table:
            return "a section";
    }
    assertion_failed("every kind has a name", __FILE__, __LINE__);
}

SectionReader::SectionReader(const ConfigNode& table, std::string_view section, std::string prefix,
                             Complaints& complaints)
    : table_(table), section_(section), prefix_(std::move(prefix)), complaints_(complaints) {
    reject_unknown_keys();
}

void SectionReader::reject_unknown_keys() const {
    std::vector<std::string_view> names;
    for (const ConfigKey& key : config_keys())
        if (key.section == section_) names.push_back(key.name);
    for (const ConfigEntry& entry : table_.entries) {
        if (std::find(names.begin(), names.end(), entry.name) != names.end()) continue;
        const Location place{entry.name_at, prefix_ + key_text(entry.name)};
        const auto& keys = config_keys();
        const auto elsewhere = std::find_if(
            keys.begin(), keys.end(), [&](const ConfigKey& key) { return key.name == entry.name; });
        if (const std::string_view name = nearest(entry.name, names); !name.empty())
            complaints_.add(place, fmt::format("unknown key; did you mean {}?", name));
        else if (elsewhere != keys.end())
            complaints_.add(place, fmt::format("unknown key here; it belongs to {}",
                                               section_heading(elsewhere->section)));
        else if (names.size() <= keys_listed_max)
            complaints_.add(place, fmt::format("unknown key; the keys here are {}",
                                               listed({names.begin(), names.end()}, "and")));
        else
            complaints_.add(place, fmt::format("unknown key; docs/configuration.md and "
                                               "udpproxy.toml.example have the {} keys of {}",
                                               names.size(), section_heading(section_)));
    }
}

const ConfigNode* SectionReader::find(std::string_view key) {
    const std::string_view name = config_key(section_, key).name;
    if (std::find(asked_.begin(), asked_.end(), name) == asked_.end()) asked_.push_back(name);
    for (const ConfigEntry& entry : table_.entries)
        if (entry.name == key) return &entry.value;
    return nullptr;
}

Location SectionReader::place(std::string_view key) {
    const ConfigNode* node = find(key);
    return {node != nullptr ? node->at : table_.at, fmt::format("{}{}", prefix_, key)};
}

void SectionReader::require(std::string_view key, std::string_view why) {
    if (!has(key)) complain(place(key), fmt::format("is missing; {}", why));
}

void SectionReader::finish() const {
    for (const ConfigKey& key : config_keys())
        if (key.section == section_)
            UDPPROXY_ASSERT(std::find(asked_.begin(), asked_.end(), key.name) != asked_.end());
}

bool SectionReader::wrong_kind(std::string_view key, const ConfigNode& node,
                               std::string_view right) {
    complain(place(key), fmt::format("is {}; write {}", kind_name(node.kind), right));
    return false;
}

std::optional<std::size_t> SectionReader::word_index(const ConfigKey& key) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return std::nullopt;
    const auto& words = std::get<ConfigKey::Words>(key.accepts);
    std::vector<std::string> choices;
    for (const std::string_view word : words) choices.push_back(fmt::format("\"{}\"", word));
    if (node->kind != Kind::string) {
        wrong_kind(key.name, *node, listed(choices, "or"));
        return std::nullopt;
    }
    const auto found = std::find(words.begin(), words.end(), node->text);
    if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    const std::string_view meant = nearest(node->text, words);
    const std::string right = meant.empty() ? fmt::format("write {}", listed(choices, "or"))
                                            : fmt::format("did you mean \"{}\"?", meant);
    complain(place(key.name), fmt::format("unknown word {}; {}", in_quotes(node->text), right));
    return std::nullopt;
}

bool SectionReader::read(const ConfigKey& key, bool& value) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return true;
    if (node->kind != Kind::boolean)
        return wrong_kind(key.name, *node, "true or false, without quotation marks");
    value = node->boolean;
    return true;
}

bool SectionReader::read(const ConfigKey& key, std::string& value) {
    const std::optional<Item> found = item(key.name, "a string");
    if (!found) return !has(key.name);
    value = found->text;
    return true;
}

bool SectionReader::read(const ConfigKey& key, std::optional<std::uint32_t>& value) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr || (node->kind == Kind::string && node->text == "auto")) return true;
    std::uint32_t read = 0;
    if (!read_number(key, *node, ", or \"auto\"", read)) return false;
    value = read;
    return true;
}

bool SectionReader::read(const ConfigKey& key, std::uint32_t& value) {
    const ConfigNode* node = find(key.name);
    return node == nullptr || read_number(key, *node, "", value);
}

bool SectionReader::read_number(const ConfigKey& key, const ConfigNode& node,
                                std::string_view or_else, std::uint32_t& value) {
    const auto& bounds = std::get<ConfigKey::Numbers>(key.accepts);
    const std::string right =
        fmt::format("a whole number from {} to {}{}", bounds.least, bounds.most, or_else);
    if (node.kind == Kind::string) {
        const std::string reason = is_number(node.text)
                                       ? " is a number in quotation marks; write it without them"
                                       : " is not a number";
        complain(
            place(key.name),
            in_quotes(node.text) + (is_number(node.text) ? reason : reason + "; write " + right));
        return false;
    }
    if (node.kind != Kind::integer) return wrong_kind(key.name, node, right);
    if (node.integer < bounds.least || node.integer > bounds.most) {
        complain(place(key.name),
                 fmt::format("{} is out of bounds; write {}", node.integer, right));
        return false;
    }
    value = static_cast<std::uint32_t>(node.integer);
    return true;
}

bool SectionReader::read(const ConfigKey& key, Duration& value) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return true;
    if (node->kind == Kind::integer && node->integer >= 0) {
        complain(
            place(key.name),
            fmt::format(
                "{0} has no unit; write a string with one, as in \"{0}s\" (us, ms, s, m, h or d)",
                node->integer));
        return false;
    }
    if (node->kind != Kind::string)
        return wrong_kind(key.name, *node, "a duration as a string, as in \"30s\"");
    const Result<Duration> duration = parse_duration(node->text);
    if (!duration) {
        complain(place(key.name), duration.error().message);
        return false;
    }
    const auto& bounds = std::get<ConfigKey::Durations>(key.accepts);
    if (*duration < bounds.least || *duration > bounds.most) {
        complain(place(key.name),
                 fmt::format("{} is out of bounds; write \"{}\" to \"{}\"", in_quotes(node->text),
                             format_duration(bounds.least), format_duration(bounds.most)));
        return false;
    }
    value = *duration;
    return true;
}

bool SectionReader::read(const ConfigKey& key, std::uint64_t& value) {
    const ConfigNode* node = find(key.name);
    if (node == nullptr) return true;
    if (node->kind == Kind::integer && node->integer > 0) {
        const std::string right = format_size(static_cast<std::uint64_t>(node->integer));
        complain(place(key.name), fmt::format("{} is a bare number; write a string, as in \"{}\"",
                                              node->integer, right));
        return false;
    }
    if (node->kind != Kind::string)
        return wrong_kind(key.name, *node, "a size as a string, as in \"4MiB\"");
    const Result<std::uint64_t> size = parse_size(node->text);
    if (!size) {
        complain(place(key.name), size.error().message);
        return false;
    }
    const auto& bounds = std::get<ConfigKey::Sizes>(key.accepts);
    if (*size < bounds.least || *size > bounds.most) {
        complain(place(key.name),
                 fmt::format("{} is out of bounds; write \"{}\" to \"{}\"", in_quotes(node->text),
                             format_size(bounds.least), format_size(bounds.most)));
        return false;
    }
    value = *size;
    return true;
}

std::optional<SectionReader::Item> SectionReader::item(std::string_view key,
                                                       std::string_view right) {
    const ConfigNode* node = find(key);
    if (node == nullptr) return std::nullopt;
    if (node->kind == Kind::string) return Item{place(key), node->text};
    wrong_kind(key, *node, right);
    return std::nullopt;
}

std::vector<SectionReader::Item> SectionReader::items(std::string_view key) {
    std::vector<Item> items;
    const ConfigNode* node = find(key);
    if (node == nullptr) return items;
    if (node->kind == Kind::string) return {Item{place(key), node->text}};
    if (node->kind != Kind::list) {
        wrong_kind(key, *node, "a string or a list of strings");
        return items;
    }
    const auto& bounds = std::get<ConfigKey::Entries>(config_key(section_, key).accepts);
    const std::size_t count = node->items.size();
    if (count < bounds.least || count > bounds.most) {
        complain(place(key),
                 fmt::format("has {} entries; write {} to {}", count, bounds.least, bounds.most));
        return items;
    }
    for (std::size_t i = 0; i < node->items.size(); ++i) {
        const ConfigNode& entry = node->items[i];
        const Location at{entry.at, fmt::format("{}{}[{}]", prefix_, key, i)};
        if (entry.kind == Kind::string)
            items.push_back({at, entry.text});
        else
            complain(at, fmt::format("is {}; write a string", kind_name(entry.kind)));
    }
    return items;
}

}  // namespace udpproxy
