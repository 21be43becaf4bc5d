"""The benchmark: every contender, every workload, interleaved in one run. Started by bench/run.sh,
in namespaces of its own.

Rounds are outermost, then workloads, then contenders: what disturbs the machine for a while
disturbs all of them alike, and ratios are taken within a round. The first contender of a round is
another each time.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

from contenders import AGAINST, CONTENDERS, NOTHING, Setting, with_against
from cycles import Cycles
from measure import Cpus, Disturbed, measure, measure_memory
from network import Network
from picture import draw
from results import Results
from tables import all_tables
from workloads import MEMORY, WORKLOADS, scaling

# Starting and ending of programs around a measurement.
_OVERHEAD_SECONDS = 0.7


def parse_arguments(words):
    parser = argparse.ArgumentParser(
        prog="bench/run.sh",
        description="Measures udpproxy, its peers and the floor in one interleaved run.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="under two minutes: fewer workloads, one short round"
    )
    parser.add_argument(
        "--rounds", type=int, help="how often everything is measured (5; --quick: 1)"
    )
    parser.add_argument(
        "--seconds", type=float, help="the length of each measurement (1; --quick: 0.25)"
    )
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="WORD",
        help="only workloads whose name contains it; may be given again",
    )
    parser.add_argument(
        "--contender",
        action="append",
        default=[],
        metavar="WORD",
        help="only contenders whose name contains it; may be given again",
    )
    parser.add_argument(
        "--against",
        metavar="PROGRAM",
        type=pathlib.Path,
        help="also measure this udpproxy, with each engine, and print the ratios",
    )
    parser.add_argument(
        "--out",
        default="build/bench",
        help="where results.json and results.svg are written (build/bench)",
    )
    parser.add_argument(
        "--generator",
        action="store_true",
        help="only how fast the clients are when nobody forwards anything",
    )
    parser.add_argument(
        "--list", action="store_true", help="list workloads and contenders, measure nothing"
    )
    arguments = parser.parse_args(words)
    if arguments.against and not os.access(arguments.against, os.X_OK):
        parser.error(f"--against {arguments.against}: not a program")
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (0.25 if arguments.quick else 1.0)
    return arguments


def chosen(arguments):
    everything = [*WORKLOADS, MEMORY, *scaling()]
    workloads = [
        each
        for each in everything
        if (each.quick or not arguments.quick or arguments.workload)
        and (not arguments.workload or any(word in each.name for word in arguments.workload))
    ]
    everyone = with_against(CONTENDERS, arguments.against) if arguments.against else CONTENDERS
    # The other build is measured wherever the one beside the benchmark is.
    twins = {other: name for name, other in AGAINST.items()}
    contenders = [
        each
        for each in everyone
        if not arguments.contender
        or any(word in twins.get(each.name, each.name) for word in arguments.contender)
    ]
    if not workloads or not contenders:
        raise SystemExit("bench: nothing to measure; see --list")
    return workloads, contenders


def schedule(workloads, contenders, rounds):
    """(round, workload, contender) in the order of measuring."""
    for turn in range(rounds):
        for workload in workloads:
            able = [
                each
                for each in contenders
                if each.suits(workload) and (each.ours or not workload.only_ours)
            ]
            if not able:
                continue
            first = turn % len(able)
            if workload.kind == "paced":
                yield turn, workload, NOTHING
            for contender in able[first:] + able[:first]:
                yield turn, workload, contender


def tell_generator(arguments):
    """What the clients send a second when all of it is dropped on arrival."""
    network, cpus = Network(), Cpus.of_this_machine()
    link = network.add_link()
    link.lead_nowhere()
    for workload in WORKLOADS:
        if workload.kind == "flood":
            rates = [
                measure(NOTHING, link, workload, cpus, arguments.seconds, Cycles())["sent_per_s"]
                for _ in range(3)
            ]
            print(
                f"{workload.title:<32} {sorted(rates)[1] / 1e6:6.2f} M datagrams/s sent", flush=True
            )


def machine_of(arguments, cycles):
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "date": datetime.date.today().isoformat(),
        "load_before": os.getloadavg()[0],
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "quick": arguments.quick,
        "cycles": "counted by perf stat" if cycles.supported else cycles.reason,
    }


class Progress:
    """One line that stays where it is on a terminal; elsewhere a line for each workload."""

    def __init__(self, steps):
        self._total = sum(steps)
        self._done = 0.0
        self._began = time.monotonic()
        self._last = None

    def tell(self, turn, workload, contender):
        passed = time.monotonic() - self._began
        # By what was measured so far, once there is something to go by.
        left = (self._total - self._done) * (passed / self._done if self._done > 10 else 1)
        minutes, seconds = divmod(int(left), 60)
        text = f"round {turn + 1}  {workload.name}  {contender.name}  {minutes}:{seconds:02} left"
        if sys.stderr.isatty():
            print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)
        elif self._last != (turn, workload.name):
            print(text, file=sys.stderr, flush=True)
        self._last = (turn, workload.name)

    def advance(self, seconds):
        self._done += seconds

    def close(self):
        if sys.stderr.isatty():
            print(f"\r{'':<79}\r", end="", file=sys.stderr)


def run_all(arguments, workloads, contenders, cycles):
    """(measurements, complaints)."""
    network, cpus = Network(), Cpus.of_this_machine()
    links = {each.name: network.add_link() for each in [NOTHING, *contenders]}
    links[NOTHING.name].lead_nowhere()
    plan = list(schedule(workloads, contenders, arguments.rounds))
    lengths = [_length(workload, arguments) for _, workload, _ in plan]
    print(
        f"{len(plan)} measurements, about {sum(lengths) / 60:.0f} minutes; at most "
        f"{sum(lengths) * 3 / 60:.0f}",
        file=sys.stderr,
        flush=True,
    )
    progress, end = Progress(lengths), time.monotonic() + 3 * sum(lengths) + 60
    measurements, complaints = [], []
    for (turn, workload, contender), length in zip(plan, lengths):
        if time.monotonic() > end:
            complaints.append("the run took three times as long as planned and was ended")
            break
        progress.tell(turn, workload, contender)
        try:
            if workload.kind == "memory":
                figures = measure_memory(contender, links[contender.name], workload, cpus)
            else:
                figures = measure_undisturbed(
                    contender,
                    links[contender.name],
                    workload,
                    cpus,
                    arguments.seconds * workload.seconds,
                    cycles,
                )
            measurements.append(
                {"round": turn, "workload": workload.name, "contender": contender.name} | figures
            )
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as trouble:
            complaints.append(f"{workload.name}, {contender.name}: {trouble}")
        progress.advance(length)
    progress.close()
    return measurements, complaints, links


def measure_undisturbed(*what):
    """measure(), again if need be."""
    for _ in range(2):
        try:
            return measure(*what)
        except Disturbed:
            pass
    return measure(*what)


def _length(workload, arguments):
    return arguments.seconds * workload.seconds + workload.warm_seconds + _OVERHEAD_SECONDS


def describe(contenders, links):
    """Who took part, and how each was told to work."""
    return [
        {
            "name": each.name,
            "version": each.version(),
            "configuration": each.configuration(links[each.name], Setting()),
        }
        for each in contenders
    ]


def report(results, complaints):
    for each in results.contenders:
        print(f"\n--- {each['name']}  {each['version']}\n{each['configuration'].rstrip()}")
    print(f"\n{results.machine}")
    for title, table in all_tables(results).values():
        print(f"\n{title}\n\n{table}")
    for each in results.misdelivered():
        print(
            f"MISDELIVERED: {each['contender']}, {each['workload']}: {each['foreign']} foreign and "
            f"{each['damaged']} damaged datagrams, {each['shared_ports']} from a port of another "
            "client"
        )
    checked = sum(each.get("checked", 0) for each in results.measurements)
    print(f"\n{checked:,} datagrams had their owner checked")
    for each in complaints:
        print(f"NOT MEASURED: {each}")


def main(words):
    arguments = parse_arguments(words)
    workloads, contenders = chosen(arguments)
    if arguments.list:
        for each in workloads:
            print(f"{each.name:<20} {each.kind}: {each.title}")
        for each in contenders:
            print(each.name)
        return 0
    if arguments.generator:
        tell_generator(arguments)
        return 0
    cycles = Cycles()
    machine = machine_of(arguments, cycles)
    if machine["load_before"] > 0.5:
        print(
            f"bench: this machine is busy (load {machine['load_before']:.1f}): figures of the "
            "whole core will be wrong, others noisy",
            file=sys.stderr,
        )
    measurements, complaints, links = run_all(arguments, workloads, contenders, cycles)
    results = Results(
        machine,
        describe(contenders, links),
        [{"name": each.name, "kind": each.kind, "title": each.title} for each in workloads],
        measurements,
    )
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(
        json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8"
    )
    (out / "results.svg").write_text(draw(results), encoding="utf-8")
    report(results, complaints)
    print(f"\nwritten: {out}/results.json, {out}/results.svg")
    ours = {each.name for each in contenders if each.ours}
    wrong = [each for each in results.misdelivered() if each["contender"] in ours]
    return 1 if wrong or complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
