// SimThread: a simulated shard in the place of a shard's thread, so that what runs above shards
// (queries, reloads) meets simulated ones. There is no thread: the shard turns when it is woken.
#pragma once

#include "sim/sim_shard.hpp"
#include "udpproxy/runtime/shard_thread.hpp"

namespace udpproxy::sim {

class SimThread final : public ShardThread {
public:
    explicit SimThread(ShardSetup setup = small_setup(), std::uint64_t seed = 1)
        : simulated(std::move(setup), seed) {}

    Result<void> start(std::optional<int>, std::vector<ListenerSocket>) override { return {}; }
    Result<void> start_adopting(std::optional<int>, Adoption&) override { return {}; }
    Result<void> finish_start() override { return {}; }
    void begin() override {}
    /// Until nothing that was sent waits any more.
    void wake() override {
        do {
            simulated.turns();
        } while (!shard().stopping && !shard().commands.is_empty());
    }
    Duration cpu_time() override { return {}; }
    [[nodiscard]] bool has_ended() const override { return false; }
    [[nodiscard]] std::uint64_t run_queue_delay_ns() const override { return 0; }
    void join() override {}
    Shard& shard() override { return simulated.shard(); }

    SimShard simulated;
};

}  // namespace udpproxy::sim
