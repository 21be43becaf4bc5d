// Starts a child by posix_spawn(3), which copies no memory: a fork would stall the shards of a
// large proxy for milliseconds. The child gets none of this program's descriptors.
#include "child_output.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>

#include "udpproxy/net/socket.hpp"

namespace udpproxy {

namespace {

using Clock = std::chrono::steady_clock;

/// Returns 0 or errno.
int start(const std::vector<std::string>& command, int output, pid_t& child) {
    std::vector<char*> arguments;
    for (const std::string& argument : command)
        arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    // The child takes no part in this program's way with signals: blocked, and SIGPIPE ignored.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t set;
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &set);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const int error = ::posix_spawnp(&child, command.front().c_str(), &actions, &attributes,
                                     arguments.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

/// Reads up to the end of the output. Errors: a limit, or poll and read.
Result<std::string> read_all(int descriptor, const ChildLimits& limits) {
    const Clock::time_point deadline = Clock::now() + limits.timeout;
    std::string text;
    std::array<char, 16384> part{};
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        pollfd waited{descriptor, POLLIN, 0};
        const int ready =
            ::poll(&waited, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return system_error("poll", errno);
        if (ready == 0) return Error{"it takes too long", ETIMEDOUT};
        const ssize_t length = ::read(descriptor, part.data(), part.size());
        if (length < 0 && errno == EINTR) continue;
        if (length < 0) return system_error("read", errno);
        if (length == 0) return text;
        text.append(part.data(), static_cast<std::size_t>(length));
        if (text.size() > limits.bytes_max)
            return Error{fmt::format("more than {} bytes", limits.bytes_max), E2BIG};
    }
}

}  // namespace

Result<std::string> child_output(const std::vector<std::string>& command,
                                 const ChildLimits& limits) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("pipe", errno);
    const Socket output{ends[0]};
    Socket input{ends[1]};
    pid_t child = -1;
    if (const int error = start(command, input.descriptor(), child); error != 0)
        return system_error(command.front(), error);
    input = Socket{};
    Result<std::string> text = read_all(output.descriptor(), limits);
    if (!text) ::kill(child, SIGKILL);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    const std::string& name = command.front();
    if (!text) return Error{name + ": " + text.error().message, text.error().code};
    if (WIFSIGNALED(status))
        return Error{fmt::format("{}: ended by signal {}", name, WTERMSIG(status))};
    if (WEXITSTATUS(status) != 0)
        return Error{fmt::format("{}: exit code {}", name, WEXITSTATUS(status))};
    return text;
}

}  // namespace udpproxy
