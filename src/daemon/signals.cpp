// Blocks the signals and reads them through signalfd(2), or the keeper's channel.
#include "signals.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <initializer_list>
#include <optional>
#include <utility>

#include "udpproxy/daemon/daemon.hpp"

namespace udpproxy {

namespace {

constexpr std::array<std::pair<int, const char*>, 6> taken{{{SIGTERM, "SIGTERM"},
                                                            {SIGINT, "SIGINT"},
                                                            {SIGQUIT, "SIGQUIT"},
                                                            {SIGHUP, "SIGHUP"},
                                                            {SIGUSR1, "SIGUSR1"},
                                                            {SIGUSR2, "SIGUSR2"}}};

constexpr unsigned bit_of(int signal) { return 1U << static_cast<unsigned>(signal); }

sigset_t set_of(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : signals) sigaddset(&set, signal);
    return set;
}

/// Whether `descriptor` is readable. Waits for that, or for `other`.
bool wait_for(int descriptor, int limit_ms, int other) {
    std::array<pollfd, 2> entries{{{descriptor, POLLIN, 0}, {other, POLLIN, 0}}};
    return ::poll(entries.data(), entries.size(), limit_ms) > 0 && entries[0].revents != 0;
}

int next_of(const Socket& descriptor, int limit_ms, int other) {
    if (!wait_for(descriptor.descriptor(), limit_ms, other)) return 0;
    signalfd_siginfo info{};
    if (::read(descriptor.descriptor(), &info, sizeof info) != sizeof info) return 0;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace

// SIGTERM and SIGINT keep ending the program until there is something to stop in order. The first
// process of a PID namespace, as in a container, needs handlers for that: the kernel drops what
// would end it by default (pid_namespaces(7)).
void hold_signals() noexcept {
    const sigset_t set = set_of({SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2});
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    if (::getpid() != 1) return;
    for (const int number : {SIGTERM, SIGINT})
        ::signal(number, [](int signal) { ::_exit(128 + signal); });  // as a shell tells it
}

void release_signals() noexcept {
    const sigset_t set = set_of({SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2});
    ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

Signals::Signals(Channel* keeper) : keeper_(keeper) {
    const sigset_t set = set_of({SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2});
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    if (keeper_ != nullptr) return;  // what is blocked then stays unread
    const sigset_t stops = set_of({SIGTERM, SIGINT});
    all_ = Socket{::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)};
    stops_ = Socket{::signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC)};
}

int Signals::next(int limit_ms, int other) const {
    if (keeper_ == nullptr) return next_of(all_, limit_ms, other);
    for (const auto& [signal, name] : taken) {
        if ((pending_ & bit_of(signal)) == 0) continue;
        pending_ &= ~bit_of(signal);
        return signal;
    }
    return wait_for(keeper_->descriptor(), limit_ms, other) ? next_of_keeper() : 0;
}

int Signals::next_stop(int limit_ms, int other) const {
    if (keeper_ == nullptr) return next_of(stops_, limit_ms, other);
    if (!wait_for(keeper_->descriptor(), limit_ms, other)) return 0;
    const int signal = next_of_keeper();
    if (signal == 0 || is_stop(signal)) return signal;
    pending_ |= bit_of(signal);
    return 0;
}

/// 0: the keeper's message is no signal.
int Signals::next_of_keeper() const {
    const std::optional<Message> message = keeper_->receive();
    if (!message) return 0;
    if (message->kind == MessageKind::signal) return message->number;
    keeper_says(*message);
    return 0;
}

bool is_stop(int signal) noexcept { return signal == SIGTERM || signal == SIGINT; }

const char* name_of_signal(int signal) noexcept {
    for (const auto& [number, name] : taken) {
        if (number == signal) return name;
    }
    return "?";
}

}  // namespace udpproxy
