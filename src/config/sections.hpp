// Reads one section of the tree key by key, with the list of keys as its guide: unknown keys, wrong
// kinds and values out of bounds become complaints. sections.cpp and proxy.cpp call it; check.cpp
// checks what several keys must agree on.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "tree.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/config/keys.hpp"

namespace udpproxy {

class SectionReader {
public:
    /// Complains about keys that `section` does not have. Complaints put `prefix` before a key:
    /// `runtime.` or `proxy "dns": `.
    SectionReader(const ConfigNode& table, std::string_view section, std::string prefix,
                  Complaints& complaints);

    /// Reads each key of the section that has a member in `owner` and is no form of its own.
    template <class Owner>
    void read_members(Owner& owner) {
        for (const ConfigKey& key : config_keys()) {
            const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
            if (key.section != section_ || member == nullptr || member->read == nullptr) continue;
            if (!member->read(*this, key, owner)) invalid_.push_back(key.name);
        }
    }
    /// Whether the key was absent or right when the members were read.
    [[nodiscard]] bool is_valid(std::string_view key) const {
        return std::find(invalid_.begin(), invalid_.end(), key) == invalid_.end();
    }
    /// Each reads the key into `value` when it is there, and returns false when that led to a
    /// complaint.
    // Requires: `key` accepts values of that type; E's values are its words, in that order.
    template <class E>
    bool read(const ConfigKey& key, E& value) {
        static_assert(std::is_enum_v<E>);
        const std::optional<std::size_t> index = word_index(key);
        if (index) value = static_cast<E>(*index);
        return index.has_value() || find(key.name) == nullptr;
    }
    bool read(const ConfigKey& key, bool& value);
    bool read(const ConfigKey& key, std::string& value);
    bool read(const ConfigKey& key, std::optional<std::uint32_t>& value);
    bool read(const ConfigKey& key, std::uint32_t& value);
    bool read(const ConfigKey& key, Duration& value);
    bool read(const ConfigKey& key, std::uint64_t& value);
    /// The strings of a key that takes a string or a list; none if their number is out of bounds.
    struct Item {
        Location place;
        std::string_view text;
    };
    [[nodiscard]] std::vector<Item> items(std::string_view key);
    /// The string of a key whose text the caller parses. If the value is not a string, the
    /// complaint says to write `right`.
    [[nodiscard]] std::optional<Item> item(std::string_view key, std::string_view right);

    [[nodiscard]] bool has(std::string_view key) { return find(key) != nullptr; }
    /// The position of the key's value; for an absent key, the position of the table.
    [[nodiscard]] Location place(std::string_view key);
    /// Complains if the key is absent. `why` says what to write.
    void require(std::string_view key, std::string_view why);
    void complain(const Location& place, std::string message) {
        complaints_.add(place, std::move(message));
    }
    /// Asserts that every key of the section was read. Called last.
    void finish() const;

private:
    [[nodiscard]] const ConfigNode* find(std::string_view key);
    [[nodiscard]] std::optional<std::size_t> word_index(const ConfigKey& key);
    void reject_unknown_keys() const;
    bool wrong_kind(std::string_view key, const ConfigNode& node, std::string_view right);
    bool read_number(const ConfigKey& key, const ConfigNode& node, std::string_view or_else,
                     std::uint32_t& value);

    const ConfigNode& table_;
    std::string_view section_;
    std::string prefix_;
    Complaints& complaints_;
    std::vector<std::string_view> asked_;
    std::vector<std::string_view> invalid_;
};

/// What a node is, for complaints: `a number`, `a list`.
[[nodiscard]] std::string_view kind_name(ConfigNode::Kind kind);

/// `[log]`, `[[proxy]]`
[[nodiscard]] std::string section_heading(std::string_view section);

/// Reads the whole tree: sections, then proxies, then what they must agree on. The result is
/// complete and valid if no complaint was added.
[[nodiscard]] Config build_config(const ConfigNode& root, Complaints& complaints);

}  // namespace udpproxy
