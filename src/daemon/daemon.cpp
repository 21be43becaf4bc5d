// Runs the program from configuration to exit code, in the order of events.
#include "udpproxy/daemon/daemon.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <set>
#include <utility>

#include "sd_notify.hpp"
#include "signals.hpp"
#include "steps.hpp"
#include "succession.hpp"
#include "udpproxy/admin/server.hpp"
#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/config/capacity.hpp"
#include "udpproxy/config/one_proxy.hpp"
#include "udpproxy/config/values.hpp"
#include "udpproxy/doctor/doctor.hpp"
#include "udpproxy/host/cpu_quota.hpp"
#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/log/log.hpp"
#include "udpproxy/runtime/bootstrap.hpp"
#include "udpproxy/runtime/control_query.hpp"
#include "udpproxy/runtime/event_log.hpp"
#include "udpproxy/runtime/plan.hpp"
#include "udpproxy/runtime/predecessor.hpp"
#include "udpproxy/runtime/problems.hpp"
#include "udpproxy/runtime/reconfigurer.hpp"
#include "udpproxy/runtime/resolver.hpp"

namespace udpproxy {

namespace {

constexpr int look_every_ms = 100;
constexpr int reload_look_ms = 10;
constexpr Duration reload_pause = std::chrono::milliseconds{50};
constexpr Duration admin_stop_limit = std::chrono::seconds{1};
// Each shard forwards queued datagrams for a second and closes its sockets within another.
constexpr Duration shards_stop_limit = std::chrono::seconds{5};

/// Asks every shard to stop, and waits for at most `shards_stop_limit`; `meanwhile()` is called
/// again and again. A second signal ends the program at once. False: a shard has not ended.
template <class Meanwhile>
bool stop_shards(const ShardThreads& shards, const Signals& signals, Log& log,
                 Meanwhile&& meanwhile) {
    for (const auto& shard : shards) shard->stop();
    const auto has_ended = [](const auto& shard) { return shard->has_ended(); };
    const Instant deadline = monotonic_now() + shards_stop_limit;
    while (!std::all_of(shards.begin(), shards.end(), has_ended)) {
        if (const int signal = signals.next(1); is_stop(signal)) {
            log.warn("stopped", {{"reason", "second signal"}});
            log.flush(log_flush_limit);
            ::_exit(exit_failure);
        }
        for (const auto& shard : shards) shard->post_waiting();
        meanwhile();
        if (monotonic_now() >= deadline) return false;
    }
    for (const auto& shard : shards) shard->join();
    meanwhile();
    return true;
}

/// Ends the shards within their limit, or the process, however serve() is left: by a start that
/// failed half way, or by an exception. After a usual stop there is nothing left to do.
class ShardsEnd {
public:
    ShardsEnd(const ShardThreads& shards, const Signals& signals, Log& log)
        : shards_(shards), signals_(signals), log_(log) {}
    ShardsEnd(const ShardsEnd&) = delete;
    ShardsEnd& operator=(const ShardsEnd&) = delete;
    ~ShardsEnd() {
        if (!stop_shards(shards_, signals_, log_, [] {})) ::_exit(exit_failure);
    }

private:
    const ShardThreads& shards_;
    const Signals& signals_;
    Log& log_;
};

/// A line for each setting of this machine that is bad for this job, when it is first seen:
/// at the start, and after a reload that asks for more.
class Advice {
public:
    explicit Advice(Log& log) : log_(log) {}

    void tell(const Config& config, std::uint64_t descriptors) {
        std::set<std::string> found;
        for (const Finding& finding : examine_machine(config, descriptors)) {
            const auto [text, is_new] = found.insert(text_of(finding));
            if (!is_new || told_.contains(*text)) continue;
            const std::vector<LogField> fields{{"subject", name_of(finding.kind)},
                                               {"where", finding.where},
                                               {"found", finding.looked_at},
                                               {"effect", finding.meaning},
                                               {"fix", finding.fix}};
            if (finding.severity == Severity::problem)
                log_.warn("advice", fields);
            else
                log_.info("advice", fields);
        }
        told_ = std::move(found);
    }

private:
    Log& log_;
    std::set<std::string> told_;
};

void reopen_log(Log& log) {
    if (Result<void> reopened = log.reopen(); !reopened)
        log.error("log_kept", {{"reason", reopened.error().message}});
    else
        log.info("log_reopened");
}

/// Runs until a signal to stop or to hand over, or until the end of the drain that SIGQUIT began;
/// returns the signal. `look` is called between signals, a few times a second.
int run(Reconfigurer& reconfigurer, ControlSlot& control, const std::function<void(Instant)>& look,
        const Signals& signals, Steps& steps, Log& log) {
    bool reload_wanted = false;
    Instant reloaded_at{};
    while (true) {
        const Names& names = reconfigurer.names();
        const int limit_ms = names.has_more() ? 0 : reload_wanted ? reload_look_ms : look_every_ms;
        const int signal = signals.next(limit_ms, names.descriptor());
        const Instant now = monotonic_now();
        if (is_stop(signal) || (signal == SIGUSR2 && signals.are_a_keepers())) return signal;
        if (signal == SIGUSR2) log.warn("not_upgraded", {{"reason", "there is no keeper"}});
        if (signal == SIGQUIT) steps.run("drain", [&] { reconfigurer.drain(std::nullopt, now); });
        if (signal == SIGUSR1) steps.run("log", [&] { reopen_log(log); });
        // Coalesces SIGHUPs: at most one reload per reload_pause, and one after the last signal.
        reload_wanted = reload_wanted || signal == SIGHUP;
        if (reload_wanted && now - reloaded_at >= reload_pause) {
            reload_wanted = false;
            steps.run("reload", [&] { reconfigurer.reload(now); });
            reloaded_at = monotonic_now();
        }
        answer_control_query(control, reconfigurer);
        steps.run("look", [&] { reconfigurer.look(now); });
        look(now);
        if (reconfigurer.has_drained(now)) return SIGQUIT;
    }
}

int fail(Log& log, const std::string& reason) {
    log.error("failed", {{"reason", reason}});
    return exit_failure;
}

int fail_for(Log& log, const std::vector<std::string>& complaints) {
    for (const std::string& complaint : complaints) log.error("failed", {{"reason", complaint}});
    return exit_config;
}

}  // namespace

int serve(const std::variant<Config, ConfigComplaints>& read, const std::string& config_file,
          const ServeOptions& options) {
    const WorkerStart& start = options.start;
    HandedSockets handed;
    std::string why_not;
    // First of all: numbers of descriptors are believed before any is taken.
    const auto* const complaints = std::get_if<ConfigComplaints>(&read);
    std::optional<Predecessor> predecessor = find_predecessor(
        start, complaints == nullptr ? std::get<Config>(read).shards : std::nullopt, handed,
        why_not);
    if (complaints != nullptr && !predecessor) {
        for (const std::string& line : complaints->lines) print_error(line + '\n');
        return exit_config;
    }
    Config config = predecessor ? predecessor->config() : std::get<Config>(read);
    if (predecessor && complaints == nullptr)
        take_what_needs_a_restart(config, std::get<Config>(read));
    Channel keeper{start.channel};
    // First: a thread that has them unblocked would get them instead.
    Signals signals{start.is_kept ? &keeper : nullptr};
    const ManagerRequest manager_request = take_manager_request(start.process);  // before threads
    Result<Log> opened = Log::open({config.log_level, config.log_format, config.log_file});
    if (!opened) {
        print_error("udpproxy: " + opened.error().message + '\n');
        // The sockets stay open: the next worker may have more luck.
        if (predecessor) ::_exit(exit_failure);
        return exit_failure;
    }
    Log& log = *opened;
    if (!signals.open()) return fail(log, "signalfd: " + error_text(errno));
    log.info("starting", {{"version", UDPPROXY_VERSION},
                          {"config", shown_config(config_file)},
                          {"pid", start.process}});
    log_start(log, start, why_not, predecessor ? predecessor->missing() : 0);
    const auto give_up = [&log, goes_on = predecessor.has_value()](const std::string& reason) {
        const int code = fail(log, reason);
        if (!goes_on) return code;
        log.flush(log_flush_limit);
        ::_exit(code);  // without a destructor: the sockets stay open for the next worker
    };

    ServiceManager manager(manager_request, log, start.is_kept ? &keeper : nullptr);
    Steps steps(log);
    std::vector<std::string> refusals;  // of upgrades, not told yet
    signals.keeper_says = [&](const Message& message) {
        if (message.kind == MessageKind::manager_failed) manager.failed(message.number);
        if (message.kind == MessageKind::upgrade_refused)
            steps.run("keeper", [&] { refusals.emplace_back(message.text); });
    };
    Names names(log);
    Bootstrap bootstrap(config, log);
    const ShardsEnd shards_end(bootstrap.shards(), signals, log);
    int stop_signal = 0;
    const auto stops = [&](Duration pause) {
        const auto pause_ms = std::chrono::duration_cast<std::chrono::milliseconds>(pause).count();
        stop_signal = signals.next_stop(static_cast<int>(pause_ms), names.descriptor());
        return stop_signal != 0;
    };
    if (!predecessor && !bootstrap.prepare_proxies(names, stops)) {
        manager.stopping();
        log.info("stopped", {{"signal", name_of_signal(stop_signal)}});
        return exit_ok;
    }
    Predecessor* const left = predecessor ? &*predecessor : nullptr;
    if (const auto lacks = bootstrap.compute_capacity(left); !lacks.empty())
        return left != nullptr ? give_up(lacks.front()) : fail_for(log, lacks);
    if (const auto mismatches = bootstrap.take_handed(std::move(handed)); !mismatches.empty())
        return fail_for(log, mismatches);
    if (auto done = bootstrap.choose_engine(left); !done) return give_up(done.error().message);
    if (left == nullptr) bootstrap.log_capacity();
    StatusBoard board;
    Published<Problems> problems;
    ControlSlot control;
    Result<std::unique_ptr<AdminServer>> admin = AdminServer::open(config.admin, log);
    if (!admin) return give_up(admin.error().message);
    if (start.is_kept) bootstrap.make_ledger();
    std::optional<Reconfigurer> running;
    try {
        if (auto done = bootstrap.begin(left); !done) return give_up(done.error().message);
        running.emplace(config, config_file, options.drain_timeout, bootstrap, names, board, log,
                        left);
        if (auto done = running->adopt(left); !done) return give_up(done.error().message);
        running->record();
    } catch (const std::bad_alloc&) {
        return give_up("tables of sessions, groups and ports: " + error_text(ENOMEM));
    }
    Reconfigurer& reconfigurer = *running;
    if (auto done = (*admin)->start({board, problems, log, control, start.process}); !done)
        return give_up(done.error().message);
    // As late as can be: a program that does not come up leaves the ledger as it was to the program
    // that the keeper goes back to, which may read no other form.
    if (bootstrap.ledger() && !commit(*bootstrap.ledger(), start))
        return give_up("dup3 of the ledger: " + error_text(errno));
    bootstrap.begin_shards();
    reconfigurer.note_start(start, left);
    if (start.is_kept) (void)keeper.send({MessageKind::ready, 0, {}});
    if (predecessor) predecessor->close_engines();
    predecessor.reset();
    log.info("ready", {{"shards", bootstrap.shards().size()},
                       {"sessions", bootstrap.capacity().sessions_max}});
    manager.ready();

    EventLog event_log(reconfigurer, log);
    ProblemWatch problem_watch(board, problems, log);
    Advice advice(log);
    const auto advise = [&] {
        steps.run("advice",
                  [&] { advice.tell(*board.get()->config, bootstrap.machine().descriptors); });
    };
    advise();
    reconfigurer.reload_begins = [&] {
        steps.run("manager", [&] { manager.reloading(monotonic_now()); });
    };
    reconfigurer.reload_ends = [&](const Reconfigurer::Reload& reload) {
        steps.run("manager",
                  [&] { manager.reloaded(reload.done ? std::string{} : reload.lines.front()); });
        if (reload.done) advise();
    };
    if (start.is_kept)
        reconfigurer.ask_for_upgrade = [&] {
            return keeper.send({MessageKind::upgrade_wanted, 0, {}});
        };
    const auto look = [&](Instant now) {
        steps.run("keeper", [&] {
            for (const std::string& reason : std::exchange(refusals, {}))
                reconfigurer.note_refused_upgrade(reason);
        });
        steps.run("events", [&] { event_log.look(now); });
        steps.run("problems", [&] { problem_watch.look(now); });
        steps.run("manager", [&] {
            const std::shared_ptr<const Problems> found = problems.get();
            manager.look(*board.get(), found ? *found : Problems{}, now);
        });
    };
    // What the file says by now is a reload.
    if (start.reason != StartReason::first && !config_file.empty() &&
        (complaints != nullptr ||
         toml_of(std::get<Config>(read)) != toml_of(reconfigurer.config())))
        steps.run("reload", [&] { reconfigurer.reload(monotonic_now()); });
    const int signal = run(reconfigurer, control, look, signals, steps, log);
    const bool parks = signal == SIGTERM && start.has_store && bootstrap.ledger();
    const bool hands_over = signal == SIGUSR2 || parks;
    log.info(hands_over && !parks ? "handing_over" : "stopping",
             {{"signal", name_of_signal(signal)}});
    if (!hands_over || parks) steps.run("manager", [&] { manager.stopping(); });
    const bool admin_ended = (*admin)->stop(admin_stop_limit);
    reconfigurer.withdraw_queues();
    if (hands_over) {
        for (const auto& shard : bootstrap.shards()) shard->hand_over();
    }
    const bool shards_ended = stop_shards(bootstrap.shards(), signals, log, [&] {
        steps.run("events", [&] { event_log.look(monotonic_now()); });
    });
    steps.run("counters", [&] { event_log.write_counters(); });
    // Whatever has become of the admin's thread: the shards have handed over.
    if (hands_over && shards_ended) {
        if (bootstrap.ledger()) bootstrap.ledger()->close_in_order(monotonic_now());
        if (parks) park(start, log);
    }
    if (!admin_ended || !shards_ended) {
        log.error("not_ended", {{"thread", shards_ended ? "admin" : "shard"},
                                {"effect", "the program ends all the same"}});
        log.flush(log_flush_limit);
        ::_exit(exit_failure);  // the thread may still use objects that a return would destroy
    }
    if (hands_over) {
        log.info(parks ? "stopped" : "handed_over");
        log.flush(log_flush_limit);
        ::_exit(exit_ok);  // without a destructor: the sockets stay open for the next worker
    }
    log.info("stopped");
    return exit_ok;
}

MachineReport check_machine(const Config& config) {
    MachineReport report;
    const AutomaticShards automatic = automatic_shards();
    if (!config.shards)
        report.automatic_shards = fmt::format("{}: {}", automatic.shards, automatic.reason);
    const MachineLimits limits{descriptor_limit(), config.shards.value_or(automatic.shards),
                               ephemeral_ports(), reserved_ports()};
    const MachineLimits machine = fit_address_space(limits);
    const Capacity capacity = compute_capacity(config, machine);
    report.complaints = capacity.complaints;
    for (std::size_t i = 0; i < config.proxies.size(); ++i)
        report.capacity.push_back(fmt::format("capacity of proxy \"{}\": {}",
                                              config.proxies[i].name,
                                              capacity.proxies[i].arithmetic));
    const TableSizes sizes = table_sizes(machine);
    if (!can_reserve(sizes.bytes))
        report.complaints.push_back(
            fmt::format("{}; not even the smallest tables fit", address_space_short));
    else if (machine.descriptors < limits.descriptors)
        report.warnings.push_back(fmt::format("{} descriptors of {} would be used: {}",
                                              machine.descriptors, limits.descriptors,
                                              address_space_short));
    else if (!capacity.want_of_descriptors.empty())
        report.warnings.push_back(
            fmt::format("{}; fix: {}", capacity.want_of_descriptors, more_descriptors));
    if (const std::string want = want_of_ledger(sizes); !want.empty())
        report.warnings.push_back("sessions would end with the process: " + want);
    return report;
}

Result<Duration> parse_drain_timeout(const std::string& text) {
    Result<Duration> duration = parse_duration(text);
    if (duration && *duration > std::chrono::days{7}) return Error{"at most 7d"};
    return duration;
}

std::string version_text() {
    const UringProbe probe = probe_io_uring();
    return fmt::format("udpproxy {}\nio_uring: {}\nepoll: yes\n", UDPPROXY_VERSION,
                       probe.usable ? "yes (" + probe.reason + ")" : "no (" + probe.reason + ")");
}

}  // namespace udpproxy
