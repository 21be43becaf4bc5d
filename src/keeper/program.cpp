// Looks at files, and runs the one that is asked.
#include "program.hpp"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "udpproxy/base/printable.hpp"
#include "worker.hpp"

namespace udpproxy {

namespace {

constexpr char own_program[] = "/proc/self/exe";
constexpr Duration answer_limit = std::chrono::seconds{5};
// How the last line begins; exit code 0 alone is /bin/true's, too.
constexpr std::string_view yes = "udpproxy ";
constexpr std::size_t said_max = 1024;
constexpr std::size_t pipe_bytes = 65536;     // what one holds, pipe(7)
constexpr int exit_code_of_no_program = 127;  // as a shell's

bool leads_to(const std::string& path, const struct stat& file) {
    struct stat found {};
    return ::stat(path.c_str(), &found) == 0 && found.st_dev == file.st_dev &&
           found.st_ino == file.st_ino;
}

/// Whether this process could put another file there.
bool can_write(const std::string& directory) {
    return ::faccessat(AT_FDCWD, directory.c_str(), W_OK, AT_EACCESS) == 0;
}

/// In the child. It ends with the keeper, and knows nothing of it.
[[noreturn]] void run(const ProgramFile& program, char* const* arguments, int ledger, int output,
                      const sigset_t& signals) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const int signal : keeper_signals) ::signal(signal, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &signals, nullptr);
    // Opened anew, it can only be read. The worker may have put anything there, a pipe as well.
    int input = ::open(("/proc/self/fd/" + std::to_string(ledger)).c_str(), O_RDONLY | O_NONBLOCK);
    if (input < 0) input = ::open("/dev/null", O_RDONLY);
    const std::array<int, 3> streams{input, output, output};
    bool is_done = true;
    for (int number = 0; number < 3; ++number)
        is_done = is_done && ::dup2(streams[static_cast<std::size_t>(number)], number) >= 0;
    const std::array<int, 1> kept{program.descriptor()};
    close_all_but(kept);
    if (is_done) ::fexecve(program.descriptor(), arguments, environ);
    write_error("exec: ");
    write_error(::strerrordesc_np(errno));
    ::_exit(exit_code_of_no_program);
}

}  // namespace

Result<ProgramFile> ProgramFile::open(const std::string& path) {
    Result<ProgramFile> opened =
        take(Descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)});
    if (!opened) return Error{path + ": " + opened.error().message, opened.error().code};
    const Identity& file = opened->identity_;
    if (!S_ISREG(file.mode)) return Error{path + " is no file"};
    const uid_t user = ::geteuid();
    const std::size_t slash = path.rfind('/');
    const std::string directory = slash == 0 ? "/" : path.substr(0, slash);
    if ((file.mode & (S_IWGRP | S_IWOTH)) != 0 ||
        (user != 0 && (file.owner == user || can_write(directory))))
        return Error{path + " can be written by other users than root: it is not executed"};
    return opened;
}

Result<ProgramFile> ProgramFile::open_own() {
    return take(Descriptor{::open(own_program, O_RDONLY | O_CLOEXEC)});
}

Result<ProgramFile> ProgramFile::take(int descriptor) { return take(Descriptor{descriptor}); }

Result<ProgramFile> ProgramFile::take(Descriptor file) {
    if (!file) return system_error("open", errno);
    ProgramFile program;
    program.identity_ = identity_of(file.descriptor());
    if (program.identity_ == Identity{}) return system_error("stat", errno);
    program.file_ = std::move(file);
    return program;
}

bool ProgramFile::is_same() const noexcept { return identity_of(descriptor()) == identity_; }

ProgramFile::Identity ProgramFile::identity_of(int descriptor) noexcept {
    struct stat file {};
    if (::fstat(descriptor, &file) != 0) return {};
    return {file.st_dev, file.st_ino, file.st_uid, file.st_mode, file.st_size};
}

std::string own_program_path() {
    struct stat file {};
    if (::stat(own_program, &file) != 0) return {};
    const auto started_by = ::getauxval(AT_EXECFN);
    std::string path = started_by != 0 ? reinterpret_cast<const char*>(started_by) : "";
    std::array<char, PATH_MAX> text{};
    if (!path.starts_with('/') && ::getcwd(text.data(), text.size()) != nullptr)
        path = std::string{text.data()} + '/' + path;
    if (leads_to(path, file)) return path;
    const ssize_t length = ::readlink(own_program, text.data(), text.size());
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))};
}

Result<UpgradeQuestion> UpgradeQuestion::ask(const ProgramFile& program,
                                             const std::vector<std::string>& arguments,
                                             std::uint32_t ledger_form, int ledger,
                                             const sigset_t& signals, Instant now) {
    std::vector<std::string> words = arguments;
    words.insert(words.begin() + 1, {"--check-upgrade", std::to_string(ledger_form)});
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("pipe", errno);
    UpgradeQuestion question;
    question.output_ = Descriptor{ends[0]};
    const Descriptor input{ends[1]};
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
    question.deadline_ = now + answer_limit;
    question.child_ = ::fork();
    if (question.child_ < 0) return system_error("fork", errno);
    if (question.child_ == 0) run(program, pointers.data(), ledger, input.descriptor(), signals);
    return question;
}

bool UpgradeQuestion::read() noexcept {
    std::array<char, said_max> part{};
    const ssize_t length = ::read(output_.descriptor(), part.data(), part.size());
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (length <= 0) {
        output_ = Descriptor{};
        return false;
    }
    said_.append(part.data(), static_cast<std::size_t>(length));
    if (said_.size() > said_max) said_.erase(0, said_.size() - said_max);
    return true;
}

void UpgradeQuestion::read_all() noexcept {
    for (std::size_t bytes = 0; bytes < pipe_bytes && read(); bytes += said_max) continue;
}

std::string UpgradeQuestion::objection(int status) const {
    std::string_view last = said_;
    while (last.ends_with('\n')) last.remove_suffix(1);
    if (const std::size_t end = last.rfind('\n'); end != std::string_view::npos)
        last.remove_prefix(end + 1);
    if (WIFSIGNALED(status))
        return "it was ended by signal " + std::to_string(WTERMSIG(status)) +
               (WTERMSIG(status) == SIGKILL ? ": no answer within 5 s" : "");
    if (status == 0) return last.starts_with(yes) ? "" : "it is no udpproxy";
    if (!last.empty()) return printable(last);
    return "its exit code is " + std::to_string(WEXITSTATUS(status));
}

}  // namespace udpproxy
