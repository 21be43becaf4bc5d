// From a Config to the text that is read as the same Config: the keys that differ from their
// defaults, by the list of keys. The addresses are those that were configured, so that an
// interface's name stays a name.
#include <fmt/format.h>

#include <optional>

#include "sections.hpp"
#include "tree.hpp"
#include "udpproxy/base/assert.hpp"

namespace udpproxy {

namespace {

/// The values of the keys that their section parses itself. Absent: as if the key were not written.
std::optional<std::string> value_of_form(std::string_view name, const ProxyConfig& proxy) {
    std::vector<std::string> texts;
    if (name == "name") return toml_string(proxy.name);
    if (name == "upstream") return toml_string(proxy.upstream.text);
    if (name == "ports") {
        if (!proxy.ports) return std::nullopt;
        return toml_string(fmt::format("{}-{}", proxy.ports->first, proxy.ports->last));
    }
    if (name == "listen") {
        // ":53" was read as two addresses with one text.
        for (const ListenAddress& listen : proxy.listen)
            if (texts.empty() || texts.back() != listen.text) texts.push_back(listen.text);
    } else if (name == "reply_aliases") {
        for (const Alias& alias : proxy.reply_aliases) texts.push_back(alias.text);
    } else {
        UDPPROXY_ASSERT(name == "source");
        for (const Address& source : proxy.source) texts.push_back(format(source));
    }
    if (texts.empty()) return std::nullopt;
    return toml_list(texts);
}

std::optional<std::string> value_of_form(std::string_view name, const Config& config) {
    UDPPROXY_ASSERT(name == "listen");
    if (!config.admin.listen) return std::nullopt;
    return toml_string(format(*config.admin.listen));
}

bool is_given(const ConfigKey&, const ProxyConfig&) { return false; }
/// Whether the key was written although its value is the default, and that makes a difference.
bool is_given(const ConfigKey& key, const Config& config) {
    return key.section == "admin" && key.name == "socket" && config.admin.socket_given;
}

template <class Owner>
std::optional<std::string> value_of(const ConfigKey& key, const Owner& owner) {
    const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
    if (member == nullptr || member->text == nullptr) return value_of_form(key.name, owner);
    if (member->same(owner, Owner{}) && !is_given(key, owner)) return std::nullopt;
    const std::string text = member->text(key, owner);
    const bool is_number = key.kind == "number" || (key.kind == "number or auto" && text != "auto");
    return is_number || key.kind == "boolean" ? text : toml_string(text);
}

}  // namespace

std::string toml_of(const ProxyConfig& proxy) {
    std::string text = section_heading("proxy") + '\n';
    for (const ConfigKey& key : config_keys())
        if (key.section == "proxy")
            if (const auto value = value_of(key, proxy))
                text += fmt::format("{} = {}\n", key.name, *value);
    return text;
}

std::string toml_of(const Config& config) {
    std::string text;
    std::string_view section;
    for (const ConfigKey& key : config_keys()) {
        if (key.section == "proxy") continue;
        const auto value = value_of(key, config);
        if (!value) continue;
        if (key.section != section) text += section_heading(key.section) + '\n';
        section = key.section;
        text += fmt::format("{} = {}\n", key.name, *value);
    }
    for (const ProxyConfig& proxy : config.proxies) text += toml_of(proxy);
    return text;
}

}  // namespace udpproxy
