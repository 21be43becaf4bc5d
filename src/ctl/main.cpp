// The command line of udpproxyctl, which shows and changes a running udpproxy over its admin
// socket. Each subcommand sends one verb (top and trace send several); client.hpp speaks HTTP,
// views.hpp lays the answers out.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <functional>
#include <sstream>

#include "client.hpp"
#include "screen.hpp"
#include "top.hpp"
#include "trace.hpp"
#include "udpproxy/base/file.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/base/printable.hpp"
#include "upgrade.hpp"
#include "usage.hpp"
#include "views.hpp"

namespace udpproxy::ctl {
namespace {

constexpr int exit_failure = 1;
constexpr int exit_usage = 2;

struct Options {
    std::string socket = "/run/udpproxy/admin.sock";
    bool json = false;
    Screen screen = look_at_screen();
    Arguments sessions;
    std::string id;
    std::string level;
    std::string proxy;
    Arguments doctor;
    TopOptions top;
    TraceOptions trace;
};

/// Refuses what is not a whole number from `least` up, with words of ours: those of CLI11 show the
/// bounds of a floating-point number.
CLI::Validator whole_number(std::uint64_t least, const char* what) {
    return CLI::Validator{
        [least, what](const std::string& word) -> std::string {
            std::uint64_t number = 0;
            const char* const end = word.data() + word.size();
            const auto read = std::from_chars(word.data(), end, number);
            const bool is_right = read.ec == std::errc{} && read.ptr == end;
            return is_right && number >= least ? "" : fmt::format("\"{}\" is not {}", word, what);
        },
        ""};
}

CLI::Validator one_of(const char* thing, std::vector<std::string_view> words) {
    return CLI::Validator{
        [thing, words = std::move(words)](const std::string& word) -> std::string {
            const bool is_known = std::find(words.begin(), words.end(), word) != words.end();
            return is_known ? "" : unknown_word(thing, word, words);
        },
        ""};
}

int fail(const Error& error) {
    print_error("udpproxyctl: " + error.message + '\n');
    return exit_failure;
}

/// Sends one verb and prints its answer through `view`, or as JSON.
template <class View>
int show(const Options& options, const std::string& method, const std::string& path,
         const Arguments& arguments, View&& view) {
    const Result<Json> answer = Client{options.socket}.json(method, path, arguments);
    if (!answer) return fail(answer.error());
    if (options.json)
        print(as_json(*answer, 2));
    else
        print_on(options.screen, view(*answer, options.screen.width));
    return 0;
}

int show_metrics(const Options& options) {
    const Result<std::string> text = Client{options.socket}.text("GET", "/metrics");
    if (!text) return fail(text.error());
    print(*text);
    return 0;
}

/// What the parsed command line asks for.
using Action = std::function<int()>;

void add_read_only_verbs(CLI::App& app, Options& options, Action& action) {
    const auto verb = [&](const char* name, const char* help, const char* path,
                          std::string (*view)(const Json&, std::size_t)) {
        app.add_subcommand(name, help)->callback([&options, &action, path, view] {
            action = [&options, path, view] { return show(options, "GET", path, {}, view); };
        });
    };
    verb("status", "what is wrong now, then version, uptime, utilisation, totals", "/v1/status",
         view_status);
    verb("proxies", "per proxy: listeners, upstream, sessions, counters, sources of replies",
         "/v1/proxies", view_proxies);
    verb("unlisted", "reply sources that are not in reply_aliases, with the line to add",
         "/v1/unlisted", view_unlisted);
    verb("drops", "dropped datagrams by proxy and reason", "/v1/drops", view_drops);
    app.add_subcommand("metrics", "metrics in Prometheus format")->callback([&] {
        action = [&] { return show_metrics(options); };
    });
    CLI::App* sessions = app.add_subcommand("sessions", "list active sessions");
    sessions
        ->add_option("--client", options.sessions["client"],
                     "only of this client: an address, address:port or prefix")
        ->type_name("CIDR");
    sessions->add_option("--proxy", options.sessions["proxy"], "only of this proxy")
        ->type_name("NAME");
    sessions->add_option("--sort", options.sessions["sort"], "sort key, descending")
        ->check(one_of("order", {"bytes", "age", "idle"}))
        ->type_name("bytes|age|idle");
    sessions
        ->add_option("--limit", options.sessions["limit"],
                     "maximum number of sessions (default 100)")
        ->check(CLI::Range(1, 100000))
        ->type_name("N");
    sessions->callback([&] {
        action = [&] {
            return show(options, "GET", "/v1/sessions", options.sessions,
                        [&](const Json& answer, std::size_t width) {
                            return view_sessions(answer, options.sessions["sort"], width);
                        });
        };
    });
}

int end_with(const Result<void>& outcome) { return outcome ? 0 : fail(outcome.error()); }

void add_live_views(CLI::App& app, Options& options, Action& action) {
    CLI::App* top = app.add_subcommand("top", "live traffic view; q quits");
    top->add_option("--interval", options.top.interval_s,
                    "seconds between frames; the first comes after one at most")
        ->check(CLI::Range(0.1, 3600.0))
        ->capture_default_str();
    top->add_option("--frames", options.top.frames, "quit after this many frames (0: never)")
        ->capture_default_str();
    top->callback([&] {
        action = [&] {
            options.top.json = options.json;
            return end_with(run_top(Client{options.socket}, options.top, options.screen));
        };
    });
    CLI::App* trace = app.add_subcommand("trace", "follow one client's datagrams on both legs");
    trace->add_option("--client", options.trace.client, "the client's address, or address:port")
        ->required()
        ->type_name("ADDR");
    trace
        ->add_option("--write", options.trace.file,
                     "write a capture file (pcapng) instead of lines")
        ->type_name("FILE");
    trace->add_option("--seconds", options.trace.seconds, "stop after this many seconds")
        ->check(CLI::Range(1, 600))
        ->capture_default_str();
    trace->add_option("--datagrams", options.trace.datagrams, "stop after this many datagrams")
        ->check(whole_number(1, "a number from 1 on"))
        ->capture_default_str();
    trace->callback([&] {
        action = [&] {
            options.trace.json = options.json;
            return end_with(run_trace(Client{options.socket}, options.trace, options.screen));
        };
    });
}

void add_changes(CLI::App& app, Options& options, Action& action) {
    CLI::App* session = app.add_subcommand("session", "act on one session")->require_subcommand(1);
    CLI::App* kill = session->add_subcommand(
        "kill", "end a session; the client's next datagram begins a new one");
    kill->add_option("ID", options.id, "session id, as shown by `sessions`")
        ->required()
        ->check(whole_number(0, "the number of a session; `udpproxyctl sessions` shows them"));
    kill->callback([&] {
        action = [&] {
            return show(options, "POST", "/v1/sessions/kill", {{"id", options.id}}, view_killed);
        };
    });
    CLI::App* log = app.add_subcommand("log", "act on the log")->require_subcommand(1);
    CLI::App* level = log->add_subcommand("level", "show or set the minimum log level");
    level
        ->add_option("LEVEL", options.level,
                     "new level, until the next restart or a reload that changes [log]")
        ->check(one_of("level", {"error", "warn", "info"}));
    level->callback([&] {
        action = [&] {
            return show(options, options.level.empty() ? "GET" : "POST", "/v1/log",
                        {{"level", options.level}}, view_log_level);
        };
    });
}

/// The exit code is 1 if there is a problem, as with `udpproxy --doctor`.
int show_findings(const Options& options) {
    const Result<Json> answer = Client{options.socket}.json("POST", "/v1/doctor", options.doctor);
    if (!answer) return fail(answer.error());
    if (options.json)
        print(as_json(*answer, 2));
    else
        print_on(options.screen, view_findings(*answer, options.screen.width));
    return answer->value("problems", 0) > 0 ? exit_failure : 0;
}

int upgrade(const Options& options) {
    const Result<Json> outcome = ask_for_upgrade(options.socket);
    if (!outcome) return fail(outcome.error());
    const bool is_done = is_upgraded(*outcome);
    if (options.json)
        print(as_json(*outcome, 2));
    else if (is_done)
        print_on(options.screen, view_upgrade(*outcome, options.screen.width));
    else
        print_error("udpproxyctl: " + view_upgrade(*outcome, unlimited));
    return is_done ? 0 : exit_failure;
}

void add_operation(CLI::App& app, Options& options, Action& action) {
    app.add_subcommand(
           "reload",
           "reload the configuration file, as SIGHUP does; an invalid file changes nothing")
        ->callback(
            [&] { action = [&] { return show(options, "POST", "/v1/reload", {}, view_reload); }; });
    CLI::App* drain = app.add_subcommand("drain",
                                         "accept no new sessions while existing ones continue. "
                                         "Without PROXY the program stops afterwards, as with "
                                         "SIGQUIT");
    drain->add_option("PROXY", options.proxy, "drain only this proxy, until `resume` or a restart");
    drain->callback([&] {
        action = [&] {
            return show(options, "POST", "/v1/drain", {{"proxy", options.proxy}}, view_drain);
        };
    });
    CLI::App* resume = app.add_subcommand("resume", "accept new sessions again");
    resume->add_option("PROXY", options.proxy, "the drained proxy")->required();
    resume->callback([&] {
        action = [&] {
            return show(options, "POST", "/v1/resume", {{"proxy", options.proxy}}, view_resume);
        };
    });
    app.add_subcommand("upgrade",
                       "put the installed program in place of the running one, without losing a "
                       "session; exit code 1 if all stays as it was")
        ->callback([&] { action = [&] { return upgrade(options); }; });
    CLI::App* doctor = app.add_subcommand("doctor",
                                          "diagnose missing replies from within the running "
                                          "program; exit code 1 if a problem is found");
    CLI::Option* probe =
        doctor
            ->add_option(
                "--probe", options.doctor["probe"],
                "send these bytes to the upstream once and list the sources of the replies")
            ->type_name("HEX");
    doctor
        ->add_option("--probe-proxy", options.doctor["proxy"],
                     "with several proxies: the one whose upstream is probed")
        ->type_name("NAME")
        ->needs(probe);
    doctor->callback([&] { action = [&] { return show_findings(options); }; });
}

int run(int argc, char** argv) {
    CLI::App app{"udpproxyctl shows and changes a running udpproxy."};
    app.name("udpproxyctl");
    app.require_subcommand(1);
    app.fallthrough();
    app.footer("Exit codes: 0 ok, 1 udpproxy unreachable or request refused, 2 wrong usage.");
    Options options;
    Action action;
    app.add_option("--socket", options.socket, "path of udpproxy's admin.socket")
        ->envname("UDPPROXY_SOCKET")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_flag("--json", options.json, "print the answer as JSON");
    app.set_version_flag("--version", std::string{"udpproxyctl "} + UDPPROXY_VERSION);
    add_read_only_verbs(app, options, action);
    add_live_views(app, options, action);
    add_operation(app, options, action);
    add_changes(app, options, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        std::ostringstream complaint;
        const int code = app.exit(error, out, complaint);
        print(out.str());
        const std::string better = code == 0 ? "" : usage_complaint(app, argc, argv);
        print_error(better.empty() ? complaint.str()
                                   : better + "\nRun with --help for more information.\n");
        return code == 0 ? 0 : exit_usage;
    }
    return action();
}

}  // namespace
}  // namespace udpproxy::ctl

int main(int argc, char** argv) {
    try {
        if (const auto opened = udpproxy::open_standard_streams(); !opened)
            return udpproxy::ctl::fail(opened.error());
        return udpproxy::ctl::run(argc, argv);
    } catch (const std::exception& error) {
        return udpproxy::ctl::fail({error.what()});
    }
}
