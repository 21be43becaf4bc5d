// Reads one [[proxy]], each key by itself. check.cpp checks what the keys must agree on.
#include "proxy.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sections.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

bool is_name(std::string_view name) {
    constexpr std::string_view letters =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    return !name.empty() && name.size() <= 64 &&
           name.find_first_not_of(letters) == std::string_view::npos;
}

/// The label is made before anything else is read, because every complaint carries it.
std::string label_of(const ConfigNode& table, std::size_t index) {
    for (const ConfigEntry& entry : table.entries)
        if (entry.name == "name" && entry.value.kind == ConfigNode::Kind::string &&
            is_name(entry.value.text))
            return fmt::format("proxy \"{}\"", entry.value.text);
    return fmt::format("proxy[{}]", index);
}

void read_name(SectionReader& reader, ProxyDraft& draft) {
    reader.require("name", "write the name of this proxy in logs and metrics");
    draft.name = reader.place("name");
    const std::optional<SectionReader::Item> item = reader.item("name", "a string");
    if (!item) return;
    if (is_name(item->text))
        draft.config.name = item->text;
    else
        reader.complain(draft.name,
                        in_quotes(item->text) +
                            " is not a name; write 1 to 64 letters, digits, \"_\", \".\" or \"-\"");
}

void read_listen(SectionReader& reader, ProxyDraft& draft) {
    reader.require("listen",
                   "write the address that clients write to, as in \"192.0.2.1:53\", or \":53\" "
                   "for every address");
    for (const SectionReader::Item& item : reader.items("listen")) {
        Result<std::vector<ListenAddress>> addresses = parse_listen(item.text);
        if (!addresses) {
            reader.complain(item.place, addresses.error().message);
            continue;
        }
        for (ListenAddress& address : *addresses) {
            draft.config.listen.push_back(std::move(address));
            draft.listen.push_back(item.place);
        }
    }
}

void read_upstream(SectionReader& reader, ProxyDraft& draft) {
    reader.require("upstream", "write where requests go, as in \"192.0.2.1:53\"");
    draft.upstream = reader.place("upstream");
    const std::optional<SectionReader::Item> item =
        reader.item("upstream", "a string, as in \"192.0.2.1:53\"");
    if (!item) return;
    Result<UpstreamAddress> upstream = parse_upstream(item->text);
    if (!upstream) return reader.complain(item->place, upstream.error().message);
    draft.config.upstream = std::move(*upstream);
    draft.upstream_valid = true;
}

// Requires: the upstream was read; an alias without a port takes the upstream's.
void read_aliases(SectionReader& reader, ProxyDraft& draft) {
    for (const SectionReader::Item& item : reader.items("reply_aliases")) {
        Result<Alias> alias = parse_alias(item.text, draft.config.upstream.port);
        if (!alias) {
            reader.complain(item.place, alias.error().message);
            continue;
        }
        draft.config.reply_aliases.push_back(std::move(*alias));
        draft.reply_aliases.push_back(item.place);
    }
}

void read_source(SectionReader& reader, ProxyDraft& draft) {
    for (const SectionReader::Item& item : reader.items("source")) {
        const Result<Address> address = parse_source(item.text);
        if (!address) {
            reader.complain(item.place, address.error().message);
            continue;
        }
        draft.config.source.push_back(*address);
        draft.source.push_back(item.place);
    }
}

void read_ports(SectionReader& reader, ProxyDraft& draft) {
    const std::optional<SectionReader::Item> item =
        reader.item("ports", "a string, as in \"20000-59999\"");
    if (!item) return;
    const Result<PortRange> ports = parse_port_range(item->text);
    if (!ports) return reader.complain(item->place, ports.error().message);
    draft.config.ports = *ports;
}

}  // namespace

ProxyDraft read_proxy(const ConfigNode& table, std::size_t index, Complaints& complaints) {
    ProxyDraft draft;
    draft.label = label_of(table, index);
    SectionReader reader{table, "proxy", draft.label + ": ", complaints};
    ProxyConfig& config = draft.config;
    read_name(reader, draft);
    read_listen(reader, draft);
    read_upstream(reader, draft);
    config.upstream.position = complaints.position(draft.upstream.at);
    read_aliases(reader, draft);
    draft.alias_filter = reader.place("alias_filter");
    read_source(reader, draft);
    read_ports(reader, draft);
    reader.read_members(config);
    draft.timeouts_valid = reader.is_valid("idle_timeout") && reader.is_valid("unassured_timeout");
    if (reader.has("idle_timeout")) draft.idle_timeout = reader.place("idle_timeout");
    if (reader.has("unassured_timeout"))
        draft.unassured_timeout = reader.place("unassured_timeout");
    draft.sessions_max = reader.place("sessions_max");
    config.position = complaints.position(draft.sessions_max.at);
    if (reader.has("new_sessions_burst"))
        draft.new_sessions_burst = reader.place("new_sessions_burst");
    reader.finish();
    return draft;
}

}  // namespace udpproxy
