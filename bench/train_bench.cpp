// Micro benchmarks of trains: what splitting and coalescing cost a datagram, and what looking for
// something to coalesce costs where there is nothing.
#include <benchmark/benchmark.h>

#include <vector>

#include "io/departure_chains.hpp"

namespace {

using namespace udpproxy;

constexpr TrainLimits limits{train_bytes_max(Family::ipv4), 65535};

/// `count` departures of one turn, `clients` of them in turn, each on a slot of its own.
std::vector<Departure> departures_of(std::uint32_t count, std::uint32_t clients,
                                     std::uint32_t bytes, std::uint32_t segment_bytes) {
    std::vector<Departure> departures(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        departures[i].slot = Slot{i % clients};
        departures[i].bytes = bytes;
        departures[i].segment_bytes = segment_bytes;
    }
    return departures;
}

/// Chains a turn's departures and cuts them into sends; counted per datagram.
void run(benchmark::State& state, const std::vector<Departure>& departures, std::uint32_t slots) {
    DepartureChains chains(departures.size(), slots);
    std::int64_t datagrams = 0;
    for (const Departure& departure : departures) datagrams += departure.datagrams();
    std::int64_t sends = 0;
    for (auto _ : state) {
        chains.chain(departures);
        for (const Slot slot : chains.slots()) {
            for (ChainWalk walk = chains.take(slot); !walk.is_over(); ++sends)
                benchmark::DoNotOptimize(
                    chains.cut(departures, walk, [](const Departure&) { return limits; }));
        }
    }
    state.SetItemsProcessed(state.iterations() * datagrams);
    state.counters["datagrams_per_send"] =
        static_cast<double>(state.iterations() * datagrams) / static_cast<double>(sends);
}

void coalesce_one_client(benchmark::State& state) { run(state, departures_of(512, 1, 64, 0), 1); }
BENCHMARK(coalesce_one_client);

void coalesce_nothing(benchmark::State& state) {
    const auto clients = static_cast<std::uint32_t>(state.range(0));
    run(state, departures_of(clients, clients, 64, 0), clients);
}
BENCHMARK(coalesce_nothing)->Arg(64)->Arg(2048);

/// One client whose datagrams grow: every neighbour is looked at in vain.
void coalesce_unequal(benchmark::State& state) {
    std::vector<Departure> departures = departures_of(512, 1, 64, 0);
    for (std::uint32_t i = 0; i < departures.size(); ++i) departures[i].bytes += i;
    run(state, departures, 1);
}
BENCHMARK(coalesce_unequal);

/// Two datagrams of each client, others' between them.
void coalesce_interleaved(benchmark::State& state) {
    run(state, departures_of(512, 256, 64, 0), 256);
}
BENCHMARK(coalesce_interleaved);

void pass_trains(benchmark::State& state) { run(state, departures_of(64, 4, 32 * 1200, 1200), 4); }
BENCHMARK(pass_trains);

/// Longer than a send: 128 segments, as kernels from 6.9 on make them.
void split_trains(benchmark::State& state) { run(state, departures_of(64, 4, 128 * 500, 500), 4); }
BENCHMARK(split_trains);

}  // namespace
