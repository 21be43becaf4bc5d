// LogWriter: a bounded queue of lines, and the thread that writes them to one descriptor. Only that
// thread ever waits for the reader. O_NONBLOCK would not do: standard error is shared with other
// processes, and the flag would hold for them too.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/log/level.hpp"

namespace udpproxy {

/// Lines that wait for the reader, in bytes. A start with the most listeners writes 2 MiB at once.
inline constexpr std::size_t log_bytes_max = 4 << 20;
/// Writers of this process. One that was replaced stays while its reader stands still.
inline constexpr int log_writers_max = 16;

class LogWriter {
public:
    /// Writes to `file`, or to standard error when it holds nothing. `dropped` counts lines that
    /// found no room, or that could not be written (a full disk), also after this object's end.
    /// Errors: there is no thread; too many earlier writers still wait for their readers.
    [[nodiscard]] static Result<std::unique_ptr<LogWriter>> start(
        Descriptor file, std::shared_ptr<std::atomic<std::uint64_t>> dropped);
    /// Does not wait: the thread writes what is queued, then closes the file and ends.
    ~LogWriter();
    LogWriter(const LogWriter&) = delete;
    LogWriter& operator=(const LogWriter&) = delete;

    /// Queues a line without its end. If the queue is full, the line is dropped. Before the next
    /// line that finds room stands one, of this format, that says how many were dropped.
    void put(std::string line, LogFormat format);
    /// Waits until every line is written, but not beyond `limit`.
    void flush(Duration limit) noexcept;

private:
    struct Queue;
    explicit LogWriter(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}

    std::shared_ptr<Queue> queue_;  // shared with the thread, which may outlive this object
};

/// The line that says so, at the present time.
[[nodiscard]] std::string dropped_line(LogFormat format, std::uint64_t lines);

}  // namespace udpproxy
