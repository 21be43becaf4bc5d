// From the tree of values to the Config: which sections exist, and what each key outside [[proxy]]
// sets. proxy.cpp reads the proxies; section_reader.cpp reads a key of each kind.
#include "sections.hpp"

#include <fmt/format.h>

#include "proxy.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/config/values.hpp"

namespace udpproxy {

namespace {

constexpr std::string_view proxy_section = "proxy";

std::vector<std::string_view> section_names() {
    std::vector<std::string_view> names;
    for (const ConfigKey& key : config_keys())
        if (names.empty() || names.back() != key.section) names.push_back(key.section);
    return names;
}

void reject_unknown_section(const ConfigEntry& entry, Complaints& complaints) {
    const Location place{entry.name_at, key_text(entry.name)};
    for (const ConfigKey& key : config_keys())
        if (key.name == entry.name)
            return complaints.add(place,
                                  fmt::format("stands outside its section; write it under {}",
                                              section_heading(key.section)));
    const std::vector<std::string_view> names = section_names();
    if (const std::string_view name = nearest(entry.name, names); !name.empty())
        return complaints.add(
            place, fmt::format("unknown section; did you mean {}?", section_heading(name)));
    std::vector<std::string> headings;
    for (const std::string_view name : names) headings.push_back(section_heading(name));
    complaints.add(place,
                   fmt::format("unknown section; the sections are {}", listed(headings, "and")));
}

/// The section's table, or an empty one when it is absent or not a table.
const ConfigNode& section_table(const ConfigNode& root, std::string_view section,
                                Complaints& complaints) {
    static const ConfigNode empty;
    for (const ConfigEntry& entry : root.entries) {
        if (entry.name != section) continue;
        if (entry.value.kind == ConfigNode::Kind::table) return entry.value;
        complaints.add({entry.name_at, entry.name},
                       fmt::format("is {}; write a section {}", kind_name(entry.value.kind),
                                   section_heading(section)));
    }
    return empty;
}

std::vector<const ConfigNode*> proxy_tables(const ConfigNode& root, Complaints& complaints) {
    std::vector<const ConfigNode*> tables;
    const ConfigEntry* proxies = nullptr;
    for (const ConfigEntry& entry : root.entries)
        if (entry.name == proxy_section) proxies = &entry;
    if (proxies == nullptr) {
        complaints.add(
            {Position{}, std::string{proxy_section}},
            "there is none; write at least one [[proxy]] with name, listen and upstream");
        return tables;
    }
    const Location place{proxies->name_at, std::string{proxy_section}};
    if (proxies->value.kind == ConfigNode::Kind::table) {
        complaints.add(place, "is a single section; write [[proxy]], in double brackets");
        return tables;
    }
    if (proxies->value.kind != ConfigNode::Kind::list || proxies->value.items.empty()) {
        complaints.add(
            place, "must be one section or more; write [[proxy]] with name, listen and upstream");
        return tables;
    }
    for (const ConfigNode& item : proxies->value.items) {
        if (tables.size() == config_proxies_max) {
            complaints.add(
                {item.at, std::string{proxy_section}},
                fmt::format("there are more than {}; write at most that many", config_proxies_max));
            break;
        }
        if (item.kind != ConfigNode::Kind::table)
            complaints.add({item.at, std::string{proxy_section}},
                           fmt::format("is {}; write a section [[proxy]]", kind_name(item.kind)));
        else
            tables.push_back(&item);
    }
    return tables;
}

void read_runtime(const ConfigNode& root, Complaints& complaints, Config& config) {
    SectionReader runtime{section_table(root, "runtime", complaints), "runtime", "runtime.",
                          complaints};
    runtime.read_members(config);
    runtime.finish();
}

void read_log(const ConfigNode& root, Complaints& complaints, Config& config) {
    SectionReader log{section_table(root, "log", complaints), "log", "log.", complaints};
    log.read_members(config);
    if (config.log_file.find('\0') != std::string::npos)
        log.complain(log.place("file"), "has a zero byte; write a path");
    log.finish();
}

void read_limits(const ConfigNode& root, Complaints& complaints, Config& config) {
    SectionReader limits{section_table(root, "limits", complaints), "limits", "limits.",
                         complaints};
    limits.read_members(config);
    if (limits.has("sessions_max"))
        config.sessions_max_position = complaints.position(limits.place("sessions_max").at);
    check_burst(config.new_sessions, limits.place("new_sessions_burst"), complaints);
    limits.finish();
}

void read_admin_listen(SectionReader& admin, AdminConfig& config) {
    const std::optional<SectionReader::Item> item =
        admin.item("listen", "an address and a port, as in \"127.0.0.1:9090\"");
    if (!item || item->text.empty()) return;
    if (const Result<void> plain = check_plain(item->text); !plain)
        return admin.complain(item->place, plain.error().message);
    const Result<Endpoint> endpoint = parse_endpoint(item->text);
    if (!endpoint)
        return admin.complain(
            item->place, fmt::format("{}; write an address and a port, as in \"127.0.0.1:9090\"",
                                     endpoint.error().message));
    if (!endpoint->address.is_loopback() && !config.allow_remote)
        return admin.complain(
            item->place,
            fmt::format(
                "{} is not a loopback address, and everybody who can reach it sees every client's "
                "address; "
                "write \"127.0.0.1:{}\", or allow_remote = true beside it",
                in_quotes(item->text), endpoint->port));
    config.listen = *endpoint;
}

void read_admin(const ConfigNode& root, Complaints& complaints, Config& config) {
    SectionReader admin{section_table(root, "admin", complaints), "admin", "admin.", complaints};
    config.admin.socket_given = admin.has("socket");
    admin.read_members(config);
    // sun_path has 108 bytes with the zero at its end (unix(7)).
    if (config.admin.socket.size() > 107 || config.admin.socket.find('\0') != std::string::npos)
        admin.complain(admin.place("socket"),
                       "is not a path for a socket; write one of at most 107 bytes");
    if (config.admin.group.find('\0') != std::string::npos)
        admin.complain(admin.place("group"), "has a zero byte; write a name");
    read_admin_listen(admin, config.admin);
    admin.finish();
}

}  // namespace

std::string section_heading(std::string_view section) {
    return section == proxy_section ? fmt::format("[[{}]]", section) : fmt::format("[{}]", section);
}

Config build_config(const ConfigNode& root, Complaints& complaints) {
    Config config;
    const std::vector<std::string_view> names = section_names();
    for (const ConfigEntry& entry : root.entries) {
        bool is_known = false;
        for (const std::string_view name : names) is_known = is_known || name == entry.name;
        if (!is_known) reject_unknown_section(entry, complaints);
    }
    read_runtime(root, complaints, config);
    read_log(root, complaints, config);
    read_limits(root, complaints, config);
    read_admin(root, complaints, config);

    std::vector<ProxyDraft> drafts;
    for (const ConfigNode* table : proxy_tables(root, complaints))
        drafts.push_back(read_proxy(*table, drafts.size(), complaints));
    check_proxies(drafts, complaints);
    for (ProxyDraft& draft : drafts) config.proxies.push_back(std::move(draft.config));
    return config;
}

}  // namespace udpproxy
