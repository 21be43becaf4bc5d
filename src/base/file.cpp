// Reads whatever a name leads to without waiting for it: O_NONBLOCK for pipes and for what procfs
// calls a regular file (/proc/kmsg), a thread with a time limit for file systems.
#include "udpproxy/base/file.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/time_limit.hpp"

namespace udpproxy {

namespace {

/// What cannot be read as a file; null: it can.
const char* obstacle_of(mode_t mode) {
    switch (mode & S_IFMT) {
        case S_IFREG:
        case S_IFIFO:
            return nullptr;
        case S_IFDIR:
            return "it is a directory";
        case S_IFCHR:
        case S_IFBLK:
            return "it is a device";
        default:
            return "it is a socket";
    }
}

/// Waits for a pipe's writer, then reads to the end. The kernel reports no end of a pipe before a
/// writer was there (pipe_poll() in fs/pipe.c).
Result<std::string> read_all(const std::string& path, std::size_t bytes_max, Duration limit) {
    const Instant deadline = monotonic_now() + limit;
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return Error{error_text(errno), errno};
    if (const char* obstacle = obstacle_of(status.st_mode)) return Error{obstacle};
    // A device is not even opened: for some (a watchdog, a tape) to be opened is to act.
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)};
    if (!file) return Error{error_text(errno), errno};
    std::string text(bytes_max + 1, '\0');
    std::size_t length = 0;
    while (length < text.size()) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - monotonic_now());
        pollfd waited{file.descriptor(), POLLIN, 0};
        const int ready =
            ::poll(&waited, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return system_error("poll", errno);
        if (ready == 0) return no_answer(limit);
        const ssize_t count = ::read(file.descriptor(), &text[length], text.size() - length);
        if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (count < 0) return Error{error_text(errno), errno};
        if (count == 0) break;
        length += static_cast<std::size_t>(count);
    }
    text.resize(length);
    return text;
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t bytes_max, Duration limit) {
    // The thread's own limit comes first, unless a file system holds it.
    const Duration thread_limit = limit + std::chrono::milliseconds{500};
    Result<std::string> text =
        within(thread_limit, [=] { return read_all(path, bytes_max, limit); });
    if (!text && text.error().code == ETIMEDOUT) return no_answer(limit);
    return text;
}

Result<void> open_standard_streams() {
    for (;;) {
        const int descriptor = ::open("/dev/null", O_RDWR);
        if (descriptor < 0) return system_error("/dev/null: open", errno);
        if (descriptor > STDERR_FILENO) {
            ::close(descriptor);
            return {};
        }
    }
}

}  // namespace udpproxy
