// Blocks the signals and reads them through signalfd(2).
#include "signals.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <initializer_list>
#include <utility>

#include "udpproxy/daemon/daemon.hpp"

namespace udpproxy {

namespace {

constexpr std::array<std::pair<int, const char*>, 5> taken{{{SIGTERM, "SIGTERM"},
                                                            {SIGINT, "SIGINT"},
                                                            {SIGQUIT, "SIGQUIT"},
                                                            {SIGHUP, "SIGHUP"},
                                                            {SIGUSR1, "SIGUSR1"}}};

sigset_t set_of(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : signals) sigaddset(&set, signal);
    return set;
}

/// Waits for `descriptor` or `other`; 0 when no signal came.
int next_of(const Socket& descriptor, int limit_ms, int other) {
    std::array<pollfd, 2> entries{{{descriptor.descriptor(), POLLIN, 0}, {other, POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), limit_ms) <= 0 || entries[0].revents == 0) return 0;
    signalfd_siginfo info{};
    if (::read(descriptor.descriptor(), &info, sizeof info) != sizeof info) return 0;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace

// SIGTERM and SIGINT keep ending the program until there is something to stop in order. The first
// process of a PID namespace, as in a container, needs handlers for that: the kernel drops what
// would end it by default (pid_namespaces(7)).
void hold_signals() noexcept {
    const sigset_t set = set_of({SIGQUIT, SIGHUP, SIGUSR1});
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    if (::getpid() != 1) return;
    for (const int number : {SIGTERM, SIGINT})
        ::signal(number, [](int signal) { ::_exit(128 + signal); });  // as a shell tells it
}

void release_signals() noexcept {
    const sigset_t set = set_of({SIGQUIT, SIGHUP, SIGUSR1});
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

Signals::Signals() {
    const sigset_t set = set_of({SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1});
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    const sigset_t stops = set_of({SIGTERM, SIGINT});
    all_ = Socket{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
    stops_ = Socket{::signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC)};
}

int Signals::next(int limit_ms, int other) const { return next_of(all_, limit_ms, other); }

int Signals::next_stop(int limit_ms, int other) const { return next_of(stops_, limit_ms, other); }

bool is_stop(int signal) noexcept { return signal == SIGTERM || signal == SIGINT; }

const char* name_of_signal(int signal) noexcept {
    for (const auto& [number, name] : taken) {
        if (number == signal) return name;
    }
    return "?";
}

}  // namespace udpproxy
