// Blocks the signals and reads them through signalfd(2).
#include "signals.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <utility>

namespace udpproxy {

namespace {

constexpr std::array<std::pair<int, const char*>, 5> taken{{{SIGTERM, "SIGTERM"},
                                                            {SIGINT, "SIGINT"},
                                                            {SIGQUIT, "SIGQUIT"},
                                                            {SIGHUP, "SIGHUP"},
                                                            {SIGUSR1, "SIGUSR1"}}};

}  // namespace

Signals::Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const auto& [signal, name] : taken) sigaddset(&set, signal);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    descriptor_ = Socket{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
}

int Signals::next(int limit_ms, int other) const {
    std::array<pollfd, 2> entries{{{descriptor_.descriptor(), POLLIN, 0}, {other, POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), limit_ms) <= 0 || entries[0].revents == 0) return 0;
    signalfd_siginfo info{};
    if (::read(descriptor_.descriptor(), &info, sizeof info) != sizeof info) return 0;
    return static_cast<int>(info.ssi_signo);
}

bool is_stop(int signal) noexcept { return signal == SIGTERM || signal == SIGINT; }

const char* name_of_signal(int signal) noexcept {
    for (const auto& [number, name] : taken) {
        if (number == signal) return name;
    }
    return "?";
}

}  // namespace udpproxy
