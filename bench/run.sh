#!/usr/bin/env bash
# The benchmark, from a fresh clone: installs its peers by package name, builds the release, makes
# network namespaces of its own, measures everything interleaved, and writes tables,
# build/bench/results.json and build/bench/results.svg.
#
#   bench/run.sh [--quick] [--rounds N] [--seconds S] [--workload WORD] [--contender WORD]
#                [--against PROGRAM] [--list]
#   bench/run.sh --micro [ARGS]       micro benchmarks instead; ARGS go to Google Benchmark
#   bench/run.sh --write-docs [FILE]  writes the tables of a finished run
#                                     (build/bench/results.json) into docs/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONDONTWRITEBYTECODE=1 UDPPROXY_BUILD=$PWD/build/release
python=/usr/bin/python3

case ${1:-} in
    --write-docs)
        shift
        exec "$python" bench/runner/write_docs.py "$@"
        ;;
    --micro)
        shift
        ./dev build release
        exec build/release/bench/udpproxy_microbench "$@"
        ;;
    --list | -h | --help) exec "$python" bench/runner "$@" ;;
esac

./packages.sh bench
./dev build release

# Nothing made in here outlives the run; `ip netns` keeps its names in /run/netns, hence the tmpfs.
isolation=(unshare --mount --net --propagation private)
((EUID == 0)) || isolation+=(--user --map-root-user)
inside='mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"'
exec "${isolation[@]}" bash -c "$inside" bash "$python" bench/runner "$@"
