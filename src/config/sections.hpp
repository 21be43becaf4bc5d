// One section of the tree read key by key, against the list of keys: unknown keys, wrong kinds and
// values out of bounds become complaints. Used by config_sections.cpp for the plain sections and by
// config_proxy.cpp; what keys must agree on is checked in config_check.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tree.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"

namespace udpproxy {

class SectionReader {
public:
    /// `prefix` stands before a key in complaints: `runtime.` or `proxy "dns": `. Complains about
    /// keys that `section` does not have.
    SectionReader(const ConfigNode& table, std::string_view section, std::string prefix,
                  Complaints& complaints);

    /// Each reads the key into `value` when it is there, and returns false when that led to a
    /// complaint.
    // Requires: `key` is in config_keys() with that kind; E's values are its words, in that order.
    template <class E>
    bool word(std::string_view key, E& value) {
        static_assert(std::is_enum_v<E>);
        const std::optional<std::size_t> index = word_index(key);
        if (index) value = static_cast<E>(*index);
        return index.has_value() || find(key) == nullptr;
    }
    bool boolean(std::string_view key, bool& value);
    bool string(std::string_view key, std::string& value);
    bool number_or_auto(std::string_view key, std::optional<std::uint32_t>& value);
    bool number(std::string_view key, std::uint32_t& value);
    bool duration(std::string_view key, Duration& value);
    bool size(std::string_view key, std::uint64_t& value);
    /// The strings of a string-or-list, as many as the key may have.
    struct Item {
        Location place;
        std::string_view text;
    };
    [[nodiscard]] std::vector<Item> items(std::string_view key);
    /// The string of a key that takes one, for forms that the caller parses. `right` says what to
    /// write instead of anything but a string.
    [[nodiscard]] std::optional<Item> item(std::string_view key, std::string_view right);

    [[nodiscard]] bool has(std::string_view key) { return find(key) != nullptr; }
    /// Where the key's value stands; for an absent key, the table.
    [[nodiscard]] Location place(std::string_view key);
    /// Complains when the key is absent. `why` says what to write.
    void require(std::string_view key, std::string_view why);
    void complain(const Location& place, std::string message) {
        complaints_.add(place, std::move(message));
    }
    /// To be called when all keys were read: asserts that none of the section's was forgotten.
    void finish() const;

private:
    [[nodiscard]] const ConfigNode* find(std::string_view key);
    [[nodiscard]] const ConfigKey& known(std::string_view key) const;
    [[nodiscard]] std::optional<std::size_t> word_index(std::string_view key);
    void reject_unknown_keys() const;
    bool wrong_kind(std::string_view key, const ConfigNode& node, std::string_view right);
    bool number(std::string_view key, const ConfigNode& node, std::string_view or_else,
                std::uint32_t& value);

    const ConfigNode& table_;
    std::string_view section_;
    std::string prefix_;
    Complaints& complaints_;
    std::vector<std::string_view> asked_;
};

/// What a node is, for complaints: `a number`, `a list`.
[[nodiscard]] std::string_view kind_name(ConfigNode::Kind kind);

/// `[log]`, `[[proxy]]`
[[nodiscard]] std::string section_heading(std::string_view section);

/// The whole tree: sections, then proxies, then what they must agree on. Complete and valid when no
/// complaint was added.
[[nodiscard]] Config build_config(const ConfigNode& root, Complaints& complaints);

}  // namespace udpproxy
