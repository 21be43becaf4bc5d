// The keeper: the main process, in which nothing is forwarded. All that the program does is done by
// a worker, a process with memory of its own and the keeper's table of descriptors. When a worker
// dies, however it dies, its sockets stay open, bound and in their order, and what arrives waits in
// their queues for the next worker. A keeper has no thread, no lock and no traffic.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

struct KeeperOptions {
    std::vector<std::string> arguments;  // argv
    std::uint32_t ledger_form = 0;       // that this program writes
};

/// Runs `work` in a worker, and again in another one when a worker has died. `work` returns the
/// program's exit code.
///
/// Signals of the keeper (SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1) are passed on to the worker,
/// which obeys no others. The environment's NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID, FDSTORE and
/// LISTEN_FDS are read and stay.
///
/// Where FDSTORE says that the service manager has a store, and a worker that ended after SIGTERM
/// has put a socket in the ledger's place, the manager gets that socket; the keeper waits two
/// seconds at most until it is taken. A start with it in LISTEN_FDS begins with it as the ledger.
///
/// SIGUSR2, or a worker that wants it, is an upgrade: the file at the path by which this program
/// was started is asked (`--check-upgrade FORM` and the arguments of this start, the ledger on its
/// standard input: exit code 0 and a last line that begins with `udpproxy ` are a yes, otherwise
/// that line is the reason). Then the worker is told to hand over (SIGUSR2; it ends with exit code
/// 0), and the file is executed in this process's place. It is undone if its worker is not ready
/// within five seconds.
///
/// Returns the exit code of a worker that was asked to stop, ended in order, or ended before any
/// was ready: 128 + n where it died of signal n, and 1 when workers die too often. A worker that
/// died of SIGTERM or SIGINT takes its keeper along, by the same signal.
// Requires: no other thread of this process runs; standard input, output and error are open.
[[nodiscard]] int keep(const KeeperOptions& options,
                       const std::function<int(const WorkerStart&)>& work);

}  // namespace udpproxy
