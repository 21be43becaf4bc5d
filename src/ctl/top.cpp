// The live view: each frame shows the rates between two samples of the program's counters. On a
// terminal a frame replaces the previous one, elsewhere frames follow one another.
#include "top.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <cmath>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <unordered_map>

#include "udpproxy/base/printable.hpp"
#include "views.hpp"

namespace udpproxy::ctl {

namespace {

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

    /// Waits; true when `q` was pressed.
    [[nodiscard]] bool quits_within(double seconds) const {
        pollfd entry{is_terminal_ ? STDIN_FILENO : -1, POLLIN, 0};
        if (::poll(&entry, 1, static_cast<int>(seconds * 1000)) <= 0) return false;
        char key = 0;
        return ::read(STDIN_FILENO, &key, 1) == 1 && (key == 'q' || key == 'Q');
    }

private:
    termios before_{};
    bool is_terminal_;
};

double rate(const Json& before, const Json& now, const char* key, double seconds) {
    const std::uint64_t first = number(before, key);
    const std::uint64_t last = number(now, key);
    return last < first ? 0
                        : static_cast<double>(last - first) /
                              seconds;  // a counter that decreased: the program was restarted
}

std::string as_rate(double per_second) {
    return as_count(static_cast<std::uint64_t>(std::llround(per_second))) + "/s";
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

std::string view_proxies_now(const Sample& before, const Sample& now, double seconds) {
    std::vector<std::vector<std::string>> rows;
    for (const Json& proxy : now.proxies["proxies"]) {
        static const Json nothing = Json{{"counters", Json::object()}};
        const Json* last = &nothing;
        for (const Json& candidate : before.proxies["proxies"]) {
            if (candidate["name"] == proxy["name"]) last = &candidate;
        }
        const auto per_second = [&](const char* key) {
            return rate((*last)["counters"], proxy["counters"], key, seconds);
        };
        std::uint64_t drops = 0;
        for (const auto& [reason, count] : proxy["drops"].items())
            drops += count.get<std::uint64_t>();
        rows.push_back({text(proxy, "name"), as_count(number(proxy, "sessions")),
                        as_rate(per_second("departures_request")),
                        as_bytes(per_second("bytes_request")) + "/s",
                        as_rate(per_second("departures_reply")),
                        as_bytes(per_second("bytes_reply")) + "/s", as_count(drops)});
    }
    return in_columns({"PROXY", ">SESSIONS", ">REQUESTS", ">", ">REPLIES", ">", ">DROPS"}, rows);
}

struct Busy {
    const Json* session;
    double bytes;
    double datagrams;
};

std::string view_busiest(const Sample& before, const Sample& now, double seconds,
                         std::size_t count) {
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
    const std::size_t shown = std::min(count, busy.size());
    std::partial_sort(busy.begin(), busy.begin() + static_cast<std::ptrdiff_t>(shown), busy.end(),
                      [](const Busy& left, const Busy& right) { return left.bytes > right.bytes; });
    std::vector<std::vector<std::string>> rows;
    for (std::size_t i = 0; i < shown; ++i) {
        const Json& session = *busy[i].session;
        rows.push_back({std::to_string(number(session, "id")), text(session, "client"),
                        text(session, "proxy"), text(session, "local_endpoint"),
                        as_rate(busy[i].datagrams), as_bytes(busy[i].bytes) + "/s",
                        as_time(session.value("age_seconds", 0.0)),
                        as_time(session.value("idle_seconds", 0.0))});
    }
    return in_columns(
        {">ID", "CLIENT", "PROXY", "LOCAL (TO UPSTREAM)", ">DATAGRAMS", ">BYTES", ">AGE", ">IDLE"},
        rows);
}

/// Lines cut to the terminal's size.
std::string cut(const std::string& text, std::size_t rows, std::size_t width) {
    std::string made;
    std::size_t begin = 0;
    for (std::size_t row = 0; row < rows && begin < text.size(); ++row) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        made += text.substr(begin, std::min(end - begin, width)) + '\n';
        begin = end + 1;
    }
    return made;
}

}  // namespace

std::string view_frame(const Sample& before, const Sample& now, double seconds, std::size_t rows,
                       std::size_t width) {
    const auto per_second = [&](const char* key) {
        return rate(before.status["counters"], now.status["counters"], key, seconds);
    };
    std::string frame =
        fmt::format("udpproxy {}  {}  {} shards  up {}  {}\n", text(now.status, "version"),
                    text(now.status, "engine"), number(now.status, "shards"),
                    as_time(now.status.value("uptime_seconds", 0.0)),
                    now.status.value("ready", false) ? "ready" : "accepts no new sessions");
    frame += fmt::format(
        "sessions {} of {}  requests {} {}/s  replies {} {}/s  drops {}\n\n",
        as_count(number(now.status, "sessions")), as_count(number(now.status, "sessions_max")),
        as_rate(per_second("departures_request")), as_bytes(per_second("bytes_request")),
        as_rate(per_second("departures_reply")), as_bytes(per_second("bytes_reply")),
        as_rate(rate(before.status, now.status, "drops", seconds) +
                rate(before.status, now.status, "queue_drops", seconds)));
    frame += view_proxies_now(before, now, seconds) + '\n';
    const auto used = static_cast<std::size_t>(std::count(frame.begin(), frame.end(), '\n'));
    if (used + 1 < rows) frame += view_busiest(before, now, seconds, rows - used - 1);
    return cut(frame, rows, width);
}

Result<void> run_top(const Client& client, const TopOptions& options) {
    const bool is_terminal = ::isatty(STDOUT_FILENO) == 1 && !options.json;
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::signal(SIGTERM, [](int) { interrupted = 1; });
    const Keyboard keyboard;
    Result<Sample> before = take_sample(client);
    if (!before) return before.error();
    auto sampled_at = std::chrono::steady_clock::now();
    for (std::uint32_t frame = 0; options.frames == 0 || frame < options.frames; ++frame) {
        if (keyboard.quits_within(options.interval_s) || interrupted != 0) break;
        Result<Sample> now = take_sample(client);
        if (!now) return now.error();
        const auto at = std::chrono::steady_clock::now();
        const double seconds = std::chrono::duration<double>(at - sampled_at).count();
        winsize size{};
        if (!is_terminal || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 5)
            size = {30, 200, 0, 0};
        if (options.json) {
            print(as_json({{"seconds", seconds},
                           {"status", now->status},
                           {"proxies", now->proxies["proxies"]}},
                          -1));
        } else {
            if (is_terminal) clear_terminal();
            print(view_frame(*before, *now, seconds, size.ws_row - 1U, size.ws_col));
            if (!is_terminal) print("\n");
        }
        std::fflush(stdout);
        before = std::move(now);
        sampled_at = at;
    }
    return {};
}

}  // namespace udpproxy::ctl
