// The list of the configuration's keys, each with every fact about it: what it accepts, the member
// that it is read into, and when a change takes effect. The reader, the plan of a reload, the
// summary and the texts of this list derive from it; docs/configuration.md and
// udpproxy.toml.example are tested against it. What keys must agree on is checked in check.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "udpproxy/base/time.hpp"
#include "udpproxy/config/config.hpp"

namespace udpproxy {

class SectionReader;
struct ConfigKey;

/// When a value that differs at a reload takes effect.
enum class TakesEffect : std::uint8_t {
    at_reload,
    at_restart,
    at_restart_for_listeners,  // for all else at the reload
};

/// The way to a key's value in the `Owner`, which is Config or ProxyConfig. What is null does not
/// apply: to a form that the section parses itself, or to a key without a member of its own.
template <class Owner>
struct ConfigMember {
    bool (*read)(SectionReader& reader, const ConfigKey& key, Owner& owner) = nullptr;
    std::string (*text)(const ConfigKey& key, const Owner& owner) = nullptr;
    bool (*same)(const Owner& a, const Owner& b) = nullptr;
    void (*copy)(Owner& to, const Owner& from) = nullptr;
};

/// One key of the file.
struct ConfigKey {
    /// What the parser of the form says, or true and false; `values` is for people.
    struct Form {
        std::string_view values;
    };
    /// In the order of the enumeration.
    using Words = std::vector<std::string_view>;
    template <class T>
    struct Bounds {
        T least{};
        T most{};
    };
    using Numbers = Bounds<std::uint32_t>;
    using Durations = Bounds<Duration>;
    using Sizes = Bounds<std::uint64_t>;
    /// Of a list.
    struct Entries {
        std::uint32_t least = 0;
        std::uint32_t most = 0;
    };
    using Accepts = std::variant<Form, Words, Numbers, Durations, Sizes, Entries>;

    std::string_view section;   // "runtime", "log", "limits", "admin", "proxy"
    std::string_view name;      // "engine"
    std::string_view kind;      // "word", "string", "string or list", "number", "number or auto",
                                // "boolean", "duration", "size", "port range"
    Accepts accepts;            // what the reader checks
    std::string values;         // the same as text: "auto | io_uring | epoll", "100ms to 7d", "1 to
                                // 16 entries"; empty: see the summary
    std::string default_value;  // as it would be written in TOML; empty: required or absent
    TakesEffect takes_effect = TakesEffect::at_reload;
    std::string_view summary;  // one sentence
    std::variant<std::monostate, ConfigMember<Config>, ConfigMember<ProxyConfig>> member;
};

/// In the order in which they are documented.
[[nodiscard]] const std::vector<ConfigKey>& config_keys();
// Requires: the key is in config_keys().
[[nodiscard]] const ConfigKey& config_key(std::string_view section, std::string_view name);

}  // namespace udpproxy
