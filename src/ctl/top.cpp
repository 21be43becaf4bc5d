// The live view: each frame shows the rates between two samples of the program's counters. On a
// terminal a frame replaces the previous one, elsewhere frames follow one another.
#include "top.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>
#include <cmath>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <unordered_map>
#include <utility>

#include "table.hpp"
#include "udpproxy/base/printable.hpp"
#include "views.hpp"

namespace udpproxy::ctl {

namespace {

using Moment = std::chrono::steady_clock::time_point;

// Rates need two looks; nobody waits a long interval for the first.
constexpr double first_frame_s = 1;

volatile std::sig_atomic_t interrupted = 0;

/// Unbuffered keys without echo. The destructor restores the terminal.
class Keyboard {
public:
    Keyboard()
        : is_terminal_(::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &before_) == 0) {
        if (!is_terminal_) return;
        termios raw = before_;
        raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
        ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    ~Keyboard() {
        if (is_terminal_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    }
    Keyboard(const Keyboard&) = delete;
    Keyboard& operator=(const Keyboard&) = delete;

    /// Waits; true when `q` was pressed or the terminal is gone. Other keys end no wait: the rates
    /// of a moment say nothing.
    [[nodiscard]] bool quits_before(Moment until) const {
        for (;;) {
            const auto left = std::chrono::ceil<std::chrono::milliseconds>(
                until - std::chrono::steady_clock::now());
            pollfd entry{is_terminal_ ? STDIN_FILENO : -1, POLLIN, 0};
            if (left.count() <= 0 || ::poll(&entry, 1, static_cast<int>(left.count())) <= 0)
                return false;
            char key = 0;
            if (::read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q') return true;
        }
    }

private:
    termios before_{};
    bool is_terminal_;
};

/// By the second; 0 for a counter that decreased: the program was restarted.
double growth(std::uint64_t first, std::uint64_t last, double seconds) {
    return last < first ? 0 : static_cast<double>(last - first) / seconds;
}

double rate(const Json& before, const Json& now, const char* key, double seconds) {
    return growth(number(before, key), number(now, key), seconds);
}

std::string as_rate(double per_second) {
    return as_count(static_cast<std::uint64_t>(std::llround(per_second)));
}

std::size_t lines_in(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

Result<Sample> take_sample(const Client& client) {
    const Result<Json> status = client.json("GET", "/v1/status");
    if (!status) return status.error();
    const Result<Json> proxies = client.json("GET", "/v1/proxies");
    if (!proxies) return proxies.error();
    const Result<Json> sessions =
        client.json("GET", "/v1/sessions", {{"sort", "idle"}, {"limit", "100000"}});
    if (!sessions) return sessions.error();
    return Sample{*status, *proxies, *sessions};
}

struct ProxyNow {
    const Json* proxy;
    const Json* before;
    double drops;
    double datagrams;
};

std::uint64_t drops_of(const Json& proxy) {
    std::uint64_t drops = number(proxy, "queue_drops");
    for (const auto& [reason, count] : proxy["drops"].items()) drops += count.get<std::uint64_t>();
    return drops;
}

std::vector<ProxyNow> proxies_now(const Sample& before, const Sample& now, double seconds) {
    static const Json nothing = Json{{"counters", Json::object()}, {"drops", Json::object()}};
    std::vector<ProxyNow> found;
    for (const Json& proxy : now.proxies["proxies"]) {
        const Json* last = &nothing;
        for (const Json& candidate : before.proxies["proxies"])
            if (candidate["name"] == proxy["name"]) last = &candidate;
        const auto per_second = [&](const char* key) {
            return rate((*last)["counters"], proxy["counters"], key, seconds);
        };
        found.push_back({&proxy, last, growth(drops_of(*last), drops_of(proxy), seconds),
                         per_second("departures_request") + per_second("departures_reply")});
    }
    return found;
}

std::string view_proxies_now(const Sample& before, const Sample& now, double seconds,
                             std::size_t rows_max, std::size_t width) {
    std::vector<ProxyNow> found = proxies_now(before, now, seconds);
    const std::size_t all = found.size();
    if (all > rows_max) {
        std::stable_sort(found.begin(), found.end(), [](const ProxyNow& one, const ProxyNow& two) {
            return std::pair{one.drops, one.datagrams} > std::pair{two.drops, two.datagrams};
        });
        found.resize(rows_max - 1);
    }
    Rows rows;
    for (const ProxyNow& each : found) {
        const auto per_second = [&](const char* key) {
            return rate((*each.before)["counters"], (*each.proxy)["counters"], key, seconds);
        };
        rows.push_back(
            {text(*each.proxy, "name"), as_count(number(*each.proxy, "sessions")),
             as_rate(per_second("departures_request")), as_bytes(per_second("bytes_request")),
             as_rate(per_second("departures_reply")), as_bytes(per_second("bytes_reply")),
             as_rate(each.drops), as_count(drops_of(*each.proxy))});
    }
    std::string made = table({{.heading = "PROXY", .least = 12},
                              {.heading = "SESSIONS", .is_number = true, .rank = 1},
                              {.heading = "REQUESTS/S", .is_number = true, .rank = 2},
                              {.heading = "REQUEST BYTES/S", .is_number = true, .rank = 4},
                              {.heading = "REPLIES/S", .is_number = true, .rank = 2},
                              {.heading = "REPLY BYTES/S", .is_number = true, .rank = 3},
                              {.heading = "DROPS/S", .is_number = true},
                              {.heading = "DROPS", .is_number = true}},
                             rows, width);
    if (found.size() < all)
        made += fmt::format("and {} more with less to show\n", all - found.size());
    return made;
}

struct Busy {
    const Json* session;
    double bytes;
    double datagrams;
};

std::vector<Busy> sessions_now(const Sample& before, const Sample& now, double seconds) {
    std::unordered_map<std::uint64_t, const Json*> known;
    for (const Json& session : before.sessions["sessions"]) known[number(session, "id")] = &session;
    static const Json nothing = Json::object();
    std::vector<Busy> busy;
    for (const Json& session : now.sessions["sessions"]) {
        const auto found = known.find(number(session, "id"));
        const Json& last = found == known.end() ? nothing : *found->second;
        const auto per_second = [&](const char* key) { return rate(last, session, key, seconds); };
        busy.push_back({&session, per_second("request_bytes") + per_second("reply_bytes"),
                        per_second("requests") + per_second("replies")});
    }
    return busy;
}

/// The busiest sessions, in at most so many lines.
std::string view_busiest(const Sample& before, const Sample& now, double seconds,
                         std::size_t lines_max, std::size_t width) {
    constexpr std::size_t lines_around = 2;  // the title and the headings
    if (lines_max <= lines_around) return {};
    std::vector<Busy> busy = sessions_now(before, now, seconds);
    const std::size_t shown = std::min(lines_max - lines_around, busy.size());
    std::partial_sort(busy.begin(), busy.begin() + static_cast<std::ptrdiff_t>(shown), busy.end(),
                      [](const Busy& left, const Busy& right) { return left.bytes > right.bytes; });
    Rows rows;
    for (std::size_t i = 0; i < shown; ++i) {
        const Json& session = *busy[i].session;
        rows.push_back({std::to_string(number(session, "id")), text(session, "client"),
                        text(session, "proxy"), text(session, "local_endpoint"),
                        as_rate(busy[i].datagrams), as_bytes(busy[i].bytes),
                        as_time(session.value("age_seconds", 0.0)),
                        as_time(session.value("idle_seconds", 0.0))});
    }
    const auto view = [&] {
        return fmt::format("busiest sessions: {} of {}\n", rows.size(),
                           as_count(number(now.sessions, "found"))) +
               table({{.heading = "ID", .is_number = true, .rank = 3},
                      {.heading = "CLIENT"},
                      {.heading = "PROXY", .rank = 2, .least = 8},
                      {.heading = "LOCAL (TO UPSTREAM)", .rank = 6},
                      {.heading = "DATAGRAMS/S", .is_number = true, .rank = 1},
                      {.heading = "BYTES/S", .is_number = true},
                      {.heading = "AGE", .is_number = true, .rank = 5},
                      {.heading = "IDLE", .is_number = true, .rank = 4}},
                     rows, width);
    };
    std::string made = view();
    // The line about columns that found no room takes the place of a session.
    for (; lines_in(made) > lines_max && !rows.empty(); made = view()) rows.pop_back();
    return made;
}

/// Whole problems, in about a third of the screen.
std::string view_problems_now(const Json& status, std::size_t lines_max, std::size_t width) {
    Json shown{{"problems", status["problems"]}};
    std::string made = view_problems(shown, width);
    while (lines_in(made) > lines_max && shown["problems"].size() > 1) {
        shown["problems"].erase(shown["problems"].size() - 1);
        made = view_problems(shown, width) +
               fmt::format("and {} more: udpproxyctl status\n",
                           status["problems"].size() - shown["problems"].size());
    }
    return made;
}

/// The first lines, as a terminal has room for no more.
std::string first_lines(const std::string& text, std::size_t rows) {
    std::size_t end = 0;
    for (std::size_t row = 0; row < rows && end < text.size(); ++row)
        end = std::min(text.find('\n', end), text.size() - 1) + 1;
    return text.substr(0, end);
}

}  // namespace

std::string view_frame(const Sample& before, const Sample& now, double seconds, std::size_t rows,
                       std::size_t width) {
    constexpr std::size_t lines_of_sessions_min = 7;
    const auto per_second = [&](const char* key) {
        return rate(before.status["counters"], now.status["counters"], key, seconds);
    };
    std::string frame =
        view_problems_now(now.status, rows / 3, width) +
        wrapped(fmt::format("udpproxy {}  {}  {}  up {}  {}", text(now.status, "version"),
                            text(now.status, "engine"),
                            as_number_of(number(now.status, "shards"), "shard"),
                            as_time(now.status.value("uptime_seconds", 0.0)), state_of(now.status)),
                2, width) +
        '\n' +
        wrapped(
            fmt::format(
                "drops {}/s  sessions {} of {}  requests {}/s, {}/s  replies {}/s, {}/s",
                as_rate(rate(before.status, now.status, "drops", seconds) +
                        rate(before.status, now.status, "queue_drops", seconds)),
                as_count(number(now.status, "sessions")),
                as_count(number(now.status, "sessions_max")),
                as_rate(per_second("departures_request")), as_bytes(per_second("bytes_request")),
                as_rate(per_second("departures_reply")), as_bytes(per_second("bytes_reply"))),
            2, width) +
        "\n\n";
    const std::size_t left = rows - std::min(rows, lines_in(frame) + lines_of_sessions_min + 2);
    frame += view_proxies_now(before, now, seconds, std::max<std::size_t>(left, 2), width) + '\n';
    const std::size_t used = lines_in(frame);
    if (used < rows) frame += view_busiest(before, now, seconds, rows - used, width);
    return first_lines(frame, rows);
}

Result<void> run_top(const Client& client, const TopOptions& options, const Screen& screen) {
    // Elsewhere than on a terminal, frames follow one another.
    constexpr std::size_t rows_of_a_frame = 30;
    constexpr std::size_t rows_min = 5;
    const bool is_terminal = screen.is_terminal && !options.json;
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    const Keyboard keyboard;
    Result<Sample> before = take_sample(client);
    if (!before) return before.error();
    auto sampled_at = std::chrono::steady_clock::now();
    for (std::uint32_t frame = 0; options.frames == 0 || frame < options.frames; ++frame) {
        const double wait_s =
            frame == 0 ? std::min(first_frame_s, options.interval_s) : options.interval_s;
        const auto until = sampled_at + std::chrono::round<std::chrono::steady_clock::duration>(
                                            std::chrono::duration<double>{wait_s});
        if (keyboard.quits_before(until) || interrupted != 0) break;
        Result<Sample> now = take_sample(client);
        if (!now) return now.error();
        const auto at = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(at - sampled_at).count();
        if (options.json) {
            print(as_json({{"seconds", seconds},
                           {"status", now->status},
                           {"proxies", now->proxies["proxies"]}},
                          -1));
        } else {
            if (is_terminal) clear_terminal();
            const Screen size = look_at_screen();  // a window changes its size
            const std::size_t rows =
                is_terminal ? std::max(size.rows, rows_min) - 1 : rows_of_a_frame;
            print_on(size, view_frame(*before, *now, seconds, rows, size.width));
            if (!is_terminal) print("\n");
        }
        std::fflush(stdout);
        before = std::move(now);
        sampled_at = at;
    }
    return {};
}

}  // namespace udpproxy::ctl
