// The log: control events only, one line each, key=value text or JSON. Any thread may write; a
// thread of the log's own hands the lines to the kernel (src/log/writer.hpp), so that nobody ever
// waits for a disk or for a reader that stands still.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/log/level.hpp"

namespace udpproxy {

/// One key and its value; numbers and booleans stay bare in JSON.
struct LogField {
    LogField(std::string_view name, std::string_view text) : key(name), value(text) {}
    LogField(std::string_view name, const char* text) : key(name), value(text) {}
    LogField(std::string_view name, const std::string& text) : key(name), value(text) {}
    LogField(std::string_view name, bool flag)
        : key(name), value(flag ? "true" : "false"), bare(true) {}
    template <std::integral T>
    LogField(std::string_view name, T number)
        : key(name), value(std::to_string(number)), bare(true) {}
    LogField(std::string_view name, double number);

    std::string key;
    std::string value;
    bool bare = false;
};

/// Where lines go, and which.
struct LogTarget {
    LogLevel level = LogLevel::info;
    LogFormat format = LogFormat::text;
    std::string file;  // empty: standard error
};

class Log {
public:
    /// Opens `target.file`, or standard error when it is empty. A log that takes the place of
    /// `before` goes on with its count of dropped lines. Errors: `log.file "/x/y": open: Permission
    /// denied`; a file system that does not answer in time; no thread for its writer.
    [[nodiscard]] static Result<Log> open(const LogTarget& target, const Log* before = nullptr);
    Log(Log&&) noexcept;
    Log& operator=(Log&&) = delete;
    /// Waits a second at most for the lines to be written.
    ~Log();

    /// Takes the target of `other`, also while other threads write. Lines written before go where
    /// they were meant to go.
    void become(Log other) noexcept;
    /// Keeps the present target, and remembers another that could not be opened for reopen().
    void want(LogTarget target) noexcept;
    /// Whether a target is wanted that could not be opened.
    [[nodiscard]] bool is_behind() const;
    /// Opens the wanted target, else the present file anew after log rotation has renamed it. On an
    /// error nothing changes.
    [[nodiscard]] Result<void> reopen();

    /// Writes one line: time, level, event, then the fields in order. Never waits: a line that
    /// finds no room is dropped and counted.
    void write(LogLevel level, std::string_view event, const std::vector<LogField>& fields = {});
    /// Waits for the lines to be written, but not beyond `limit`: before an exit without
    /// destructors.
    void flush(Duration limit) noexcept;
    /// Lines that found no room, or that could not be written.
    [[nodiscard]] std::uint64_t dropped() const;

    /// The minimum level that is written. May be changed while other threads write.
    [[nodiscard]] LogLevel level() const;
    void set_level(LogLevel level);

    void error(std::string_view event, const std::vector<LogField>& fields = {}) {
        write(LogLevel::error, event, fields);
    }
    void warn(std::string_view event, const std::vector<LogField>& fields = {}) {
        write(LogLevel::warn, event, fields);
    }
    void info(std::string_view event, const std::vector<LogField>& fields = {}) {
        write(LogLevel::info, event, fields);
    }

private:
    struct State;
    explicit Log(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
};

inline constexpr Duration log_flush_limit = std::chrono::seconds{1};

/// The line that write() writes at `time`, for tests.
[[nodiscard]] std::string format_line(LogFormat format, std::string_view time, LogLevel level,
                                      std::string_view event, const std::vector<LogField>& fields);

}  // namespace udpproxy
