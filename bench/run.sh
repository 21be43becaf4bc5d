#!/usr/bin/env bash
# Builds the release and runs the micro benchmarks. Arguments go to Google Benchmark, e.g. --benchmark_filter=table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./dev build release
exec build/release/bench/udpproxy_microbench "$@"
