// What a keeper does, in one loop: it waits for a signal, for a word of its worker or for a time
// limit, and starts the next worker when one has ended. The worker is taken for hostile: it can
// replace or close any descriptor of the table. So the keeper learns of signals and deaths without
// descriptors, and what it reads from one is bounded and does not wait.
#include "udpproxy/keeper/keeper.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "keeper_state.hpp"
#include "store.hpp"
#include "udpproxy/base/environment.hpp"
#include "udpproxy/base/file.hpp"
#include "udpproxy/base/printable.hpp"
#include "worker.hpp"

namespace udpproxy {

namespace {

constexpr int exit_code_of_failure = 1;
constexpr int exit_code_of_signals = 128;  // + the signal, as a shell tells it
constexpr Duration deaths_within = std::chrono::seconds{10};
constexpr Duration short_life = std::chrono::seconds{1};
constexpr unsigned short_lives_max = 3;
constexpr Duration start_again_after = std::chrono::seconds{1};  // where no process can be made
constexpr Duration hand_over_limit = std::chrono::seconds{5};
constexpr Duration come_up_limit = std::chrono::seconds{5};  // of a new program
constexpr Duration retry_every = std::chrono::milliseconds{100};
constexpr Duration hang_limit_min = std::chrono::seconds{1};  // less may be a busy machine
constexpr Duration oversleep_min = std::chrono::seconds{1};
constexpr int messages_per_turn_max = 64;
constexpr int children_per_turn_max = 64;

/// Bit n: signal n has come. The handler runs only while the keeper waits.
volatile std::sig_atomic_t signals_noted = 0;
constexpr int bit_of(int signal) { return 1 << signal; }

void note_signal(int signal) { signals_noted = signals_noted | bit_of(signal); }

/// The limit on the descriptors of the table holds for each process that takes one from it.
void raise_descriptor_limit() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// An empty file in memory; it is not executable where the kernel knows that (Linux 6.3).
Descriptor open_empty_ledger() noexcept {
    constexpr unsigned noexec_seal = 8;  // MFD_NOEXEC_SEAL
    constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    Descriptor file{::memfd_create("udpproxy-ledger", flags | noexec_seal)};
    if (!file) file = Descriptor{::memfd_create("udpproxy-ledger", flags)};
    return file;
}

std::optional<ManagerSocket> open_manager(const std::string& name) {
    if (name.empty()) return std::nullopt;
    Result<ManagerSocket> opened = ManagerSocket::open(name);
    return opened ? std::optional{std::move(*opened)} : std::nullopt;
}

/// As waitpid(2) tells it.
int status_of(const siginfo_t& end) {
    return end.si_code == CLD_EXITED ? W_EXITCODE(end.si_status, 0) : end.si_status;
}

}  // namespace

Keeper::Keeper(const KeeperOptions& options, const Work& work)
    : options_(options), work_(work), path_(own_program_path()) {
    start_.is_kept = true;
    start_.process = ::getpid();
    const auto inheritance = read_inheritance(take_variable(inheritance_variable));
    // Before anything is opened at its number.
    if (!inheritance) ledger_ = take_stored(start_.process);
    const ManagerRequest manager = read_manager_request(start_.process);
    relay_ = Relay{open_manager(manager.socket)};
    if (relay_.descriptor() >= 0 && manager.watchdog > Duration::zero())
        hang_limit_ = std::max(manager.watchdog / 2, hang_limit_min);
    raise_descriptor_limit();
    sigset_t taken;
    sigemptyset(&taken);
    for (const int signal : keeper_signals) sigaddset(&taken, signal);
    ::sigprocmask(SIG_BLOCK, &taken, &at_start_);
    in_waiting_ = at_start_;
    for (const int signal : keeper_signals) {
        sigdelset(&in_waiting_, signal);
        ::signal(signal, note_signal);
    }
    ::signal(SIGPIPE, SIG_IGN);  // of standard error
    start_.has_store = relay_.manager() != nullptr && manager.has_store;
    if (inheritance) {
        inherit(*inheritance);
    } else if (ledger_) {
        was_stored_ = true;
        start_.reason = StartReason::restart;
        start_.ended_at = monotonic_now();
    }
}

int Keeper::run() {
    start(start_.reason, monotonic_now());
    if (worker_ == 0 && !has_been_ready_) {
        print_error("udpproxy: the worker " + worker_end() + '\n');
        return exit_code_of_failure;
    }
    for (;;) {
        wait(monotonic_now());
        const Instant now = monotonic_now();
        take_signals();
        listen(now);
        if (const std::optional<int> code = reap(now)) return *code;
        if (const std::optional<int> code = look(now)) return *code;
    }
}

/// Without a worker afterwards, if there are no descriptors or no process for one.
void Keeper::start(StartReason reason, Instant now) {
    is_ready_ = false;
    has_hung_ = false;
    // The last worker may not have heard of it; it is never taken back.
    untold_signals_ = drain_asked_ ? bit_of(SIGQUIT) : 0;
    started_at_ = now;
    start_.reason = reason;
    start_.without_sessions = short_lives_ >= short_lives_max;
    ++start_.starts[static_cast<std::size_t>(reason)];
    worker_ = renew_descriptors() ? start_worker(start_, work_, at_start_) : -1;
    start_error_ = worker_ < 0 ? errno : 0;
    worker_ = std::max(worker_, 0);
}

/// A channel for the next worker, and what the last one may have closed. Errors: in errno.
bool Keeper::renew_descriptors() {
    (void)open_standard_streams();
    if (::fcntl(ledger_.descriptor(), F_GETFD) < 0) {
        (void)ledger_.release();
        ledger_ = open_empty_ledger();
    }
    // Closed before others are opened: the table may be full.
    own_end_ = Descriptor{};
    workers_end_ = Descriptor{};
    std::array<int, 2> ends{-1, -1};
    if (!ledger_ || ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
        return false;
    own_end_ = Descriptor{ends[0]};
    workers_end_ = Descriptor{ends[1]};
    channel_ = Channel{own_end_.descriptor()};
    start_.ledger = ledger_.descriptor();
    start_.channel = workers_end_.descriptor();
    start_.keepers = {ledger_.descriptor(), own_end_.descriptor()};
    for (const int descriptor : {relay_.descriptor(), question_ ? question_->descriptor() : -1,
                                 next_program_ ? next_program_->descriptor() : -1,
                                 old_program_ ? old_program_->descriptor() : -1})
        if (descriptor >= 0) start_.keepers.push_back(descriptor);
    return true;
}

/// For a signal, a message of the worker, or the earliest time limit.
void Keeper::wait(Instant now) const {
    std::optional<Instant> until;
    const auto earlier = [&](Instant limit) { until = std::min(until.value_or(limit), limit); };
    if (untold_signals_ != 0 || relay_.has_untold()) earlier(now + retry_every);
    if (worker_ == 0) earlier(started_at_ + start_again_after);
    if (question_) earlier(question_->deadline());
    if (const std::optional<Instant> patience = patience_ends()) earlier(*patience);
    timespec limit{};
    if (until) {
        const Duration left = std::max(*until - now, Duration::zero());
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        limit = {seconds.count(), (left - seconds).count()};
    }
    std::array<pollfd, 2> waited{{{channel_.descriptor(), POLLIN, 0},
                                  {question_ ? question_->descriptor() : -1, POLLIN, 0}}};
    ::ppoll(waited.data(), waited.size(), until ? &limit : nullptr, &in_waiting_);
}

void Keeper::take_signals() {
    const int noted = signals_noted;
    signals_noted = 0;
    for (const int signal : keeper_signals) {
        if ((noted & bit_of(signal)) == 0 || signal == SIGCHLD) continue;
        if (signal == SIGUSR2) {
            upgrade_wanted_ = true;
            continue;
        }
        stop_asked_ = stop_asked_ || signal == SIGTERM || signal == SIGINT;
        drain_asked_ = drain_asked_ || signal == SIGQUIT;
        pass_on(signal);
    }
}

/// As a message, not as a signal: a signal of somebody else that waits in the worker (a terminal's
/// Ctrl-C and a unit's stop reach both processes) would swallow the keeper's own.
void Keeper::pass_on(int signal) {
    if (!channel_.send({MessageKind::signal, static_cast<std::uint8_t>(signal), {}}))
        untold_signals_ |= bit_of(signal);
    // Until the worker has blocked them, these two end it; then nothing reads them.
    if (worker_ > 0 && (signal == SIGTERM || signal == SIGINT)) ::kill(worker_, signal);
}

void Keeper::listen(Instant now) {
    for (int i = 0; i < messages_per_turn_max; ++i) {
        const std::optional<Message> message = channel_.receive();
        if (!message) break;
        if (message->kind == MessageKind::ready) {
            is_ready_ = true;
            has_been_ready_ = true;
            well_at_ = now;
            old_program_.reset();  // no way back is needed any more
            if (std::exchange(was_stored_, false)) relay_.forget_stored();
        } else if (message->kind == MessageKind::upgrade_wanted) {
            upgrade_wanted_ = true;
        } else if (message->kind == MessageKind::manager) {
            const Relay::Outcome outcome = relay_.pass_on(message->text);
            if (outcome.is_well) well_at_ = now;
            if (outcome.error != 0)
                (void)channel_.send(
                    {MessageKind::manager_failed, static_cast<std::uint8_t>(outcome.error), {}});
        }
    }
    if (!channel_.is_broken()) return;
    channel_ = Channel{-1};
    if (worker_ > 0) ::kill(worker_, SIGKILL);  // it is out of its mind
}

/// A dead worker is waited for once the next one is ready. Then the kernel takes down what anybody
/// has looked at of it in /proc (proc_flush_pid of fs/proc/base.c): where a program lists the
/// descriptors of all processes, as agents of monitoring do, that is 20 ms for 15 000 sockets, and
/// the clients would wait as long. As process 1 of a container the keeper has the children of dead
/// workers as well.
std::optional<int> Keeper::reap(Instant now) {
    siginfo_t end{};
    if (worker_ > 0 &&
        ::waitid(P_PID, static_cast<id_t>(worker_), &end, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        end.si_pid == worker_) {
        if (const std::optional<int> code = worker_ended(status_of(end), now)) return code;
    }
    if (worker_ > 0 && !is_ready_) return std::nullopt;
    int status = 0;
    for (int i = 0; i < children_per_turn_max; ++i) {
        const pid_t child = ::waitpid(-1, &status, WNOHANG);
        if (child <= 0) break;
        if (child == worker_) return worker_ended(status, now);
        if (question_ && child == question_->child()) program_answered(status, now);
    }
    return std::nullopt;
}

std::optional<int> Keeper::worker_ended(int status, Instant now) {
    worker_ = 0;
    listen(now);  // it may have been ready just before
    start_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    start_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    // Until one serves, the sessions are an earlier program's, and clients wait since its end.
    if (is_ready_) {
        start_.from_version = UDPPROXY_VERSION;
        start_.ended_at = hand_over_asked_.value_or(now);
    }
    const bool is_in_order = start_.signal == 0 && start_.exit_code == 0;
    if (stop_asked_) {
        leave_sessions();
        return end_as_worker();
    }
    if (old_program_) return go_back(now);
    // What was stored may be what ends workers: one starts without sessions, too.
    const bool may_go_on =
        has_been_ready_ || (was_stored_ && start_.signal != 0 && !start_.without_sessions);
    if (!may_go_on || (is_in_order && !hand_over_asked_)) return end_as_worker();
    if (!is_in_order) return worker_died(has_hung_ ? StartReason::hang : StartReason::crash, now);
    hand_over(now);
    return std::nullopt;
}

std::optional<int> Keeper::worker_died(StartReason reason, Instant now) {
    deaths_[deaths_count_++ % deaths_max] = now;
    const Instant oldest = deaths_[deaths_count_ % deaths_max];
    if (deaths_count_ >= deaths_max && now - oldest < deaths_within) {
        print_error("udpproxy: " + std::to_string(deaths_max) + " workers have ended within " +
                    std::to_string(deaths_within / std::chrono::seconds{1}) + " s, the last one " +
                    worker_end() + "; the program ends\n");
        return exit_code_of_failure;
    }
    short_lives_ = now - started_at_ < short_life ? short_lives_ + 1 : 0;
    if (short_lives_ == short_lives_max)
        print_error("udpproxy: " + std::to_string(short_lives_max) +
                    " workers have ended within a second of their start, the last one " +
                    worker_end() + "; the next one starts without sessions\n");
    start(reason, now);
    if (std::exchange(hand_over_asked_, std::nullopt))
        refuse_upgrade("the worker that was asked to hand over " + worker_end());
    return std::nullopt;
}

/// What no signal announces.
std::optional<int> Keeper::look(Instant now) {
    if (worker_ == 0) {
        if (stop_asked_) return exit_code_of_failure;
        if (now - started_at_ >= start_again_after) return worker_died(start_.reason, now);
        return std::nullopt;
    }
    for (const int signal : keeper_signals) {
        if ((std::exchange(untold_signals_, untold_signals_ & ~bit_of(signal)) & bit_of(signal)) !=
            0)
            pass_on(signal);
    }
    if (relay_.has_untold()) relay_.retry();
    if (question_) question_->read();
    if (question_ && now >= question_->deadline()) ::kill(question_->child(), SIGKILL);
    if (upgrade_wanted_ && is_ready_ && !stop_asked_) ask_program(now);
    const std::optional<Instant> patience = patience_ends();
    if (patience && now >= *patience + oversleep_min) {
        // What has held up the keeper (a paused container, a debugger) has held up the worker, too.
        well_at_ = now;
        started_at_ = now;
        if (hand_over_asked_) hand_over_asked_ = now;
    } else if (patience && now >= *patience) {
        has_hung_ = true;
        ::kill(worker_, SIGKILL);
    }
    return std::nullopt;
}

/// When the worker is ended because nothing is heard of it. A stop that was asked for has limits of
/// its own.
std::optional<Instant> Keeper::patience_ends() const {
    if (worker_ == 0 || has_hung_ || stop_asked_) return std::nullopt;
    if (hand_over_asked_) return *hand_over_asked_ + hand_over_limit;
    if (old_program_) return started_at_ + come_up_limit;
    if (is_ready_ && hang_limit_ > Duration::zero()) return well_at_ + hang_limit_;
    return std::nullopt;
}

/// With the service manager, if it has a store: what the worker has put in the ledger's place.
void Keeper::leave_sessions() const {
    if (!start_.has_store) return;
    struct stat file {};
    if (::fstat(ledger_.descriptor(), &file) == 0 && S_ISSOCK(file.st_mode)) {
        const std::string reason = store(*relay_.manager(), ledger_.descriptor());
        if (!reason.empty())
            print_error("udpproxy: the sessions may end with this process: " + reason + '\n');
    } else if (has_been_ready_ &&
               (start_.signal != 0 || start_.exit_code != 0 || hand_over_asked_)) {
        print_error("udpproxy: the sessions end with their worker\n");
    }
}

/// Returns the exit code, if the process does not end by the signal that the worker died of.
int Keeper::end_as_worker() const {
    if (start_.signal == 0) return start_.exit_code;
    if (start_.signal != SIGTERM && start_.signal != SIGINT) {
        print_error("udpproxy: the worker " + worker_end() + '\n');
        return exit_code_of_signals + start_.signal;
    }
    ::signal(start_.signal, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &in_waiting_, nullptr);
    ::raise(start_.signal);
    return exit_code_of_signals + start_.signal;  // process 1 does not end by it
}

std::string Keeper::worker_end() const {
    if (start_error_ != 0) return "could not be started: " + error_text(start_error_);
    if (start_.signal != 0)
        return "died of signal " + std::to_string(start_.signal) + " (" +
               ::strsignal(start_.signal) + ')';
    return "ended with exit code " + std::to_string(start_.exit_code);
}

int keep(const KeeperOptions& options, const std::function<int(const WorkerStart&)>& work) {
    return Keeper(options, work).run();
}

}  // namespace udpproxy
