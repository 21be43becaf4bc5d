// Broken laws under test: UDPPROXY_ASSERT ends the process, so the deed is done in a child. Used by
// the tests of whatever asserts.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <string>

namespace udpproxy {

/// What the assertion said when `deed` aborted in a child process; "" when the child went on
/// unharmed or died otherwise.
// Requires: no other thread is running.
template <class Deed>
std::string law_broken_by(Deed&& deed) {
    std::array<int, 2> pipe_ends{};
    if (::pipe(pipe_ends.data()) != 0) return "";
    const pid_t child = ::fork();
    if (child == 0) {
        // doctest's report of a signal belongs to the parent only.
        std::signal(SIGABRT, SIG_DFL);
        ::dup2(pipe_ends[1], STDERR_FILENO);
        ::close(pipe_ends[0]);
        ::close(pipe_ends[1]);
        deed();
        ::_exit(0);
    }
    ::close(pipe_ends[1]);
    std::string said;
    std::array<char, 512> piece{};
    for (ssize_t got = 0;
         child > 0 && (got = ::read(pipe_ends[0], piece.data(), piece.size())) > 0;)
        said.append(piece.data(), static_cast<std::size_t>(got));
    ::close(pipe_ends[0]);
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) return "";
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? said : "";
}

/// Whether `deed` was stopped by an assertion of ours.
template <class Deed>
bool breaks_a_law(Deed&& deed) {
    return law_broken_by(deed).find("udpproxy: assertion failed: ") != std::string::npos;
}

}  // namespace udpproxy
