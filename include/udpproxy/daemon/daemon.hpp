// Daemon: the life of the program, from a checked configuration to the exit code: limits, engine,
// names, listeners, shards, signals, log. Runs in the main thread, which is the control thread; the
// shards have their own.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "udpproxy/config/config.hpp"
#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

// Exit codes (sysexits.h for 78).
inline constexpr int exit_ok = 0;
inline constexpr int exit_failure = 1;
inline constexpr int exit_usage = 2;
inline constexpr int exit_config = 78;

/// Blocks the signals that only a running proxy can obey (SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2), in
/// the calling thread and in those it starts later: one that comes early stays pending until
/// serve() or the keeper takes it. Called before anything else, since the first milliseconds of a
/// start count too.
void hold_signals() noexcept;
/// For work that ends by itself: these signals end it again.
void release_signals() noexcept;

struct ServeOptions {
    WorkerStart start;
    Duration drain_timeout = std::chrono::seconds{
        30};  // for sessions after SIGQUIT, or after their proxy or listener was removed
};

/// Serves until SIGTERM or SIGINT, or until the drain begun by SIGQUIT has ended. SIGHUP reloads,
/// SIGUSR1 reopens the log file, SIGUSR2 of a keeper hands over to the next worker, and so does
/// SIGTERM where sessions can be left with a service manager. A worker that follows another one
/// goes on with its sockets and sessions. `read` is what the file says now: a worker that goes on
/// may do without. Returns an exit code.
[[nodiscard]] int serve(const std::variant<Config, ConfigComplaints>& read,
                        const std::string& config_file, const ServeOptions& options);

/// A duration as the configuration writes it: `30s`, `5m`. Errors: the mistake in the text.
[[nodiscard]] Result<Duration> parse_drain_timeout(const std::string& text);

/// What a start would say of the configuration on this machine. Opens nothing.
struct MachineReport {
    std::vector<std::string> complaints;  // numbers that cannot fit, with file:line:column
    std::vector<std::string> warnings;    // what is smaller than the limits allow
    std::vector<std::string> capacity;    // `capacity of proxy "dns": the arithmetic`
    std::string automatic_shards;  // `2: the cgroup's …`; empty where the number is configured
};
[[nodiscard]] MachineReport check_machine(const Config& config);

/// What --version prints: the version, and what this kernel supports.
[[nodiscard]] std::string version_text();

}  // namespace udpproxy
