// What a keeper tells the worker that it starts.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/time.hpp"

namespace udpproxy {

enum class StartReason : std::uint8_t {
    first,    // there was no worker before
    crash,    // the last one died, or ended unasked
    hang,     // the keeper ended it, because it no longer told the service manager that it is well
    upgrade,  // the last one handed over to this program
    undone,   // a new program did not come up, and the one before goes on
    restart,  // sockets were parked with the service manager
};
inline constexpr std::size_t start_reasons = 6;
[[nodiscard]] std::string_view name_of(StartReason reason) noexcept;

/// The name of what a service manager keeps over a restart (FDNAME of sd_notify(3)).
inline constexpr std::string_view stored_name = "udpproxy-sessions";

struct WorkerStart {
    /// False: there is no keeper (--single-process), and of the others only `process` holds.
    bool is_kept = false;
    /// The process that a user sends signals to, and that a service manager knows: the keeper.
    pid_t process = 0;
    StartReason reason = StartReason::first;
    /// Sessions are not adopted: three workers have died within a second of their start.
    bool without_sessions = false;
    /// The number at which the keeper has the ledger in force. At first it is an empty file, or
    /// what a service manager has kept; a worker puts its own ledger there by dup3(2), which
    /// commits the adoption.
    int ledger = -1;
    /// A service manager keeps a socket over a restart: the one that a worker has put in the place
    /// of the ledger when it ends after SIGTERM.
    bool has_store = false;
    int channel = -1;          // the worker's end: Channel in channel.hpp
    std::vector<int> keepers;  // descriptors that belong to the keeper, `ledger` among them
    std::string from_version;  // of the program that the last worker was of
    Instant ended_at{};        // when the last worker that served died or was to hand over
    int signal = 0;            // that the last worker died of
    int exit_code = 0;         // else
    std::array<std::uint64_t, start_reasons> starts{};  // by reason, this one included
};
/// How the last worker ended: `signal 9 (Killed)`, `exit code 1`; empty: in order, or there was
/// none.
[[nodiscard]] std::string end_of_last(const WorkerStart& start);

}  // namespace udpproxy
