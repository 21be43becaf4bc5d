// Lays out the JSON of each verb. Sentences that say what a number means come from the program;
// only headings and units are chosen here.
#include "views.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "udpproxy/base/printable.hpp"

namespace udpproxy::ctl {

namespace {

std::size_t width_of(const std::string& text) {
    // A character beyond ASCII has more bytes than columns.
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
    }));
}

std::string joined(const Json& list) {
    std::string made;
    for (const Json& item : list)
        made += (made.empty() ? "" : ", ") + printable(item.get<std::string>());
    return made;
}

std::string share(std::uint64_t used, std::uint64_t all) {
    return fmt::format(
        "{} of {} ({:.0f} %)", as_count(used), as_count(all),
        all == 0 ? 0.0 : 100.0 * static_cast<double>(used) / static_cast<double>(all));
}

}  // namespace

std::uint64_t number(const Json& json, const char* key) {
    return json.value(key, std::uint64_t{0});
}

std::string text(const Json& json, const char* key) {
    return printable(json.value(key, std::string{}));
}

std::string as_json(const Json& json, int indentation) {
    return json.dump(indentation, ' ', true) + '\n';
}

std::string as_bytes(double bytes) {
    static constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    for (; bytes >= 1024 && unit + 1 < units.size(); ++unit) bytes /= 1024;
    return unit == 0 ? fmt::format("{:.0f} B", bytes)
                     : fmt::format("{:.1f} {}", bytes, units[unit]);
}

std::string as_count(std::uint64_t count) {
    std::string digits = std::to_string(count);
    for (std::size_t at = digits.size(); at > 3;) {
        at -= 3;
        digits.insert(at, 1, ' ');
    }
    return digits;
}

std::string as_time(double seconds) {
    if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1000);
    const auto whole = static_cast<std::uint64_t>(seconds);
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} m {} s", whole / 60, whole % 60);
    if (whole < 86400) return fmt::format("{} h {} m", whole / 3600, whole / 60 % 60);
    return fmt::format("{} d {} h", whole / 86400, whole / 3600 % 24);
}

std::string in_columns(const std::vector<std::string>& headings,
                       const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    std::vector<std::string> titles;
    std::vector<bool> right;
    for (const std::string& heading : headings) {
        right.push_back(heading.starts_with('>'));
        titles.push_back(right.back() ? heading.substr(1) : heading);
        widths.push_back(width_of(titles.back()));
    }
    for (const auto& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], width_of(row[i]));
    }
    std::string made;
    const auto add = [&](const std::vector<std::string>& row) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string blanks(widths[i] - width_of(row[i]), ' ');
            line += right[i] ? blanks + row[i] : row[i] + blanks;
            line += "  ";
        }
        made += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
    };
    add(titles);
    for (const auto& row : rows) add(row);
    return made;
}

std::string view_status(const Json& status) {
    const Json& counters = status["counters"];
    std::string made =
        fmt::format("udpproxy {}, pid {}, up {}, {}\n", text(status, "version"),
                    number(status, "pid"), as_time(status.value("uptime_seconds", 0.0)),
                    status.value("ready", false) ? "ready" : "accepts no new sessions");
    for (const Json& problem : status["problems"])
        made += fmt::format("PROBLEM  {}: {}\n", text(problem, "proxy"), text(problem, "text"));
    const auto line = [&](const char* name, const std::string& value) {
        made += fmt::format("  {:<12} {}\n", name, value);
    };
    line("engine", fmt::format("{}, {} shards", text(status, "engine"), number(status, "shards")));
    line("config", text(status, "config"));
    line("log level", text(status, "log_level"));
    line("proxies", as_count(number(status, "proxies")));
    line("sessions", share(number(status, "sessions"), number(status, "sessions_max")));
    line("descriptors", share(number(status, "descriptors"), number(status, "descriptors_max")));
    line("requests",
         fmt::format("{} datagrams, {}", as_count(number(counters, "departures_request")),
                     as_bytes(static_cast<double>(number(counters, "bytes_request")))));
    line("replies", fmt::format("{} datagrams, {}", as_count(number(counters, "departures_reply")),
                                as_bytes(static_cast<double>(number(counters, "bytes_reply")))));
    line("drops", as_count(number(status, "drops")));
    line("queue drops", as_count(number(status, "queue_drops")) +
                            " (dropped by the kernel before udpproxy read them)");
    return made;
}

std::string view_proxies(const Json& answer) {
    std::string made;
    for (const Json& proxy : answer["proxies"]) {
        const Json& counters = proxy["counters"];
        made += fmt::format("{}{}\n", text(proxy, "name"),
                            proxy.value("draining", false) ? " (accepts no new sessions)" : "");
        const auto line = [&](const char* name, const std::string& value) {
            made += fmt::format("  {:<12} {}\n", name, value);
        };
        line("listen", joined(proxy["listen"]));
        const std::string endpoint = text(proxy, "upstream_endpoint");
        line("upstream",
             text(proxy, "upstream") + (endpoint.empty() ? " (has no address yet)"
                                        : endpoint == text(proxy, "upstream") ? ""
                                                                              : " = " + endpoint));
        line("sessions", share(number(proxy, "sessions"), number(proxy, "sessions_max")));
        line("requests",
             fmt::format("{} in, {} out, {}", as_count(number(counters, "arrivals_request")),
                         as_count(number(counters, "departures_request")),
                         as_bytes(static_cast<double>(number(counters, "bytes_request")))));
        line("replies",
             fmt::format("{} in, {} out, {}", as_count(number(counters, "arrivals_reply")),
                         as_count(number(counters, "departures_reply")),
                         as_bytes(static_cast<double>(number(counters, "bytes_reply")))));
        for (const Json& source : proxy["replies"])
            line("", fmt::format("{:>12} from {}", as_count(number(source, "datagrams")),
                                 text(source, "kind") == "unlisted"
                                     ? "unlisted sources (udpproxyctl unlisted)"
                                     : text(source, "kind") + " " + text(source, "source")));
        if (const std::uint64_t errors = number(counters, "receive_errors"))
            line("ICMP errors", as_count(errors) + " about requests or replies that were sent");
        for (const auto& [reason, count] : proxy["drops"].items())
            line("dropped",
                 fmt::format("{:>12} {}", as_count(count.get<std::uint64_t>()), printable(reason)));
        if (const std::uint64_t lost = number(proxy, "queue_drops"))
            line("queue drops", as_count(lost));
    }
    return made;
}

std::string view_sessions(const Json& answer) {
    std::vector<std::vector<std::string>> rows;
    for (const Json& session : answer["sessions"]) {
        rows.push_back({std::to_string(number(session, "id")), text(session, "proxy"),
                        text(session, "client"), text(session, "local"),
                        text(session, "local_endpoint"), as_count(number(session, "requests")),
                        as_count(number(session, "replies")),
                        as_bytes(static_cast<double>(number(session, "request_bytes") +
                                                     number(session, "reply_bytes"))),
                        as_time(session.value("age_seconds", 0.0)),
                        as_time(session.value("idle_seconds", 0.0)),
                        session.value("assured", false)   ? "assured"
                        : session.value("replied", false) ? "replied"
                                                          : "no reply"});
    }
    std::string made = in_columns({">ID", "PROXY", "CLIENT", "LISTENER", "LOCAL (TO UPSTREAM)",
                                   ">REQUESTS", ">REPLIES", ">BYTES", ">AGE", ">IDLE", "STATE"},
                                  rows);
    const std::uint64_t found = number(answer, "found");
    if (found > rows.size())
        made += fmt::format("{} of {}; --limit shows more\n", rows.size(), as_count(found));
    return made;
}

std::string view_unlisted(const Json& answer) {
    std::string made;
    for (const Json& source : answer["unlisted"]) {
        made +=
            fmt::format("{}: {} datagrams from {}, the last {} ago\n  {}\n", text(source, "proxy"),
                        as_count(number(source, "datagrams")), text(source, "source"),
                        as_time(source.value("seen_seconds_ago", 0.0)), text(source, "add"));
    }
    return made.empty() ? "none: every reply came from the upstream or an alias\n" : made;
}

std::string view_drops(const Json& answer) {
    std::vector<std::vector<std::string>> rows;
    for (const Json& drop : answer["drops"])
        rows.push_back({text(drop, "proxy"), text(drop, "reason"),
                        as_count(number(drop, "datagrams")), text(drop, "meaning")});
    for (const Json& queue : answer["queue_drops"])
        rows.push_back(
            {text(queue, "proxy"), "(receive queue)", as_count(number(queue, "datagrams")),
             "dropped by the kernel: the queue of " + text(queue, "listen") + " was full"});
    return rows.empty() ? "none\n" : in_columns({"PROXY", "REASON", ">DATAGRAMS", "MEANING"}, rows);
}

std::string view_reload(const Json& answer) {
    std::string made;
    for (const Json& change : answer["changes"])
        made += printable(change.get<std::string>()) + '\n';
    return made.empty() ? "reloaded; nothing has changed\n" : "reloaded:\n" + made;
}

std::string view_drain(const Json& answer) {
    const std::string sessions = as_count(number(answer, "sessions"));
    if (const std::string proxy = text(answer, "proxy"); !proxy.empty())
        return fmt::format("{} accepts no new sessions; {} sessions continue\n", proxy, sessions);
    return fmt::format(
        "no new sessions are accepted; {} sessions continue, the program stops within {}\n",
        sessions, as_time(answer.value("seconds_at_most", 0.0)));
}

std::string view_resume(const Json& answer) {
    return fmt::format("{} accepts new sessions\n", text(answer, "proxy"));
}

std::string view_findings(const Json& answer) {
    return printable_lines(answer.value("text", std::string{}));
}

}  // namespace udpproxy::ctl
