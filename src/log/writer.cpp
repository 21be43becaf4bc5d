// Queue and thread. The thread is never joined: in write(2) it waits for as long as the reader
// stands still, and the end of the process is the end of that.
#include "writer.hpp"

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

namespace udpproxy {

namespace {

std::atomic<int> writers{0};

/// Waits for the reader. One write for a line, so that a pipe keeps lines of several writers apart.
bool write_line(int descriptor, std::string_view line) noexcept {
    while (!line.empty()) {
        const ssize_t written = ::write(descriptor, line.data(), line.size());
        if (written >= 0) {
            line.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno == EAGAIN) {  // another process has set O_NONBLOCK
            pollfd waited{descriptor, POLLOUT, 0};
            (void)::poll(&waited, 1, -1);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

}  // namespace

struct LogWriter::Queue {
    struct Line {
        std::string text;
        std::uint64_t announces = 0;  // dropped lines
    };

    [[nodiscard]] bool has_room(std::size_t more) const noexcept {
        // After a drop the queue empties by half first; otherwise each line would stand alone
        // between announcements.
        return bytes + more <= (unannounced > 0 ? log_bytes_max / 2 : log_bytes_max);
    }
    void push(std::string text, std::uint64_t announces) {
        text += '\n';
        const std::size_t length = text.size();
        lines.push_back({std::move(text), announces});
        bytes += length;
    }
    void announce() {
        push(dropped_line(format, unannounced), unannounced);
        unannounced = 0;
    }
    void note_dropped(const Line& line) noexcept {
        unannounced += line.announces > 0 ? line.announces : 1;
        if (line.announces == 0) dropped->fetch_add(1, std::memory_order_relaxed);
    }
    void run();
    void write_first(std::unique_lock<std::mutex>& lock);

    Queue(Descriptor to, std::shared_ptr<std::atomic<std::uint64_t>> count)
        : file(std::move(to)), dropped(std::move(count)) {}
    ~Queue() { writers.fetch_sub(1, std::memory_order_relaxed); }
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    Descriptor file;
    std::mutex mutex;
    std::condition_variable news;
    std::condition_variable written;
    std::deque<Line> lines;
    std::size_t bytes = 0;
    LogFormat format = LogFormat::text;  // of the latest line
    std::shared_ptr<std::atomic<std::uint64_t>> dropped;
    std::uint64_t unannounced = 0;
    bool is_writing = false;
    bool is_closing = false;
};

void LogWriter::Queue::run() {
    ::pthread_setname_np(::pthread_self(), "log");
    // A reader that has gone is an error of write(2), not the end of the program (SIGPIPE).
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(mutex);
    for (;;) {
        news.wait(lock, [&] { return !lines.empty() || is_closing; });
        if (lines.empty()) return;
        write_first(lock);
        if (lines.empty()) written.notify_all();
    }
}

void LogWriter::Queue::write_first(std::unique_lock<std::mutex>& lock) {
    const Line line = std::move(lines.front());
    lines.pop_front();
    bytes -= line.text.size();
    is_writing = true;
    lock.unlock();
    const int descriptor = file ? file.descriptor() : STDERR_FILENO;
    const bool is_written = write_line(descriptor, line.text);
    lock.lock();
    is_writing = false;
    if (!is_written) {
        note_dropped(line);
    } else if (lines.empty() && unannounced > 0) {
        try {
            announce();
        } catch (const std::bad_alloc&) {
            return;  // the next line tries again
        }
    }
}

Result<std::unique_ptr<LogWriter>> LogWriter::start(
    Descriptor file, std::shared_ptr<std::atomic<std::uint64_t>> dropped) {
    const auto queue = std::make_shared<Queue>(std::move(file), std::move(dropped));
    if (writers.fetch_add(1, std::memory_order_relaxed) >= log_writers_max)
        return Error{"the readers of " + std::to_string(log_writers_max) +
                     " earlier logs take nothing"};
    try {
        std::thread([queue] { queue->run(); }).detach();
    } catch (const std::system_error& failure) {
        return system_error("no thread", failure.code().value());
    }
    return std::unique_ptr<LogWriter>{new LogWriter{queue}};
}

LogWriter::~LogWriter() {
    const std::lock_guard lock(queue_->mutex);
    queue_->is_closing = true;
    queue_->news.notify_all();
}

void LogWriter::put(std::string line, LogFormat format) {
    Queue& queue = *queue_;
    const std::lock_guard lock(queue.mutex);
    queue.format = format;
    if (!queue.has_room(line.size() + 1)) {
        queue.note_dropped({});
        return;
    }
    if (queue.unannounced > 0) queue.announce();
    queue.push(std::move(line), 0);
    queue.news.notify_all();
}

void LogWriter::flush(Duration limit) noexcept {
    std::unique_lock lock(queue_->mutex);
    queue_->written.wait_for(lock, limit,
                             [&] { return queue_->lines.empty() && !queue_->is_writing; });
}

}  // namespace udpproxy
