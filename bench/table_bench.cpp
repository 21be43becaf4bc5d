// Micro benchmarks of the heart: what the session table, the ports and the groups cost. One number
// per operation; what a datagram costs on the wire is a matter of the whole program, not of these.
#include <benchmark/benchmark.h>

#include <vector>

#include "udpproxy/session/group_pool.hpp"
#include "udpproxy/session/port_pool.hpp"
#include "udpproxy/session/table.hpp"

namespace {

using namespace udpproxy;
using namespace std::chrono_literals;

ClientKey key_of(std::uint32_t number) {
    ClientKey key;
    key.client = Address::ipv4(number / 60000);
    key.port = static_cast<std::uint16_t>(1024 + number % 60000);
    return key;
}

SessionTable filled_table(std::uint32_t sessions) {
    SessionTable table(65536, {SessionTimeouts{300s, 30s}}, SipKey{1, 2});
    for (std::uint32_t i = 0; i < sessions; ++i)
        table.admit(table.hash(key_of(i)), key_of(i), 0, Instant{1s});
    return table;
}

void find_hit(benchmark::State& state) {
    const auto sessions = static_cast<std::uint32_t>(state.range(0));
    SessionTable table = filled_table(sessions);
    std::uint32_t next = 0;
    for (auto _ : state) {
        next = (next * 1664525U + 1013904223U) % sessions;
        const ClientKey key = key_of(next);
        benchmark::DoNotOptimize(table.find(table.hash(key), key));
    }
}
BENCHMARK(find_hit)->Arg(100)->Arg(10000)->Arg(65536);

void find_miss(benchmark::State& state) {
    const auto sessions = static_cast<std::uint32_t>(state.range(0));
    SessionTable table = filled_table(sessions);
    std::uint32_t next = 1U << 24;
    for (auto _ : state) {
        const ClientKey key = key_of(++next);
        benchmark::DoNotOptimize(table.find(table.hash(key), key));
    }
}
BENCHMARK(find_miss)->Arg(100)->Arg(65536);

void admit_and_retire(benchmark::State& state) {
    SessionTable table = filled_table(30000);
    std::uint32_t next = 1U << 20;
    for (auto _ : state) {
        const ClientKey key = key_of(++next);
        table.retire(table.admit(table.hash(key), key, 0, Instant{2s}));
    }
}
BENCHMARK(admit_and_retire);

void expire(benchmark::State& state) {
    for (auto _ : state) {
        state.PauseTiming();
        SessionTable table = filled_table(10000);
        state.ResumeTiming();
        std::uint32_t scan_budget = 20000;
        while (const auto session = table.next_expired(Instant{60s}, scan_budget))
            table.retire(*session);
    }
    state.SetItemsProcessed(state.iterations() * 10000);
}
BENCHMARK(expire);

void lease_and_release(benchmark::State& state) {
    const std::vector<PortRange> ranges{PortRange{32768, 60999}};
    PortPool pool(ranges, 0, 1);
    for (auto _ : state) pool.release(pool.lease(0, Instant{1s}).value(), Instant{1s});
}
BENCHMARK(lease_and_release);

void acquire_and_release(benchmark::State& state) {
    GroupPool pool(1000, {0s});
    for (int i = 0; i < 1000; ++i) pool.cooldown(pool.add(0, no_index), Instant{1s});
    for (auto _ : state) pool.cooldown(pool.acquire(0, no_index, Instant{2s}).value(), Instant{2s});
}
BENCHMARK(acquire_and_release);

}  // namespace

BENCHMARK_MAIN();
