// Micro benchmarks of endpoints as text: what reading a configuration with thousands of addresses
// costs.
#include <benchmark/benchmark.h>

#include <string_view>

#include "udpproxy/net/endpoint.hpp"

namespace {

using namespace udpproxy;

void parse_endpoint_text(benchmark::State& state, std::string_view text) {
    for (auto _ : state) {
        benchmark::DoNotOptimize(text);
        benchmark::DoNotOptimize(parse_endpoint(text));
    }
}
BENCHMARK_CAPTURE(parse_endpoint_text, ipv4, "192.168.100.254:12345");
BENCHMARK_CAPTURE(parse_endpoint_text, ipv6, "[2001:db8:85a3::8a2e:370:7334]:12345");
BENCHMARK_CAPTURE(parse_endpoint_text, refused, "192.168.100.256:12345");

void parse_prefix_text(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(parse_prefix("2001:db8::/32"));
}
BENCHMARK(parse_prefix_text);

}  // namespace
