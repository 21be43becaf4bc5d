// What a reload finds different, key by key, with both values. plan.cpp decides what follows from
// it. Listening addresses have steps of their own in the plan.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "udpproxy/config/keys.hpp"
#include "udpproxy/runtime/plan.hpp"

namespace udpproxy {

namespace {

constexpr std::size_t value_bytes_max = 512;

std::string text_of(const Alias& alias) {
    if (!alias.interface.empty()) return alias.text;
    const bool is_ipv4 = alias.prefix.address.is_ipv4();
    const bool is_one = alias.prefix.bits == (is_ipv4 ? 32 : 128);
    const std::string address = is_one ? format(alias.prefix.address) : format(alias.prefix);
    return fmt::format("{}:{}", is_ipv4 ? address : '[' + address + ']',
                       alias.port ? std::to_string(*alias.port) : "*");
}

/// Of the keys that their section parses itself. The text is the same however the file spells it.
std::string text_of_form(std::string_view name, const ProxyConfig& proxy) {
    std::vector<std::string> entries;
    if (name == "upstream") {
        const UpstreamAddress& upstream = proxy.upstream;
        const bool is_plain = upstream.endpoint && upstream.interface.empty();
        entries.push_back(is_plain ? format(*upstream.endpoint) : upstream.text);
    } else if (name == "reply_aliases") {
        for (const Alias& alias : proxy.reply_aliases) entries.push_back(text_of(alias));
    } else if (name == "source") {
        for (const Address& source : proxy.source) entries.push_back(format(source));
    } else if (name == "ports" && proxy.ports) {
        entries.push_back(fmt::format("{}-{}", proxy.ports->first, proxy.ports->last));
    }
    return fmt::format("{}", fmt::join(entries, ", "));
}

std::string text_of_form(std::string_view name, const Config& config) {
    return name == "listen" && config.admin.listen ? format(*config.admin.listen) : "";
}

/// Cuts values of any length to what fits in a line: first where both begin alike, since the
/// difference is what is asked for.
void shorten(std::string& one, std::string& other) {
    constexpr std::string_view cut = "...";
    if (std::max(one.size(), other.size()) > value_bytes_max) {
        const auto [end, unused] =
            std::mismatch(one.begin(), one.end(), other.begin(), other.end());
        const std::size_t comma = one.rfind(", ", static_cast<std::size_t>(end - one.begin()));
        if (comma != std::string::npos) {
            one.replace(0, comma, cut);
            other.replace(0, std::min(comma, other.size()), cut);
        }
    }
    for (std::string* text : {&one, &other})
        if (text->size() > value_bytes_max) text->replace(value_bytes_max, std::string::npos, cut);
}

template <class Owner>
void add_changes(std::vector<KeyChange>& changes, const std::string& proxy, const Owner& present,
                 const Owner& wanted) {
    constexpr bool is_proxy = std::is_same_v<Owner, ProxyConfig>;
    for (const ConfigKey& key : config_keys()) {
        if ((key.section == "proxy") != is_proxy) continue;
        const auto* member = std::get_if<ConfigMember<Owner>>(&key.member);
        const bool has_text = member != nullptr && member->text != nullptr;
        KeyChange change{proxy, std::string{key.name}, {}, {}, key.takes_effect};
        if (!is_proxy) change.key = fmt::format("{}.{}", key.section, key.name);
        change.present = has_text ? member->text(key, present) : text_of_form(key.name, present);
        change.wanted = has_text ? member->text(key, wanted) : text_of_form(key.name, wanted);
        if (change.present == change.wanted) continue;
        shorten(change.present, change.wanted);
        changes.push_back(std::move(change));
    }
}

}  // namespace

std::vector<KeyChange> key_changes(const Config& present, const Config& wanted) {
    std::vector<KeyChange> changes;
    for (const ProxyConfig& proxy : present.proxies)
        if (const ProxyConfig* next = find_proxy(wanted, proxy.name))
            add_changes(changes, proxy.name, proxy, *next);
    add_changes(changes, "", present, wanted);
    return changes;
}

std::string name_of(const KeyChange& change) {
    return change.proxy.empty() ? change.key
                                : fmt::format("proxy \"{}\": {}", change.proxy, change.key);
}

std::string text_of(const KeyChange& change) {
    const auto shown = [](const std::string& value) { return value.empty() ? "(none)" : value; };
    const char* const later = change.takes_effect == TakesEffect::at_reload ? ""
                              : change.takes_effect == TakesEffect::at_restart
                                  ? ": needs a restart"
                                  : ": its listeners need a restart";
    return fmt::format("{} {} -> {}{}", name_of(change), shown(change.present),
                       shown(change.wanted), later);
}

}  // namespace udpproxy
