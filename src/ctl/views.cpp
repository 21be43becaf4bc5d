// Lays out the JSON of each verb. Sentences that say what a number means come from the program;
// only headings and units are chosen here.
#include "views.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "table.hpp"
#include "udpproxy/base/printable.hpp"

namespace udpproxy::ctl {

namespace {

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

std::string labelled(const char* name, const std::string& value, std::size_t width) {
    constexpr std::size_t indent = 20;
    return wrapped(fmt::format("  {:<17} {}", name, value), indent, width) + '\n';
}

std::string bytes_of(const Json& counters, const char* key) {
    return as_bytes(static_cast<double>(number(counters, key)));
}

std::string lower_case(std::string text) {
    for (char& letter : text)
        if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter | 0x20);
    return text;
}

}  // namespace

std::string state_of(const Json& status) {
    return status.value("ready", false) ? "ready" : "accepts no new sessions";
}

std::uint64_t number(const Json& json, const char* key) {
    return json.value(key, std::uint64_t{0});
}

std::string text(const Json& json, const char* key) {
    const bool is_null = json.contains(key) && json[key].is_null();
    return is_null ? "" : printable(json.value(key, std::string{}));
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

std::string as_number_of(std::uint64_t count, const std::string& thing) {
    return as_count(count) + ' ' + thing + (count == 1 ? "" : "s");
}

std::string view_problems(const Json& status, std::size_t width) {
    std::string made;
    for (const Json& problem : status["problems"])
        made +=
            wrapped(fmt::format("PROBLEM  {}: {}", text(problem, "proxy"), text(problem, "text")),
                    9, width) +
            '\n';
    return made.empty() ? "no problems in the last minute\n" : made;
}

std::string view_status(const Json& status, std::size_t width) {
    const Json& counters = status["counters"];
    std::string made =
        view_problems(status, width) +
        wrapped(
            fmt::format("udpproxy {}, {}, up {}, pid {}", text(status, "version"), state_of(status),
                        as_time(status.value("uptime_seconds", 0.0)), number(status, "pid")),
            2, width) +
        '\n';
    const auto add = [&](const char* name, const std::string& value) {
        made += labelled(name, value, width);
    };
    const Json worker = status.value("worker", Json::object());
    if (const std::string came = text(worker, "text"); !came.empty()) add("worker", came);
    if (const std::string refusal = text(worker, "last_refusal"); !refusal.empty())
        add("upgrade refused", refusal);
    add("engine", fmt::format("{}, {}", text(status, "engine"),
                              as_number_of(number(status, "shards"), "shard")));
    add("configuration", text(status, "config"));
    add("minimum log level", text(status, "log_level"));
    add("proxies", as_count(number(status, "proxies")));
    add("sessions", share(number(status, "sessions"), number(status, "sessions_max")));
    add("descriptors", share(number(status, "descriptors"), number(status, "descriptors_max")));
    add("requests",
        fmt::format("{}, {}", as_number_of(number(counters, "departures_request"), "datagram"),
                    bytes_of(counters, "bytes_request")));
    add("replies",
        fmt::format("{}, {}", as_number_of(number(counters, "departures_reply"), "datagram"),
                    bytes_of(counters, "bytes_reply")));
    add("drops", as_count(number(status, "drops")));
    add("queue drops",
        as_count(number(status, "queue_drops")) + " (by the kernel: a receive queue was full)");
    return made;
}

std::string view_proxies(const Json& answer, std::size_t width) {
    std::string made;
    for (const Json& proxy : answer["proxies"]) {
        const Json& counters = proxy["counters"];
        made += wrapped(text(proxy, "name") +
                            (proxy.value("draining", false) ? " (accepts no new sessions)" : ""),
                        2, width) +
                '\n';
        const auto add = [&](const char* name, const std::string& value) {
            made += labelled(name, value, width);
        };
        const auto of_direction = [&](const std::string& direction) {
            return fmt::format("{} in, {} out, {}",
                               as_count(number(counters, ("arrivals_" + direction).c_str())),
                               as_count(number(counters, ("departures_" + direction).c_str())),
                               bytes_of(counters, ("bytes_" + direction).c_str()));
        };
        for (const auto& [reason, count] : proxy["drops"].items())
            add("dropped",
                fmt::format("{:>12} {}", as_count(count.get<std::uint64_t>()), printable(reason)));
        if (const std::uint64_t lost = number(proxy, "queue_drops"))
            add("queue drops",
                fmt::format("{:>12} (by the kernel: a receive queue was full)", as_count(lost)));
        add("listeners", joined(proxy["listen"]));
        const std::string endpoint = text(proxy, "upstream_endpoint");
        add("upstream",
            text(proxy, "upstream") + (endpoint.empty() ? " (has no address yet)"
                                       : endpoint == text(proxy, "upstream") ? ""
                                                                             : " = " + endpoint));
        add("sessions", share(number(proxy, "sessions"), number(proxy, "sessions_max")));
        if (const std::string capacity = text(proxy, "capacity"); !capacity.empty())
            add("capacity", capacity);
        add("requests", of_direction("request"));
        add("replies", of_direction("reply"));
        for (const Json& source : proxy["replies"])
            add("", fmt::format("{:>12} from {}", as_count(number(source, "datagrams")),
                                text(source, "kind") == "unlisted"
                                    ? "unlisted sources (udpproxyctl unlisted)"
                                    : text(source, "kind") + " " + text(source, "source")));
        if (const std::uint64_t errors = number(counters, "receive_errors"))
            add("ICMP errors", as_count(errors) + " about datagrams that were sent");
    }
    return made;
}

std::string view_sessions(const Json& answer, const std::string& sorted_by, std::size_t width) {
    std::vector<Column> columns{
        {.heading = "ID", .is_number = true},
        {.heading = "PROXY", .rank = 3, .least = 8},
        {.heading = "CLIENT"},
        {.heading = "LISTENER", .rank = 8},
        {.heading = "LOCAL (TO UPSTREAM)", .rank = 7},
        {.heading = "REQUESTS", .is_number = true, .rank = 1},
        {.heading = "REPLIES", .is_number = true, .rank = 1},
        {.heading = "BYTES", .is_number = true, .rank = 5},
        {.heading = "AGE", .is_number = true, .rank = 6},
        {.heading = "IDLE", .is_number = true, .rank = 4},
        {.heading = "STATE"},
    };
    for (Column& column : columns)
        if (lower_case(column.heading) == sorted_by) column.rank = 0;
    Rows rows;
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
    std::string made = table(columns, rows, width);
    const std::uint64_t found = number(answer, "found");
    if (found > rows.size())
        made += fmt::format("{} of {}; --limit shows more\n", rows.size(), as_count(found));
    return made;
}

std::string view_unlisted(const Json& answer, std::size_t width) {
    std::string made;
    for (const Json& source : answer["unlisted"])
        made += wrapped(fmt::format("{}: {} from {}, the last {} ago", text(source, "proxy"),
                                    as_number_of(number(source, "datagrams"), "datagram"),
                                    text(source, "source"),
                                    as_time(source.value("seen_seconds_ago", 0.0))),
                        4, width) +
                "\n  " + text(source, "add") + '\n';
    if (!made.empty()) return made;
    return wrapped("none: every reply came from the upstream or an alias", 2, width) + '\n';
}

std::string view_drops(const Json& answer, std::size_t width) {
    Rows rows;
    for (const Json& drop : answer["drops"])
        rows.push_back({text(drop, "proxy"), as_count(number(drop, "datagrams")),
                        text(drop, "reason"), text(drop, "meaning")});
    for (const Json& queue : answer["queue_drops"])
        rows.push_back(
            {text(queue, "proxy"), as_count(number(queue, "datagrams")), "(receive queue)",
             "dropped by the kernel: the queue of " + text(queue, "listen") + " was full"});
    if (rows.empty()) return "none\n";
    return table({{.heading = "PROXY", .least = 12},
                  {.heading = "DATAGRAMS", .is_number = true},
                  {.heading = "REASON"},
                  {.heading = "MEANING", .wraps = true}},
                 rows, width);
}

std::string view_killed(const Json& answer, std::size_t width) {
    return wrapped(fmt::format("ended session {} of {} on {}", number(answer, "killed"),
                               text(answer, "client"), text(answer, "proxy")),
                   2, width) +
           '\n';
}

std::string view_log_level(const Json& answer, std::size_t width) {
    return wrapped(text(answer, "level"), 2, width) + '\n';
}

std::string view_reload(const Json& answer, std::size_t width) {
    std::string made;
    for (const Json& change : answer["changes"])
        made += wrapped(printable(change.get<std::string>()), 2, width) + '\n';
    return made.empty() ? "reloaded; nothing has changed\n" : "reloaded:\n" + made;
}

std::string view_drain(const Json& answer, std::size_t width) {
    const std::uint64_t count = number(answer, "sessions");
    const std::string sessions =
        as_number_of(count, "session") + (count == 1 ? " continues" : " continue");
    const std::string proxy = text(answer, "proxy");
    const std::string line =
        proxy.empty() ? fmt::format("no new sessions are accepted; {}, the program stops within {}",
                                    sessions, as_time(answer.value("seconds_at_most", 0.0)))
                      : fmt::format("{} accepts no new sessions; {}", proxy, sessions);
    return wrapped(line, 2, width) + '\n';
}

std::string view_resume(const Json& answer, std::size_t width) {
    return wrapped(text(answer, "proxy") + " accepts new sessions", 2, width) + '\n';
}

std::string view_findings(const Json& answer, std::size_t width) {
    std::string made;
    std::string all = printable_lines(answer.value("text", std::string{}));
    for (std::size_t begin = 0; begin < all.size();) {
        const std::size_t end = std::min(all.find('\n', begin), all.size());
        const std::string line = all.substr(begin, end - begin);
        begin = end + 1;
        const std::size_t fix = width_of(line) > width ? line.find("; fix: ") : std::string::npos;
        made += wrapped(line.substr(0, fix), 8, width) + '\n';
        if (fix != std::string::npos) made += std::string(8, ' ') + line.substr(fix + 2) + '\n';
    }
    return made;
}

}  // namespace udpproxy::ctl
