// What only a start opens: the admin sockets and the log file. What was found is told apart by
// whether the start fails whoever asks, or only as things are at this moment.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "findings.hpp"
#include "udpproxy/host/access.hpp"
#include "udpproxy/host/procfs.hpp"

namespace udpproxy {

namespace {

/// Service managers make such directories when they start a service (RuntimeDirectory=,
/// LogsDirectory= of systemd.exec(5)).
bool may_be_made_at_start(const std::string& directory) {
    return directory.starts_with("/run/") || directory.starts_with("/var/");
}

void collect_admin_socket(const std::string& path, bool goes_on, StartFacts& facts) {
    facts.admin_socket_error = error_of_new_file_in(directory_of(path));
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0) return;
    facts.admin_socket_is_file = !S_ISSOCK(found.st_mode);
    if (goes_on) return;
    const auto inode = find_unix_listener(read_host_file("/proc/net/unix").value_or(""), path);
    if (inode) facts.admin_socket_holder = text_of(holders_of({*inode}).front(), found.st_uid);
}

/// A file that cannot be made, by what stands in the way.
void add_file(FindingKind kind, const std::string& where, const std::string& path, int error,
              const std::string& user, Findings& findings) {
    const std::string directory = directory_of(path);
    const bool is_missing = error == ENOENT;
    const bool may_come = is_missing && may_be_made_at_start(directory);
    const bool depends_on_user = error == EACCES || error == EPERM;
    std::string looked_at = fmt::format("{} to user {}", error_text(error), user);
    std::string fix = "rights for the user that the service runs as";
    if (is_missing) {
        looked_at = "there is no directory " + directory;
        fix = (may_come ? "RuntimeDirectory= or LogsDirectory= in the unit, or mkdir " : "mkdir ") +
              directory;
    } else if (!depends_on_user) {
        looked_at = error_text(error);
        fix = "another path";
    }
    const char* const meaning = may_come ? "the start fails unless the service manager makes it"
                                : depends_on_user
                                    ? "the start fails unless the service's user may write there"
                                    : "the start fails";
    findings.add(kind, Severity::problem, where, looked_at, meaning, fix).at_start =
        may_come || depends_on_user ? StartEffect::warns : StartEffect::fails;
}

void check_admin_socket(const AdminConfig& admin, const HostFacts& facts, Findings& findings) {
    if (admin.socket.empty()) return;
    const StartFacts& start = *facts.start;
    const std::string where = fmt::format("admin.socket \"{}\"", admin.socket);
    if (!admin.socket_given)
        return findings.ok(FindingKind::admin, where,
                           "the default; the program starts without it if need be");
    if (start.admin_socket_is_file) {
        findings
            .add(FindingKind::admin, Severity::problem, where, "is there, and no socket",
                 "the start fails", "take the file away, or name another path")
            .at_start = StartEffect::fails;
    } else if (!start.admin_socket_holder.empty()) {
        const bool is_own = start.admin_socket_holder.starts_with(own_name);
        findings
            .add(FindingKind::admin, is_own ? Severity::ok : Severity::problem, where,
                 start.admin_socket_holder + " listens on it",
                 is_own ? "a restart of it takes it over; another start beside it fails"
                        : "the start fails",
                 is_own ? "" : "name another path")
            .at_start = StartEffect::warns;
    } else if (start.admin_socket_error != 0) {
        add_file(FindingKind::admin, where, admin.socket, start.admin_socket_error, facts.user,
                 findings);
    } else {
        findings.ok(FindingKind::admin, where, "can be opened");
    }
}

void check_admin_listen(const Endpoint& endpoint, const HostFacts& facts, Findings& findings) {
    const StartFacts& start = *facts.start;
    const std::string where = "admin.listen " + format(endpoint);
    if (endpoint.family() == Family::ipv6 && !facts.has_ipv6) {
        findings
            .add(FindingKind::admin, Severity::problem, where,
                 "this kernel has no IPv6, or refuses it to this process", "the start fails",
                 "an IPv4 address")
            .at_start = StartEffect::fails;
    } else if (!start.admin_address_is_here) {
        findings
            .add(FindingKind::admin, Severity::problem, where, "is not an address of this host",
                 "the start fails: the admin server does not wait for addresses",
                 "an address that is here")
            .at_start = StartEffect::warns;
    } else if (start.admin_port) {
        const bool is_own = start.admin_port->holder == own_name;
        findings
            .add(FindingKind::admin, is_own ? Severity::ok : Severity::problem, where,
                 fmt::format("is held by {} at {}", start.admin_port->shown,
                             format(start.admin_port->local)),
                 is_own ? "a restart of it takes it over; another start beside it fails"
                        : "the start fails: address already in use",
                 is_own ? "" : "another port")
            .at_start = StartEffect::warns;
    } else {
        findings.ok(FindingKind::admin, where, "can be opened");
    }
}

}  // namespace

StartFacts collect_start_facts(const Config& config, bool goes_on, RouteTable* routes) {
    StartFacts facts;
    const AdminConfig& admin = config.admin;
    facts.has_admin_group = admin.group.empty() || find_group(admin.group).has_value();
    if (!admin.socket.empty()) collect_admin_socket(admin.socket, goes_on, facts);
    if (admin.listen) {
        const Endpoint& endpoint = *admin.listen;
        const Address any = Address::any(endpoint.family());
        facts.admin_address_is_here =
            endpoint.address.is_unspecified() || endpoint.address.is_link_local() ||
            routes == nullptr || routes->route({endpoint.address, endpoint.scope, 0}, any).is_local;
        if (!goes_on) facts.admin_port = find_holder(endpoint, Transport::tcp);
    }
    if (!config.log_file.empty()) facts.log_file_error = error_of_writing(config.log_file);
    return facts;
}

void check_start(const Config& config, const HostFacts& facts, Findings& findings) {
    if (!facts.start) return;
    if (!facts.start->has_admin_group)
        findings
            .add(FindingKind::admin, Severity::problem,
                 fmt::format("admin.group \"{}\"", config.admin.group), std::string{no_such_group},
                 "the start fails", "groupadd --system " + config.admin.group)
            .at_start = StartEffect::fails;
    check_admin_socket(config.admin, facts, findings);
    if (config.admin.listen) check_admin_listen(*config.admin.listen, facts, findings);
    if (config.log_file.empty()) return;
    const std::string where = fmt::format("log.file \"{}\"", config.log_file);
    if (facts.start->log_file_error != 0)
        add_file(FindingKind::log_file, where, config.log_file, facts.start->log_file_error,
                 facts.user, findings);
    else
        findings.ok(FindingKind::log_file, where, "can be opened");
}

std::vector<Finding> diagnose_start(const Config& config, const HostFacts& facts) {
    Findings findings;
    for (std::size_t i = 0; i < config.proxies.size(); ++i)
        check_listeners({config.proxies[i], facts.proxies[i], facts}, findings);
    check_start(config, facts, findings);
    check_engine(config, facts, findings);
    std::vector<Finding> told;
    std::vector<std::size_t> times;
    for (Finding& finding : findings.list) {
        if (finding.at_start == StartEffect::none) continue;
        const auto same = std::find_if(told.begin(), told.end(), [&](const Finding& each) {
            return each.kind == finding.kind && each.looked_at == finding.looked_at &&
                   each.meaning == finding.meaning;
        });
        if (same != told.end()) {
            ++times[static_cast<std::size_t>(same - told.begin())];
            continue;
        }
        told.push_back(std::move(finding));
        times.push_back(1);
    }
    for (std::size_t i = 0; i < told.size(); ++i)
        if (times[i] > 1) told[i].where += fmt::format(" and {} more", times[i] - 1);
    return told;
}

}  // namespace udpproxy
