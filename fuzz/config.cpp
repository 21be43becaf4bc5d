// A configuration in TOML: complaints that a person can read, or a Config that is still accepted,
// and the same, when it is written down again.
#include <fmt/format.h>

#include "fuzz/input.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/config/keys.hpp"
#include "unit/config_dump.hpp"

namespace udpproxy::fuzz {

namespace {

/// A basic string of TOML. Bytes beyond ASCII stand for themselves.
std::string toml_string(std::string_view text) {
    std::string result = "\"";
    for (const char letter : text) {
        const auto byte = static_cast<unsigned char>(letter);
        if (byte == '"' || byte == '\\')
            result += {'\\', letter};
        else if (byte < 0x20 || byte == 0x7f)
            result += fmt::format("\\u{:04X}", byte);
        else
            result += letter;
    }
    return result + '"';
}

/// Every key of the section that is read by its kind.
template <class Owner>
std::string plain_keys(std::string_view section, const Owner& owner) {
    std::string text;
    for (const ConfigKey& key : config_keys()) {
        if (key.section != section) continue;
        const auto& member = std::get<ConfigMember<Owner>>(key.member);
        if (member.text == nullptr) continue;
        const std::string value = member.text(key, owner);
        const bool is_bare = key.kind == "boolean" || key.kind == "number" ||
                             (key.kind == "number or auto" && value != "auto");
        text += fmt::format("{} = {}\n", key.name, is_bare ? value : toml_string(value));
    }
    return text;
}

template <class Items, class ToText>
std::string list_of(const Items& items, ToText&& to_text) {
    std::string list;
    for (const auto& item : items) list += toml_string(to_text(item)) + ", ";
    return '[' + list + ']';
}

std::string proxy_text(const ProxyConfig& proxy) {
    // `:53` is one text and two addresses.
    std::vector<std::string> listen;
    for (const ListenAddress& address : proxy.listen)
        if (listen.empty() || listen.back() != address.text) listen.push_back(address.text);
    std::string text = fmt::format("[[proxy]]\nname = {}\nupstream = {}\n", toml_string(proxy.name),
                                   toml_string(proxy.upstream.text));
    text += fmt::format("listen = {}\n", list_of(listen, [](const auto& each) { return each; }));
    text +=
        fmt::format("reply_aliases = {}\n",
                    list_of(proxy.reply_aliases, [](const Alias& alias) { return alias.text; }));
    if (!proxy.source.empty())
        text += fmt::format("source = {}\n", list_of(proxy.source, [](const Address& address) {
                                return format(address);
                            }));
    if (proxy.ports)
        text += fmt::format("ports = \"{}-{}\"\n", proxy.ports->first, proxy.ports->last);
    for (const ConfigKey& key : config_keys()) {
        const auto* member = std::get_if<ConfigMember<ProxyConfig>>(&key.member);
        if (key.section != "proxy" || member == nullptr || member->text == nullptr) continue;
        const std::string value = member->text(key, proxy);
        const bool is_bare =
            key.kind == "number" || (key.kind == "number or auto" && value != "auto");
        text += fmt::format("{} = {}\n", key.name, is_bare ? value : toml_string(value));
    }
    return text;
}

std::string as_toml(const Config& config) {
    std::string text;
    for (const std::string_view section : {"runtime", "log", "limits", "admin"}) {
        text += fmt::format("[{}]\n{}", section, plain_keys(section, config));
        if (section == "admin" && config.admin.listen)
            text += fmt::format("listen = {}\n", toml_string(format(*config.admin.listen)));
    }
    for (const ProxyConfig& proxy : config.proxies) text += proxy_text(proxy);
    return text;
}

}  // namespace

void config(Bytes input) {
    const auto outcome = parse_config(Input::text_of(input), "file");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome)) {
        UDPPROXY_ASSERT(!complaints->lines.empty());
        for (const std::string& line : complaints->lines)
            UDPPROXY_ASSERT(line.starts_with("file:") && is_one_line(line));
        return;
    }
    const Config& accepted = std::get<Config>(outcome);
    UDPPROXY_ASSERT(!accepted.proxies.empty() && accepted.proxies.size() <= config_proxies_max);
    UDPPROXY_ASSERT(summarise(accepted).ends_with('\n'));
    const auto again = parse_config(as_toml(accepted), "again");
    UDPPROXY_ASSERT(std::holds_alternative<Config>(again));
    UDPPROXY_ASSERT(dump(std::get<Config>(again)) == dump(accepted));
}

}  // namespace udpproxy::fuzz
