// The log against a reader that stands still, with a pipe as its file: no call waits, every line is
// either read or counted, and order is kept. The same for the last words of a broken law.
#include "udpproxy/log/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>

#include "log/writer.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/descriptor.hpp"

namespace udpproxy {
namespace {

constexpr Duration generous = std::chrono::seconds{30};

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// A pipe with a name, open for reading, that holds little.
class NamedPipe {
public:
    NamedPipe() {
        std::array<char, 32> pattern{"/tmp/udpproxy-log-XXXXXX"};
        directory_ = ::mkdtemp(pattern.data());
        path = directory_ + "/pipe";
        REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
        reader = Descriptor{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
        REQUIRE(reader);
        ::fcntl(reader.descriptor(), F_SETPIPE_SZ, 4096);
    }
    ~NamedPipe() { std::filesystem::remove_all(directory_); }
    NamedPipe(const NamedPipe&) = delete;
    NamedPipe& operator=(const NamedPipe&) = delete;

    /// What is read until `end` has been, or until a generous limit.
    std::string read_until(std::string_view end) const {
        std::string text;
        std::array<char, 65536> piece{};
        for (const Instant limit = monotonic_now() + generous;
             text.find(end) == std::string::npos && monotonic_now() < limit;) {
            const ssize_t count = ::read(reader.descriptor(), piece.data(), piece.size());
            if (count > 0)
                text.append(piece.data(), static_cast<std::size_t>(count));
            else
                sleep_for(std::chrono::milliseconds{1});
        }
        return text;
    }

    std::string path;
    Descriptor reader;

private:
    std::string directory_;
};

std::size_t count_of(const std::string& text, std::string_view part) {
    std::size_t count = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

TEST_CASE("lines that find no room are dropped and counted, and the log says so in their place") {
    const NamedPipe pipe;
    Result<Log> log = Log::open({LogLevel::info, LogFormat::text, pipe.path});
    REQUIRE(log);
    const std::string large(100'000, 'x');
    int written = 0;
    for (const Instant limit = monotonic_now() + generous;
         log->dropped() < 5 && monotonic_now() < limit; ++written)
        log->info("before", {{"number", written}, {"text", large}});
    REQUIRE(log->dropped() == 5);

    std::string text = pipe.read_until("event=log_dropped lines=5 ");
    log->info("after");
    text += pipe.read_until("event=after\n");
    CHECK(count_of(text, "event=before") == static_cast<std::size_t>(written) - 5);
    CHECK(count_of(text, "event=log_dropped") == 1);
    std::size_t at = 0;
    for (int number = 0; number < written - 5; ++number) {
        const std::size_t found = text.find("number=" + std::to_string(number) + ' ', at);
        REQUIRE(found != std::string::npos);
        at = found;
    }
    CHECK(at < text.find("event=log_dropped"));
    CHECK(text.find("event=log_dropped") < text.find("event=after"));
}

TEST_CASE("the end waits for a reader that reads, and not for one that stands still") {
    const NamedPipe pipe;
    std::optional<Result<Log>> log{std::in_place,
                                   Log::open({LogLevel::info, LogFormat::json, pipe.path})};
    REQUIRE(*log);
    const std::string large(10'000, 'x');
    for (int i = 0; i < 20; ++i) (*log)->info("many", {{"text", large}});
    (*log)->info("last");
    SUBCASE("reads") {
        std::string text;
        std::thread reading([&] { text = pipe.read_until("\"last\"}\n"); });
        log.reset();
        reading.join();
        CHECK(count_of(text, "\"many\"") == 20);
        CHECK(text.ends_with("\"event\":\"last\"}\n"));
    }
    SUBCASE("stands still") {
        const Instant begun = monotonic_now();
        log.reset();
        CHECK(monotonic_now() - begun >= log_flush_limit);
        CHECK(monotonic_now() - begun < generous);
    }
}

TEST_CASE("another file is written to while the reader of the first stands still") {
    const NamedPipe first;
    const NamedPipe second;
    Result<Log> log = Log::open({LogLevel::info, LogFormat::text, first.path});
    REQUIRE(log);
    log->info("early", {{"text", std::string(10'000, 'x')}});
    Result<Log> other = Log::open({LogLevel::warn, LogFormat::text, second.path});
    REQUIRE(other);
    log->become(std::move(*other));
    CHECK(log->level() == LogLevel::warn);
    log->info("unwritten");
    log->warn("late");
    CHECK(count_of(second.read_until("event=late\n"), "event=") == 1);
    CHECK(first.read_until("xxx\n").find("event=early") != std::string::npos);
}

TEST_CASE("a file that could not be opened is what reopen() opens, until another is taken") {
    const NamedPipe pipe;
    const NamedPipe wanted;
    Result<Log> log = Log::open({LogLevel::info, LogFormat::text, pipe.path});
    REQUIRE(log);
    CHECK_FALSE(log->is_behind());
    log->want({LogLevel::info, LogFormat::json, wanted.path + "/absent"});
    CHECK(log->is_behind());
    CHECK_FALSE(log->reopen());
    log->info("still");
    CHECK(pipe.read_until("event=still\n").ends_with("event=still\n"));
    log->want({LogLevel::info, LogFormat::json, wanted.path});
    REQUIRE(log->reopen());
    CHECK_FALSE(log->is_behind());
    log->info("there");
    CHECK(wanted.read_until("}\n").find("\"there\"") != std::string::npos);
}

TEST_CASE("a file that was renamed is left for a new one, also when its name is the wanted one") {
    const NamedPipe pipe;  // for its directory
    const std::string file = pipe.path + ".log";
    Result<Log> log = Log::open({LogLevel::info, LogFormat::text, file});
    REQUIRE(log);
    SUBCASE("as it is") {}
    SUBCASE("in a format that was wanted while it could not be opened") {
        log->want({LogLevel::info, LogFormat::json, file});
    }
    log->info("early");
    log->flush(generous);
    std::filesystem::rename(file, file + ".1");
    REQUIRE(log->reopen());
    log->info("late");
    log->flush(generous);
    CHECK(text_of(file).find("late") != std::string::npos);
    CHECK(text_of(file + ".1").find("late") == std::string::npos);
}

TEST_CASE("lines that the earlier and the present writer drop are counted together") {
    NamedPipe first;
    NamedPipe second;
    const auto handler = std::signal(SIGPIPE, SIG_IGN);
    Result<Log> log = Log::open({LogLevel::info, LogFormat::text, first.path});
    REQUIRE(log);
    log->info("early", {{"text", std::string(10'000, 'x')}});
    Result<Log> other = Log::open({LogLevel::info, LogFormat::text, second.path}, &*log);
    REQUIRE(other);
    log->become(std::move(*other));
    CHECK(log->dropped() == 0);
    const auto comes_to = [&](std::uint64_t dropped) {
        const Instant limit = monotonic_now() + generous;
        while (log->dropped() < dropped && monotonic_now() < limit)
            sleep_for(std::chrono::milliseconds{1});
        return log->dropped() == dropped;
    };
    first.reader = Descriptor{};
    CHECK(comes_to(1));
    second.reader = Descriptor{};
    log->info("late");
    CHECK(comes_to(2));
    std::signal(SIGPIPE, handler);
}

TEST_CASE("writers whose readers stand still are bounded, and make room when they read") {
    const NamedPipe pipe;
    const auto dropped = std::make_shared<std::atomic<std::uint64_t>>(0);
    const auto start = [&] {
        return LogWriter::start(Descriptor{::open(pipe.path.c_str(), O_WRONLY | O_CLOEXEC)},
                                dropped);
    };
    int started = 0;
    for (; started < 2 * log_writers_max; ++started) {
        const Result<std::unique_ptr<LogWriter>> writer = start();
        if (!writer) break;
        (*writer)->put(std::string(10'000, 'x'), LogFormat::text);
    }
    CHECK(started > 0);
    CHECK(started <= log_writers_max);
    for (int read = 0; read < started; ++read) (void)pipe.read_until("x\n");
    const Instant limit = monotonic_now() + generous;
    while (!start() && monotonic_now() < limit) sleep_for(std::chrono::milliseconds{1});
    CHECK(start());
}

TEST_CASE("a pipe without a reader is an error, not a wait") {
    NamedPipe pipe;
    pipe.reader = Descriptor{};
    const Result<Log> log = Log::open({LogLevel::info, LogFormat::text, pipe.path});
    REQUIRE_FALSE(log);
    CHECK(log.error().message == "log.file \"" + pipe.path + "\": open: No such device or address");
}

// The process could not even be ended by its own assertion.
TEST_CASE("a broken law ends the process although the reader of its last words stands still") {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    const Descriptor reader{ends[0]};
    const Descriptor writer{ends[1]};
    const std::array<char, 4096> filling{};
    while (::write(writer.descriptor(), filling.data(), filling.size()) > 0) continue;
    ::fcntl(writer.descriptor(), F_SETFL, 0);
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGABRT, SIG_DFL);
        ::dup2(writer.descriptor(), STDERR_FILENO);
        UDPPROXY_ASSERT(child != 0);
        ::_exit(0);
    }
    REQUIRE(child > 0);
    int status = 0;
    pid_t ended = 0;
    for (const Instant limit = monotonic_now() + generous; ended == 0 && monotonic_now() < limit;
         sleep_for(std::chrono::milliseconds{5}))
        ended = ::waitpid(child, &status, WNOHANG);
    if (ended == 0) {
        ::kill(child, SIGKILL);
        ::waitpid(child, &status, 0);
    }
    CHECK(ended == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
}

}  // namespace
}  // namespace udpproxy
