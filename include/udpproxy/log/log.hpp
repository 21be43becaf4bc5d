// The log: control events only, one line each, key=value text or JSON. Written by the control
// thread, so that no shard ever waits for a disk or a terminal; sinks and levels are spdlog's.
#pragma once

#include <concepts>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "udpproxy/base/result.hpp"
#include "udpproxy/log/level.hpp"

namespace spdlog {
class logger;
}

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

class Log {
public:
    /// Opens `file`, or standard error when it is empty. Errors: `log.file "/x/y": open: Permission
    /// denied`.
    [[nodiscard]] static Result<Log> open(LogLevel level, LogFormat format,
                                          const std::string& file);

    /// Takes the level, format and file of `other`, also while other threads write.
    void become(Log other) noexcept;
    /// Opens the file again, after log rotation has renamed it. On an error nothing changes.
    [[nodiscard]] Result<void> reopen();

    /// Writes one line: time, level, event, then the fields in order.
    void write(LogLevel level, std::string_view event, const std::vector<LogField>& fields = {});

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
    Log() = default;
    [[nodiscard]] std::shared_ptr<spdlog::logger> logger() const;

    // Guards the members below. Shared, so that a Log can be moved.
    std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
    std::shared_ptr<spdlog::logger> logger_;
    LogFormat format_ = LogFormat::text;
    std::string file_;
};

/// The line that write() writes at `time`, for tests.
[[nodiscard]] std::string format_line(LogFormat format, std::string_view time, LogLevel level,
                                      std::string_view event, const std::vector<LogField>& fields);

}  // namespace udpproxy
