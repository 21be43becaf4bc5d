// The first moments of a worker: bound to its keeper's life, and the first that is taken when
// memory is short.
#include "worker.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/process_names.hpp"

namespace udpproxy {

namespace {

/// The kernel that runs out of memory takes the process with the highest score: the worker, whose
/// sessions outlive it, and not the keeper, who has next to nothing to give (proc(5)).
void raise_memory_score() noexcept {
    constexpr int more = 100;
    constexpr int score_max = 1000;  // OOM_SCORE_ADJ_MAX (include/uapi/linux/oom.h)
    const Descriptor file{::open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)};
    std::array<char, 16> text{};
    const ssize_t length = ::read(file.descriptor(), text.data(), text.size());
    int score = 0;
    if (length <= 0 || std::from_chars(text.data(), text.data() + length, score).ec != std::errc{})
        return;
    const auto end =
        std::to_chars(text.data(), text.data() + text.size(), std::min(score + more, score_max));
    // Best effort: where /proc cannot be written all is as it was.
    (void)!::pwrite(file.descriptor(), text.data(), static_cast<std::size_t>(end.ptr - text.data()),
                    0);
}

/// The worker must not outlive its keeper, which alone can be told to stop.
void end_with(pid_t keeper) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != keeper) ::_exit(EXIT_FAILURE);  // it has ended before
}

}  // namespace

std::string_view name_of(StartReason reason) noexcept {
    switch (reason) {
        case StartReason::first:
            return "first";
        case StartReason::crash:
            return "crash";
        case StartReason::hang:
            return "hang";
        case StartReason::upgrade:
            return "upgrade";
        case StartReason::undone:
            return "undone";
        case StartReason::restart:
            return "restart";
    }
    return "?";
}

std::string end_of_last(const WorkerStart& start) {
    if (start.signal != 0)
        return "signal " + std::to_string(start.signal) + " (" + ::strsignal(start.signal) + ')';
    return start.exit_code != 0 ? "exit code " + std::to_string(start.exit_code) : "";
}

pid_t start_worker(const WorkerStart& start, const std::function<int(const WorkerStart&)>& work,
                   const sigset_t& mask) noexcept {
    // fork(3) would copy the table of descriptors, and two processes cannot be given one later.
    const auto child = static_cast<pid_t>(
        ::syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    if (child != 0) return child;
    end_with(start.process);
    for (const int signal : keeper_signals) ::signal(signal, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    ::prctl(PR_SET_NAME, worker_name);
    raise_memory_score();
    // Not a return: the keeper's objects would close the descriptors of both.
    std::exit(work(start));
}

}  // namespace udpproxy
