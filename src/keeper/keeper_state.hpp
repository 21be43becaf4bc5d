// Keeper: the state of the loop. keeper.cpp has the loop and the workers' lives, upgrade.cpp how
// one program takes the place of another.
#pragma once

#include <csignal>
#include <functional>
#include <optional>
#include <string>

#include "inheritance.hpp"
#include "program.hpp"
#include "relay.hpp"
#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/keeper/keeper.hpp"

namespace udpproxy {

class Keeper {
public:
    using Work = std::function<int(const WorkerStart&)>;
    Keeper(const KeeperOptions& options, const Work& work);

    /// Returns the program's exit code.
    int run();

private:
    static constexpr std::size_t deaths_max = 5;

    // keeper.cpp
    void start(StartReason reason, Instant now);
    [[nodiscard]] bool renew_descriptors();
    void wait(Instant now) const;
    void take_signals();
    void pass_on(int signal);
    void listen(Instant now);
    [[nodiscard]] std::optional<int> reap(Instant now);
    [[nodiscard]] std::optional<int> worker_ended(int status, Instant now);
    [[nodiscard]] std::optional<int> worker_died(StartReason reason, Instant now);
    [[nodiscard]] std::optional<int> look(Instant now);
    [[nodiscard]] std::optional<Instant> patience_ends() const;
    void leave_sessions() const;
    [[nodiscard]] int end_as_worker() const;
    [[nodiscard]] std::string worker_end() const;

    // upgrade.cpp
    void inherit(const Inheritance& inheritance);
    void ask_program(Instant now);
    void program_answered(int status, Instant now);
    void refuse_upgrade(const std::string& reason);
    [[nodiscard]] std::string become(const ProgramFile& program, StartReason reason);
    void hand_over(Instant now);
    [[nodiscard]] std::optional<int> go_back(Instant now);

    const KeeperOptions& options_;
    const Work& work_;
    std::string path_;       // of the program, for upgrades
    sigset_t at_start_{};    // the mask of this process before keeper_signals were blocked
    sigset_t in_waiting_{};  // the same without them
    Relay relay_{std::nullopt};
    Duration hang_limit_{};  // 0: none
    Descriptor ledger_;
    Descriptor own_end_;  // of the channel
    Descriptor workers_end_;
    Channel channel_{-1};

    WorkerStart start_;  // what the next worker is told, the end of the last one included
    pid_t worker_ = 0;   // 0: none
    int start_error_ = 0;
    Instant started_at_{};
    Instant well_at_{};  // when the worker said it last
    bool is_ready_ = false;
    bool has_been_ready_ = false;  // any worker, at any time
    bool has_hung_ = false;
    bool was_stored_ = false;  // a service manager has kept what no worker has taken over yet
    bool stop_asked_ = false;
    bool drain_asked_ = false;
    int untold_signals_ = 0;    // for which the channel had no room; bit n: signal n
    unsigned short_lives_ = 0;  // in a row
    std::array<Instant, deaths_max> deaths_{};  // a ring
    std::size_t deaths_count_ = 0;

    // An upgrade is wanted, then the program is asked, then the worker hands over.
    bool upgrade_wanted_ = false;
    std::optional<ProgramFile> next_program_;
    std::optional<UpgradeQuestion> question_;
    std::optional<Instant> hand_over_asked_;
    // The program before this one, until a worker of this one is ready.
    std::optional<ProgramFile> old_program_;
};

}  // namespace udpproxy
