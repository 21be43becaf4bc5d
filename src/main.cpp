// The program: arguments to configuration to supervisor, and the only exit codes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "udpproxy/config/caddyfile.hpp"
#include "udpproxy/config/config.hpp"
#include "udpproxy/daemon/daemon.hpp"
#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/runtime/resolver.hpp"

namespace {

int complain(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) fmt::print(stderr, "{}\n", line);
    return udpproxy::exit_config;
}

int check(const udpproxy::Config& config, const std::string& file) {
    if (const std::vector<std::string> complaints = udpproxy::complaints_of_machine(config);
        !complaints.empty())
        return complain(complaints);
    // At run time a name is asked for again until it has an address, and the other proxies serve
    // meanwhile. A check that finds nothing that would serve says so.
    const std::vector<std::string> unresolved = udpproxy::complaints_of_resolver(config);
    const bool nothing_serves = unresolved.size() == config.proxies.size();
    for (const std::string& complaint : unresolved)
        fmt::print(stderr, "{}{}\n", complaint, nothing_serves ? "" : " (a warning)");
    if (nothing_serves) return udpproxy::exit_config;
    fmt::print("{}{}: configuration is good\n", udpproxy::summarise(config), file);
    return udpproxy::exit_ok;
}

int run_doctor(const udpproxy::Config& config, const udpproxy::DoctorRequest& request) {
    const auto findings = udpproxy::examine(config, request);
    if (!findings) {
        fmt::print(stderr, "{}\n", findings.error().message);
        return udpproxy::exit_usage;
    }
    fmt::print("{}", request.json ? udpproxy::findings_json(*findings)
                                  : udpproxy::findings_text(*findings));
    return udpproxy::has_problem(*findings) ? udpproxy::exit_failure : udpproxy::exit_ok;
}

int migrate(const std::string& caddyfile) {
    const auto outcome = udpproxy::migrate_caddyfile(caddyfile);
    if (const auto* complaints = std::get_if<udpproxy::ConfigComplaints>(&outcome))
        return complain(complaints->lines);
    fmt::print("{}", std::get<std::string>(outcome));
    return udpproxy::exit_ok;
}

int run(int argc, char** argv) {
    CLI::App app{
        "udpproxy forwards UDP datagrams to an upstream and brings its replies home, whichever of "
        "its addresses they come from."};
    app.name("udpproxy");
    app.footer(
        "Signals: SIGTERM or SIGINT stops (what is queued is still forwarded), a second one exits "
        "at once. SIGQUIT drains: no new "
        "sessions, those that\n"
        "are there go on, then it stops. SIGHUP reads the configuration again. SIGUSR1 opens the "
        "log file anew.\n"
        "Exit codes: 0 ok, 1 failure at run time or a problem that --doctor found, 2 wrong usage, "
        "78 wrong configuration.\n"
        "An example with every key explained: udpproxy.toml.example.");
    std::string file;
    std::string caddyfile;
    udpproxy::DoctorRequest request;
    bool check_only = false;
    bool with_doctor = false;
    bool version = false;
    std::string drain_timeout = "30s";
    app.add_option("--config", file, "the configuration (TOML)")->type_name("FILE");
    app.add_flag("-t,--check-config", check_only,
                 "check the configuration, print a summary and exit; listens on nothing");
    auto* from_caddyfile =
        app.add_option(
               "--from-caddyfile", caddyfile,
               "print the configuration that does what this Caddyfile's proxy blocks did, and exit")
            ->type_name("FILE");
    auto* doctor = app.add_flag(
        "--doctor", with_doctor,
        "look why replies may not come, and how to mend it; exit code 1 when there is a problem");
    app.add_flag("--json", request.json, "with --doctor: the findings as JSON")->needs(doctor);
    auto* probe =
        app.add_option("--probe", request.probe_payload,
                       "with --doctor: send these bytes to the upstream once and tell who answers")
            ->type_name("HEX")
            ->needs(doctor);
    app.add_option("--probe-proxy", request.probe_proxy,
                   "the proxy whose upstream is probed, where there are several")
        ->type_name("NAME")
        ->needs(probe);
    app.add_option("--drain-timeout", drain_timeout,
                   "how long sessions go on at a drain, as 30s (the default), 5m, 0s")
        ->type_name("DURATION");
    app.add_flag("--version", version, "print the version and what this kernel supports, and exit");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? udpproxy::exit_ok : udpproxy::exit_usage;
    }
    if (version) {
        fmt::print("{}", udpproxy::version_text());
        return udpproxy::exit_ok;
    }
    if (*from_caddyfile) return migrate(caddyfile);
    if (file.empty()) {
        fmt::print(stderr, "--config is required\nRun with --help for more information.\n");
        return udpproxy::exit_usage;
    }
    const auto timeout = udpproxy::parse_drain_timeout(drain_timeout);
    if (!timeout) {
        fmt::print(stderr, "--drain-timeout: {}\nRun with --help for more information.\n",
                   timeout.error().message);
        return udpproxy::exit_usage;
    }
    const auto outcome = udpproxy::read_config(file);
    if (const auto* complaints = std::get_if<udpproxy::ConfigComplaints>(&outcome))
        return complain(complaints->lines);
    const auto& config = std::get<udpproxy::Config>(outcome);
    request.with_probe = !probe->empty();
    if (with_doctor) return run_doctor(config, request);
    if (check_only) return check(config, file);
    udpproxy::ServeOptions options;
    options.drain_timeout = *timeout;
    return udpproxy::serve(config, file, options);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        // Out of memory at start, or a library's complaint: named, not a core dump.
        fmt::print(stderr, "udpproxy: {}\n", error.what());
        return udpproxy::exit_failure;
    }
}
