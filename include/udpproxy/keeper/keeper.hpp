// The keeper: the main process, in which nothing is forwarded. All that the program does is done by
// a worker, a process with memory of its own and the keeper's table of descriptors. When a worker
// dies, however it dies, its sockets stay open, bound and in their order, and what arrives waits in
// their queues for the next worker. A keeper has no thread, no lock and no traffic.
#pragma once

#include <functional>

#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

/// Runs `work` in a worker, and again in another one when a worker has died. `work` returns the
/// program's exit code.
///
/// Signals of the keeper (SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1) are passed on to the worker,
/// which obeys no others; SIGUSR2 lets it hand over to the next one. The environment's
/// NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read and stay.
///
/// Returns the exit code of a worker that was asked to stop, ended in order, or ended before any
/// was ready: 128 + n where it died of signal n, and 1 when workers die too often. A worker that
/// died of SIGTERM or SIGINT takes its keeper along, by the same signal.
// Requires: no other thread of this process runs; standard input, output and error are open.
[[nodiscard]] int keep(const std::function<int(const WorkerStart&)>& work);

}  // namespace udpproxy
