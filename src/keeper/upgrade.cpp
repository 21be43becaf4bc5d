// How another program takes this one's place, in the same process: it is asked, the worker hands
// over, and once it has ended the keeper becomes the new program (execve(2)), which goes on with
// the table of descriptors. A worker can put another file in the place of any descriptor. So
// nothing is executed while one lives, and nothing whose identity has changed.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "keeper_state.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/base/process_names.hpp"

namespace udpproxy {

/// Of the program before, which was this same process.
void Keeper::inherit(const Inheritance& inheritance) {
    // A descriptor's name in /dev/fd has become that of the process.
    ::prctl(PR_SET_NAME, keeper_name);
    // They came blocked, so that none was lost meanwhile.
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) sigdelset(&at_start_, signal);
    has_been_ready_ = true;
    path_ = inheritance.path;
    ledger_ = Descriptor{inheritance.ledger};
    ::fcntl(inheritance.ledger, F_SETFD, FD_CLOEXEC);
    if (inheritance.old_program >= 0) {
        ::fcntl(inheritance.old_program, F_SETFD, FD_CLOEXEC);
        if (Result<ProgramFile> old = ProgramFile::take(inheritance.old_program))
            old_program_ = std::move(*old);
    }
    start_.reason = inheritance.reason;
    start_.ended_at = inheritance.ended_at;
    start_.signal = inheritance.signal;
    start_.exit_code = inheritance.exit_code;
    start_.starts = inheritance.starts;
    start_.from_version = inheritance.version;
}

void Keeper::ask_program(Instant now) {
    upgrade_wanted_ = false;
    if (question_ || hand_over_asked_) return;  // it is under way
    Result<ProgramFile> program = ProgramFile::open(path_);
    if (!program) return refuse_upgrade(program.error().message);
    Result<UpgradeQuestion> question = UpgradeQuestion::ask(
        *program, options_.arguments, options_.ledger_form, ledger_.descriptor(), in_waiting_, now);
    if (!question) return refuse_upgrade(question.error().message);
    next_program_ = std::move(*program);
    question_ = std::move(*question);
}

void Keeper::program_answered(int status, Instant now) {
    question_->read_all();  // the answer is the last line
    const std::string objection = question_->objection(status);
    question_.reset();
    if (!objection.empty()) return refuse_upgrade(path_ + ": " + objection);
    if (stop_asked_) return;
    // A worker that has died meanwhile is followed by another one, which is asked again.
    upgrade_wanted_ = !is_ready_;
    if (!is_ready_) return;
    hand_over_asked_ = now;
    pass_on(SIGUSR2);
}

void Keeper::refuse_upgrade(const std::string& reason) {
    next_program_.reset();
    (void)channel_.send({MessageKind::upgrade_refused, 0,
                         std::string_view{reason}.substr(0, Channel::text_bytes_max)});
}

/// The worker has ended in order.
void Keeper::hand_over(Instant now) {
    hand_over_asked_.reset();
    const std::string reason = become(*next_program_, StartReason::upgrade);
    short_lives_ = 0;
    start(StartReason::undone, now);
    refuse_upgrade(reason);
}

/// No worker of this program was ready in time.
std::optional<int> Keeper::go_back(Instant now) {
    print_error("udpproxy: the worker of the new program " + worker_end() +
                "; back to the old one\n");
    const std::string reason = become(*old_program_, StartReason::undone);
    print_error("udpproxy: there is no way back: " + reason + '\n');
    old_program_.reset();
    return worker_died(StartReason::crash, now);
}

/// Returns why it did not.
// Requires: every worker has ended.
std::string Keeper::become(const ProgramFile& program, StartReason reason) {
    if (!program.is_same()) return "the descriptor of the program was tampered with";
    // The magic link leads to what is executed, whatever has become of its name.
    Result<ProgramFile> own = ProgramFile::open_own();
    Inheritance inheritance{reason,
                            ledger_.descriptor(),
                            reason == StartReason::upgrade && own ? own->descriptor() : -1,
                            start_.ended_at,
                            start_.signal,
                            start_.exit_code,
                            start_.starts,
                            UDPPROXY_VERSION,
                            path_};
    std::vector<std::string> words = options_.arguments;
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    for (const int kept : {inheritance.ledger, inheritance.old_program})
        if (kept >= 0) ::fcntl(kept, F_SETFD, 0);
    ::setenv(inheritance_variable, text_of(inheritance).c_str(), 1);
    ::fexecve(program.descriptor(), arguments.data(), environ);
    const int error = errno;
    ::unsetenv(inheritance_variable);
    ::fcntl(ledger_.descriptor(), F_SETFD, FD_CLOEXEC);
    return "exec: " + error_text(error);
}

}  // namespace udpproxy
