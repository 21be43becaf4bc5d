// Starts a worker: a process that shares the keeper's descriptors and nothing else.
#pragma once

#include <array>
#include <csignal>
#include <functional>

#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

/// The signals that a keeper takes. They are blocked in it, except while it waits.
inline constexpr std::array keeper_signals{SIGTERM, SIGINT,  SIGQUIT, SIGHUP,
                                           SIGUSR1, SIGUSR2, SIGCHLD};

/// Returns the process, or -1 with errno. In the worker the keeper's signals have their
/// default action and `mask`; what `work` returns is its exit code.
[[nodiscard]] pid_t start_worker(const WorkerStart& start,
                                 const std::function<int(const WorkerStart&)>& work,
                                 const sigset_t& mask) noexcept;

}  // namespace udpproxy
