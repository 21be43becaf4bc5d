// The command line of udpproxy: what was asked for decides which room is called, and what came of
// it becomes an exit code. Nothing is decided here about the configuration or the running program.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "udpproxy/base/file.hpp"
#include "udpproxy/base/nearest.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/config/caddyfile.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/config/one_proxy.hpp"
#include "udpproxy/daemon/daemon.hpp"
#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/keeper/keeper.hpp"
#include "udpproxy/ledger/ledger.hpp"
#include "udpproxy/runtime/predecessor.hpp"
#include "udpproxy/runtime/resolver.hpp"

namespace {

/// Out of memory at start, or an exception of a library, ends in a message, not in a core dump.
template <class Work>
int guarded(Work&& work) {
    try {
        return work();
    } catch (const std::exception& error) {
        udpproxy::print_error(fmt::format("udpproxy: {}\n", error.what()));
        return udpproxy::exit_failure;
    }
}

int fail(const std::string& reason) {
    udpproxy::print_error(reason + '\n');
    return udpproxy::exit_failure;
}

int complain(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += udpproxy::printable(line) + '\n';
    udpproxy::print_error(text);
    return udpproxy::exit_config;
}

/// `goes_on`: as the successor of a program that serves.
int check(const udpproxy::Config& config, const std::string& file, bool goes_on) {
    const auto warn = [](const std::string& line) {
        udpproxy::print_error(udpproxy::printable(line) + " (a warning)\n");
    };
    const udpproxy::MachineReport machine = udpproxy::check_machine(config);
    std::vector<std::string> complaints = machine.complaints;
    for (const std::string& warning : machine.warnings) warn(file + ": " + warning);
    for (const udpproxy::Finding& finding : udpproxy::examine_start(config, goes_on)) {
        const std::string line = file + ": " + udpproxy::text_of(finding);
        if (finding.at_start == udpproxy::StartEffect::fails)
            complaints.push_back(line);
        else
            warn(line);
    }
    // The running program asks for a name again until it has an address, and its other proxies
    // serve meanwhile. So an unresolved name is an error only if no proxy would serve.
    const std::vector<std::string> unresolved = udpproxy::complaints_of_resolver(config);
    const bool nothing_serves = unresolved.size() == config.proxies.size();
    for (const std::string& complaint : unresolved) {
        if (nothing_serves)
            complaints.push_back(complaint);
        else
            warn(complaint);
    }
    if (!complaints.empty()) return complain(complaints);
    std::string text = udpproxy::summarise(config, machine.automatic_shards);
    for (const std::string& line : machine.capacity) text += line + '\n';
    udpproxy::print(fmt::format("{}{}: configuration is good\n", text, file));
    return udpproxy::exit_ok;
}

int run_doctor(const udpproxy::Config& config, const udpproxy::DoctorRequest& request) {
    const auto findings = udpproxy::examine(config, request);
    if (!findings) {
        udpproxy::print_error(findings.error().message + '\n');
        return udpproxy::exit_usage;
    }
    udpproxy::print(request.json ? udpproxy::findings_json(*findings)
                                 : udpproxy::findings_text(*findings));
    return udpproxy::has_problem(*findings) ? udpproxy::exit_failure : udpproxy::exit_ok;
}

int migrate(const std::string& caddyfile) {
    const auto outcome = udpproxy::migrate_caddyfile(caddyfile);
    if (const auto* complaints = std::get_if<udpproxy::ConfigComplaints>(&outcome))
        return complain(complaints->lines);
    udpproxy::print(std::get<std::string>(outcome));
    return udpproxy::exit_ok;
}

/// A configuration is a file, or one proxy by options.
struct Given {
    std::string file;
    udpproxy::OneProxy proxy;

    [[nodiscard]] bool has_proxy() const {
        return proxy.name || proxy.upstream || !proxy.listen.empty() ||
               !proxy.reply_aliases.empty() || !proxy.settings.empty();
    }
    /// What is missing or too much; empty if nothing is.
    [[nodiscard]] std::string misuse(bool print_config) const {
        if (!file.empty() && (has_proxy() || print_config))
            return "--config is a file, --listen, --upstream, --reply-alias, --name, --set and "
                   "--print-config are for one proxy without a file: use the one or the others";
        if (file.empty() && !has_proxy())
            return "--config FILE is required, or --listen and --upstream for one proxy without "
                   "a file";
        return {};
    }
    [[nodiscard]] std::variant<udpproxy::Config, udpproxy::ConfigComplaints> read() const {
        return file.empty() ? udpproxy::parse_one_proxy(proxy) : udpproxy::read_config(file);
    }
};

/// What is in force need not be what the file says by now. A keeper gives the ledger as standard
/// input; those of before gave none.
std::string objection_to_ledger() {
    struct stat input {};
    std::string why_not;
    if (::fstat(STDIN_FILENO, &input) == 0 && S_ISREG(input.st_mode))
        (void)udpproxy::Predecessor::find(STDIN_FILENO, why_not);
    return why_not;
}

/// In a worker, or in the only process.
int serve(const Given& given, const udpproxy::ServeOptions& options) {
    return guarded([&] { return udpproxy::serve(given.read(), given.file, options); });
}

/// Each value stands behind an option of its own: a second word would be a mistake.
void add_list(CLI::App& app, const std::string& name, std::vector<std::string>& values,
              const char* type, const std::string& help) {
    app.add_option(name, values, help)->type_name(type)->take_all()->allow_extra_args(false);
}

/// A line about the first option that there is not; empty when all are known.
std::string unknown_option(const CLI::App& app, int argc, char** argv) {
    std::vector<std::string> names;
    for (const CLI::Option* option : app.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (int i = 1; i < argc && std::string_view{argv[i]} != "--"; ++i) {
        const std::string word = std::string{argv[i]}.substr(0, std::string{argv[i]}.find('='));
        if (word.starts_with("--") && std::find(names.begin(), names.end(), word) == names.end())
            return udpproxy::unknown_word("option", word, {names.begin(), names.end()});
    }
    return {};
}

int run(int argc, char** argv) {
    CLI::App app{
        "udpproxy forwards UDP datagrams to an upstream and relays the replies from any of its "
        "addresses."};
    app.name("udpproxy");
    app.footer(
        "Signals: SIGTERM or SIGINT stops after forwarding queued datagrams, a second one exits "
        "immediately.\n"
        "SIGQUIT drains: existing sessions continue, new ones are not accepted, then the program "
        "stops.\n"
        "SIGHUP reloads the configuration. SIGUSR1 reopens the log file.\n"
        "SIGUSR2 puts the installed program in the place of this one.\n"
        "Exit codes: 0 ok, 1 failure at run time or a problem found by --doctor, 2 wrong usage,\n"
        "78 wrong configuration.\n"
        "An example with every key explained: udpproxy.toml.example.");
    Given given;
    std::string caddyfile;
    bool print_config = false;
    udpproxy::DoctorRequest request;
    bool check_only = false;
    bool with_doctor = false;
    bool version = false;
    bool single_process = false;
    std::uint32_t form = 0;
    std::string drain_timeout = "30s";
    app.add_option("--config", given.file, "the configuration (TOML)")->type_name("FILE");
    add_list(app, "--listen", given.proxy.listen, "ADDRESS",
             "one proxy without a file: where clients write to, as :53 or 192.0.2.1:53; may be "
             "given again");
    app.add_option("--upstream", given.proxy.upstream,
                   "where requests go, as 10.0.0.254:53 or name:53")
        ->type_name("ADDRESS");
    add_list(app, "--reply-alias", given.proxy.reply_aliases, "ADDRESS",
             "another address that the service may answer from, as 10.0.0.253 or 10.0.0.253:*; "
             "may be given again");
    app.add_option("--name", given.proxy.name, "what logs and metrics call the proxy (udpproxy)")
        ->type_name("NAME");
    add_list(app, "--set", given.proxy.settings, "KEY=VALUE",
             "any other key of a proxy, as idle_timeout=10m; may be given again");
    auto* print_only =
        app.add_flag("--print-config", print_config,
                     "print the configuration file that says the same as these options, and exit");
    app.add_flag("-t,--check-config", check_only,
                 "check the configuration, and whether it can start here; print a summary "
                 "and exit");
    print_only->excludes(app.get_option("--check-config"));
    auto* from_caddyfile =
        app.add_option(
               "--from-caddyfile", caddyfile,
               "convert the proxy blocks of this Caddyfile, print the configuration and exit")
            ->type_name("FILE");
    auto* doctor = app.add_flag(
        "--doctor", with_doctor,
        "diagnose missing replies and print how to fix them; exit code 1 if a problem is found");
    print_only->excludes(doctor);
    app.add_flag("--json", request.json, "with --doctor: print the findings as JSON")
        ->needs(doctor);
    auto* probe = app.add_option("--probe", request.probe_payload,
                                 "with --doctor: send these bytes to the upstream once and list "
                                 "the sources of the replies")
                      ->type_name("HEX")
                      ->needs(doctor);
    app.add_option("--probe-proxy", request.probe_proxy,
                   "with several proxies: the one whose upstream is probed")
        ->type_name("NAME")
        ->needs(probe);
    app.add_option("--drain-timeout", drain_timeout,
                   "maximum time to drain sessions, e.g. 30s (the default), 5m, 0s")
        ->type_name("DURATION");
    app.add_flag("--single-process", single_process,
                 "serve in one process, as for a debugger: no other one goes on after a crash");
    // Asked by a keeper of another version: not for people (docs/operating.md).
    auto* check_upgrade = app.add_option("--check-upgrade", form)->group("");
    app.add_flag("--version", version, "print the version and what this kernel supports, and exit");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        std::ostringstream out;
        std::ostringstream complaint;
        const int code = app.exit(error, out, complaint);
        udpproxy::print(out.str());
        const std::string unknown = unknown_option(app, argc, argv);
        udpproxy::print_error(code == 0 || unknown.empty()
                                  ? complaint.str()
                                  : unknown + "\nRun with --help for more information.\n");
        return code == 0 ? udpproxy::exit_ok : udpproxy::exit_usage;
    }
    const bool serves = !version && !*from_caddyfile && !with_doctor && !check_only &&
                        !print_config && !*check_upgrade;
    if (!serves) udpproxy::release_signals();
    if (version) {
        udpproxy::print(udpproxy::version_text());
        return udpproxy::exit_ok;
    }
    if (*from_caddyfile) return migrate(caddyfile);
    if (const std::string misuse = given.misuse(print_config); !misuse.empty()) {
        udpproxy::print_error(misuse + "\nRun with --help for more information.\n");
        return udpproxy::exit_usage;
    }
    const auto timeout = udpproxy::parse_drain_timeout(drain_timeout);
    if (!timeout) {
        udpproxy::print_error(
            fmt::format("--drain-timeout: {}\nRun with --help for more information.\n",
                        timeout.error().message));
        return udpproxy::exit_usage;
    }
    if (serves) {
        const auto work = [&](const udpproxy::WorkerStart& start) {
            return serve(given, {start, *timeout});
        };
        udpproxy::WorkerStart alone;
        alone.process = ::getpid();
        if (single_process) return work(alone);
        return udpproxy::keep({{argv, argv + argc}, udpproxy::ledger_form}, work);
    }
    if (*check_upgrade && !udpproxy::reads_ledger_form(form))
        return fail(
            fmt::format("udpproxy {} does not read sessions of form {}", UDPPROXY_VERSION, form));
    const auto outcome = given.read();
    if (const auto* complaints = std::get_if<udpproxy::ConfigComplaints>(&outcome))
        return complain(complaints->lines);
    const auto& config = std::get<udpproxy::Config>(outcome);
    if (print_config) {
        udpproxy::print(udpproxy::text_of(given.proxy).toml);
        return udpproxy::exit_ok;
    }
    request.with_probe = !probe->empty();
    if (with_doctor) return run_doctor(config, request);
    const int checked = check(config, udpproxy::shown_config(given.file), !check_upgrade->empty());
    if (!*check_upgrade || checked != udpproxy::exit_ok) return checked;
    if (const std::string reason = objection_to_ledger(); !reason.empty())
        return fail(fmt::format("udpproxy {} does not go on from what is in force: {}",
                                UDPPROXY_VERSION, reason));
    udpproxy::print(fmt::format("udpproxy {} goes on\n", UDPPROXY_VERSION));
    return checked;
}

}  // namespace

int main(int argc, char** argv) {
    udpproxy::hold_signals();
    return guarded([&] {
        if (const auto opened = udpproxy::open_standard_streams(); !opened) {
            udpproxy::print_error("udpproxy: " + opened.error().message + '\n');
            return udpproxy::exit_failure;
        }
        return run(argc, argv);
    });
}
