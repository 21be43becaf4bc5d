// The format of a line, and the sink behind it. No value can break a line in two or forge a field:
// everything but numbers and booleans is escaped.
#include "udpproxy/log/log.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <chrono>

#include "udpproxy/base/json_text.hpp"

namespace udpproxy {

namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
    switch (level) {
        case LogLevel::error:
            return spdlog::level::err;
        case LogLevel::warn:
            return spdlog::level::warn;
        case LogLevel::info:
            break;
    }
    return spdlog::level::info;
}

std::string present_time() {
    const auto now = std::chrono::system_clock::now();
    const auto micros =
        std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() %
        1'000'000;
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                       fmt::gmtime(std::chrono::system_clock::to_time_t(now)), micros);
}

/// A value with blanks, quotation marks or anything that is escaped is written as a JSON string, so
/// that it stays one word.
std::string as_text(const LogField& field) {
    if (field.bare) return field.value;
    std::string quoted;
    append_json_string(quoted, field.value);
    const bool is_one_word = !field.value.empty() &&
                             field.value.find_first_of(" =") == std::string::npos &&
                             quoted.find('\\') == std::string::npos;
    return is_one_word ? quoted.substr(1, quoted.size() - 2) : quoted;
}

}  // namespace

std::string_view name_of(LogLevel level) {
    switch (level) {
        case LogLevel::error:
            return "error";
        case LogLevel::warn:
            return "warn";
        case LogLevel::info:
            break;
    }
    return "info";
}

LogField::LogField(std::string_view name, double number)
    : key(name), value(fmt::format("{:.3f}", number)), bare(true) {}

std::string format_line(LogFormat format, std::string_view time, LogLevel level,
                        std::string_view event, const std::vector<LogField>& fields) {
    if (format == LogFormat::text) {
        std::string line = fmt::format("time={} level={} event={}", time, name_of(level), event);
        for (const LogField& field : fields)
            line += fmt::format(" {}={}", field.key, as_text(field));
        return line;
    }
    JsonText line;
    line.begin_object().member("time", time).member("level", name_of(level));
    line.member("event", event);
    for (const LogField& field : fields) {
        line.key(field.key);
        if (field.bare)
            line.raw(field.value);
        else
            line.value(field.value);
    }
    std::string text = line.end_object().take();
    text.pop_back();
    return text;
}

Result<Log> Log::open(LogLevel level, LogFormat format, const std::string& file) {
    spdlog::sink_ptr sink;
    try {
        if (file.empty())
            sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
        else
            sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
    } catch (const spdlog::spdlog_ex& failure) {
        return Error{fmt::format("log.file \"{}\": {}", file, failure.what())};
    }
    Log log;
    log.logger_ = std::make_shared<spdlog::logger>("udpproxy", std::move(sink));
    log.logger_->set_pattern("%v");
    log.logger_->set_level(spdlog_level(level));
    log.logger_->flush_on(spdlog::level::info);
    // A full disk or a closed terminal loses log lines; it does not stop the service.
    log.logger_->set_error_handler([](const std::string&) {});
    log.format_ = format;
    log.file_ = file;
    return log;
}

void Log::become(Log other) noexcept {
    const std::lock_guard lock(*mutex_);
    logger_.swap(other.logger_);
    format_ = other.format_;
    file_.swap(other.file_);
}

Result<void> Log::reopen() {
    Result<Log> opened = open(level(), format_, file_);
    if (!opened) return opened.error();
    become(std::move(*opened));
    return {};
}

std::shared_ptr<spdlog::logger> Log::logger() const {
    const std::lock_guard lock(*mutex_);
    return logger_;
}

void Log::write(LogLevel level, std::string_view event, const std::vector<LogField>& fields) {
    std::unique_lock lock(*mutex_);
    const std::shared_ptr<spdlog::logger> logger = logger_;
    const LogFormat format = format_;
    lock.unlock();
    if (!logger->should_log(spdlog_level(level))) return;
    logger->log(spdlog_level(level), format_line(format, present_time(), level, event, fields));
}

LogLevel Log::level() const {
    const std::shared_ptr<spdlog::logger> present = logger();
    for (const LogLevel level : {LogLevel::error, LogLevel::warn}) {
        if (spdlog_level(level) == present->level()) return level;
    }
    return LogLevel::info;
}

void Log::set_level(LogLevel level) { logger()->set_level(spdlog_level(level)); }

}  // namespace udpproxy
