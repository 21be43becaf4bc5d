// The loop of a shard: one wait, one reading of the clock that all stages share, then the stages in
// order. It is the only template over the backend and the clock.
#pragma once

#include <algorithm>

#include "udpproxy/io/backend.hpp"
#include "udpproxy/shard/adoption.hpp"
#include "udpproxy/shard/shard.hpp"

namespace udpproxy {

/// The loop's clock; a simulation has its own.
struct HostClock {
    [[nodiscard]] Instant now() const noexcept { return monotonic_now(); }
};

template <Backend B, class Clock = HostClock>
class Loop {
public:
    Loop(ShardSetup setup, B backend, Clock clock = {})
        : shard_(std::move(setup)), backend_(std::move(backend)), clock_(std::move(clock)) {}

    /// Called in the shard's thread before run().
    [[nodiscard]] Result<void> start(std::vector<ListenerSocket> listeners) {
        return backend_.start(std::move(listeners));
    }

    /// Turns until a stop command has been applied.
    void run() {
        Duration processor_time = thread_processor_time();
        // The first turn does not wait: it prepares groups before the first client comes.
        turn_ended_ = clock_.now();
        deadline_ = turn_ended_;
        while (!shard_.stopping && !shard_.handing_over) {
            turn();
            note_turn_cost(processor_time);
        }
        if (shard_.handing_over) {
            hand_over();
        } else {
            drain();
            close_sockets();
        }
    }

    /// Called before run(): goes on with the sockets and sessions of an earlier process.
    void adopt(Adoption& adoption) {
        shard_.turn_at = clock_.now();
        udpproxy::adopt(shard_, backend_, adoption, shard_.turn_at);
        catch_up_turns_ = catch_up_turns_max;  // what was queued meanwhile comes before any expiry
    }

    /// One pass. The only call that may block is wait.
    void turn() {
        const Completions& completions = backend_.wait(deadline_);
        const Instant now = clock_.now();
        shard_.turn_at = now;
        account_receive_faults(shard_, completions.faults);
        resume_pending(shard_, now);
        forward_replies(shard_, backend_, completions.replies, now);
        forward_requests(shard_, backend_, completions.requests, now);
        note_closed(shard_, completions.closed, now);
        admit_new_clients(shard_, backend_, now);
        evict_for_other_shards(shard_, backend_, now);
        leave_lost_sources(shard_, backend_, now);
        leave_replaced_sources(shard_, backend_, now);
        quiet_ = completions.requests.empty() && completions.replies.empty();
        note_stall(now);
        if (!is_catching_up()) retire_sessions(shard_, backend_, now);
        apply_commands(now);
        reconcile_groups(shard_, backend_, now);
        prewarm_groups(shard_, backend_, now);
        write_records(shard_, backend_);
        account_sends(shard_, backend_.send(shard_.departures, now), now);
        discard_dropped();
        answer_inspection(shard_, backend_,
                          now);  // after the sends: it may end a session that has just sent
        count_engine();
        deadline_ = is_catching_up() ? now : next_deadline(shard_, now);
        turn_ended_ = clock_.now();
    }

    /// After a stall (the process was stopped, or the machine suspended) no session expires before
    /// the datagrams queued meanwhile are read.
    [[nodiscard]] bool is_catching_up() const noexcept { return catch_up_turns_ > 0; }

    /// Makes the shard read its commands soon. Called from any thread.
    void wake() { backend_.wake(); }

    [[nodiscard]] Shard& shard() { return shard_; }
    [[nodiscard]] B& backend() { return backend_; }

private:
    void discard_dropped() {
        for (const Buffer buffer : shard_.dropped) backend_.discard(buffer);
        shard_.dropped.clear();
    }

    void apply_commands(Instant now) {
        Command command;
        for (std::uint32_t i = 0; i < commands_per_turn && shard_.commands.take(command); ++i)
            apply_command(shard_, backend_, command, now);
    }

    /// Forwards queued datagrams of clients that have a session, for a second at most.
    void drain() {
        const Instant end = clock_.now() + std::chrono::seconds{1};
        do {
            deadline_ = clock_.now();
            turn();
        } while (!quiet_ && clock_.now() < end);
    }

    /// Sends what was received, as far as the kernel takes it, and leaves every socket open, what
    /// waits in its queue included.
    void hand_over() {
        const Instant end = clock_.now() + handing_over_max;
        while ((!shard_.pending.empty() || !shard_.new_clients.empty()) && clock_.now() < end) {
            deadline_ = clock_.now();
            turn();
        }
        give_up_pending(shard_);
        give_up_new_clients(shard_);
        write_all_records(shard_, backend_);
    }

    /// Frees addresses and ports for the next start: the kernel releases sockets held by a ring
    /// only some time after the process has ended.
    void close_sockets() {
        give_up_pending(shard_);
        close_all_listeners(shard_, backend_);
        end_sessions();
        close_all_groups(shard_, backend_);
        const Instant end = clock_.now() + std::chrono::seconds{1};
        while ((shard_.listeners_open > 0 || shard_.descriptors_closing > 0) && clock_.now() < end)
            wait_while_stopping(end);
    }

    /// Ends as many sessions at a time as there is room for their events. After a second the events
    /// of those that are left are lost, and counted so.
    void end_sessions() {
        const Instant end = clock_.now() + std::chrono::seconds{1};
        std::uint32_t next = 0;
        while (!end_all_sessions(shard_, backend_, next,
                                 clock_.now() < end ? shard_.events.room() : shard_.table.size(),
                                 clock_.now()))
            wait_while_stopping(clock_.now() + std::chrono::milliseconds{1});
    }

    void wait_while_stopping(Instant deadline) {
        const Completions& completions = backend_.wait(deadline);
        drop_while_stopping(shard_, completions.requests, completions.replies);
        discard_dropped();
        note_closed(shard_, completions.closed, clock_.now());
    }

    /// A wait has stalled when it returns long after both its deadline and its own beginning;
    /// remaining work has a deadline in the past and is no stall. A turn has stalled when it took
    /// far longer than the stages' bounds allow.
    void note_stall(Instant now) {
        const bool returned_late =
            deadline_ && now - std::max(*deadline_, turn_ended_) > stall_noticed;
        const bool turned_late = turn_ended_ - turn_began_ > turn_held_up;
        turn_began_ = now;
        if (returned_late || turned_late)
            catch_up_turns_ = catch_up_turns_max;
        else if (is_catching_up())
            catch_up_turns_ = quiet_ ? 0 : catch_up_turns_ - 1;
    }

    /// Keeps the longest turn: its processor time (the kernel's share included) and its wall time
    /// without the wait.
    void note_turn_cost(Duration& processor_time) {
        const Duration before = std::exchange(processor_time, thread_processor_time());
        shard_.counters.longest_turn_cpu_ns.raise_to(
            static_cast<std::uint64_t>((processor_time - before).count()));
        shard_.counters.longest_turn_wall_ns.raise_to(
            static_cast<std::uint64_t>((turn_ended_ - turn_began_).count()));
    }

    void count_engine() {
        shard_.counters.turns.add(1);
        shard_.note_gauges();
        const EngineCounters& engine = backend_.counters();
        shard_.counters.receives_rearmed.set(engine.receives_rearmed);
        shard_.counters.buffers_exhausted.set(engine.buffers_exhausted);
        shard_.counters.stale_completions.set(engine.stale_completions);
        shard_.counters.trains_received.set(engine.trains_received);
        shard_.counters.trains_sent.set(engine.trains_sent);
        shard_.counters.gso_fallbacks.set(engine.gso_fallbacks);
    }

    Shard shard_;
    B backend_;
    Clock clock_;
    std::optional<Instant> deadline_;
    Instant turn_began_{};              // the last turn's reading of the clock
    Instant turn_ended_{};              // when the last turn's wait for the next began
    std::uint32_t catch_up_turns_ = 0;  // turns left at most
    bool quiet_ = false;
};

}  // namespace udpproxy
