// The format of a line, and the target that lines go to. No value can break a line in two or forge
// a field: everything but numbers and booleans is escaped.
#include "udpproxy/log/log.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <optional>

#include "udpproxy/base/json_text.hpp"
#include "udpproxy/base/time_limit.hpp"
#include "writer.hpp"

namespace udpproxy {

namespace {

constexpr Duration open_limit = std::chrono::seconds{2};

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

/// O_NONBLOCK, because a pipe without a reader would hold open(2); the thread that writes waits.
Result<Descriptor> open_file(const std::string& path) {
    const int descriptor = ::open(
        path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (descriptor < 0) return system_error("open", errno);
    (void)::fcntl(descriptor, F_SETFL, O_APPEND);
    return Descriptor{descriptor};
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

std::string dropped_line(LogFormat format, std::uint64_t lines) {
    return format_line(
        format, present_time(), LogLevel::warn, "log_dropped",
        {{"lines", lines}, {"reason", "the log's reader took nothing, or writing failed"}});
}

struct Log::State {
    mutable std::mutex mutex;  // guards all but the level
    std::atomic<LogLevel> level{LogLevel::info};
    LogFormat format = LogFormat::text;
    std::string file;
    std::shared_ptr<LogWriter> writer;
    std::shared_ptr<std::atomic<std::uint64_t>> dropped;  // by every writer there was
    std::optional<LogTarget> wanted;                      // could not be opened

    void take_writer(State& from) noexcept {
        writer = std::move(from.writer);
        file.swap(from.file);
    }
};

Log::Log(std::unique_ptr<State> state) : state_(std::move(state)) {}
Log::Log(Log&&) noexcept = default;

Log::~Log() {
    if (state_ && state_->writer) flush(log_flush_limit);  // none: another has become this one
}

Result<Log> Log::open(const LogTarget& target, const Log* before) {
    Descriptor file;
    if (!target.file.empty()) {
        Result<Descriptor> opened =
            within(open_limit, [path = target.file] { return open_file(path); });
        if (!opened)
            return Error{fmt::format("log.file \"{}\": {}", target.file, opened.error().message),
                         opened.error().code};
        file = std::move(*opened);
    }
    auto state = std::make_unique<State>();
    state->dropped = before != nullptr ? before->state_->dropped
                                       : std::make_shared<std::atomic<std::uint64_t>>(0);
    Result<std::unique_ptr<LogWriter>> writer = LogWriter::start(std::move(file), state->dropped);
    if (!writer) return Error{"log: " + writer.error().message, writer.error().code};
    state->level = target.level;
    state->format = target.format;
    state->file = target.file;
    state->writer = std::move(*writer);
    return Log{std::move(state)};
}

void Log::become(Log other) noexcept {
    State& to = *state_;
    State& from = *other.state_;
    const std::lock_guard lock(to.mutex);
    to.level = from.level.load();
    to.format = from.format;
    to.wanted.reset();
    // Two writers of one file, or of standard error, would mix up the order of the lines.
    if (to.file != from.file) to.take_writer(from);
    from.writer.reset();
}

void Log::want(LogTarget target) noexcept {
    const std::lock_guard lock(state_->mutex);
    state_->wanted = std::move(target);
}

bool Log::is_behind() const {
    const std::lock_guard lock(state_->mutex);
    return state_->wanted.has_value();
}

Result<void> Log::reopen() {
    std::unique_lock lock(state_->mutex);
    const bool is_wanted = state_->wanted.has_value();
    const LogTarget target =
        state_->wanted.value_or(LogTarget{level(), state_->format, state_->file});
    lock.unlock();
    Result<Log> opened = open(target, this);
    if (!opened) return opened.error();
    lock.lock();
    if (is_wanted) {
        state_->level = target.level;
        state_->format = target.format;
        state_->wanted.reset();
    }
    // A file may have been renamed meanwhile, so even one of the same name is taken.
    if (target.file != state_->file || !target.file.empty()) state_->take_writer(*opened->state_);
    return {};
}

void Log::write(LogLevel level, std::string_view event, const std::vector<LogField>& fields) {
    State& state = *state_;
    if (level > state.level) return;
    const std::lock_guard lock(state.mutex);  // also of the order: by time
    state.writer->put(format_line(state.format, present_time(), level, event, fields),
                      state.format);
}

void Log::flush(Duration limit) noexcept {
    std::unique_lock lock(state_->mutex);
    const std::shared_ptr<LogWriter> writer = state_->writer;
    lock.unlock();
    writer->flush(limit);
}

std::uint64_t Log::dropped() const { return state_->dropped->load(std::memory_order_relaxed); }

LogLevel Log::level() const { return state_->level; }

void Log::set_level(LogLevel level) { state_->level = level; }

}  // namespace udpproxy
