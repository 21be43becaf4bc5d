// ShardThread: one shard with its thread and its engine, of either kind. Only here is the choice of
// engine a virtual call, a handful per life of the program.
#pragma once

#include <atomic>
#include <future>
#include <list>
#include <memory>
#include <optional>
#include <thread>

#include "udpproxy/host/limits.hpp"
#include "udpproxy/io/probe.hpp"
#include "udpproxy/shard/loop.hpp"

namespace udpproxy {

class ShardThread {
public:
    virtual ~ShardThread() = default;

    /// Opens the engine; the thread does not run yet. Errors: what the engine's open() says.
    [[nodiscard]] static Result<std::unique_ptr<ShardThread>> create(
        Engine engine, ShardSetup setup, const EngineSetup& engine_setup);

    /// Starts the thread and waits until the shard serves these listeners. Errors: those of the
    /// engine's start(); there is no thread to be had.
    [[nodiscard]] virtual Result<void> start(std::optional<int> cpu,
                                             std::vector<ListenerSocket> listeners) = 0;
    /// The same with what an earlier process had. Returns at once: finish_start() waits until the
    /// shard has adopted it. The shard serves from begin() on.
    [[nodiscard]] virtual Result<void> start_adopting(std::optional<int> cpu,
                                                      Adoption& adoption) = 0;
    [[nodiscard]] virtual Result<void> finish_start() = 0;
    virtual void begin() = 0;
    /// Posts commands to the shard; returns at once. Commands that do not fit in the mailbox wait
    /// here, in order, for the next post_waiting().
    void send(std::list<Command> commands) noexcept;
    void post_waiting() noexcept;
    /// Whether the shard has taken every command.
    [[nodiscard]] bool has_taken_all() {
        post_waiting();
        return waiting_.empty() && shard().commands.is_empty();
    }
    /// Asks the shard to stop; returns at once. Needs no memory.
    void stop() noexcept { send(std::exchange(stop_, {})); }
    /// The same, with every socket left open for another process.
    void hand_over() noexcept {
        if (!stop_.empty()) stop_.front().kind = CommandKind::hand_over;
        stop();
    }
    /// Wakes the shard to take its commands and queries soon.
    virtual void wake() = 0;
    /// Processor time of the thread so far.
    [[nodiscard]] virtual Duration cpu_time() = 0;
    /// Whether no thread runs: it has not been started, or has ended.
    [[nodiscard]] virtual bool has_ended() const = 0;
    /// How long the thread has been ready to run and waited for a processor, in nanoseconds
    /// (/proc/PID/task/TID/schedstat).
    [[nodiscard]] virtual std::uint64_t run_queue_delay_ns() const = 0;
    virtual void join() = 0;
    [[nodiscard]] virtual Shard& shard() = 0;

private:
    std::list<Command> waiting_;
    std::list<Command> stop_{Command{}};  // until it is sent
};

/// Shared with every status snapshot, so that a shard lives as long as a reader uses it.
using ShardThreads = std::vector<std::shared_ptr<ShardThread>>;

}  // namespace udpproxy
