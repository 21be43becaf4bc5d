#!/usr/bin/python3
"""Runs libFuzzer over the fuzz targets, one after the other, each for some seconds; `./dev fuzz`
builds the program first. New inputs gather in build/fuzz/found; those that reach code which the
corpus does not are merged into fuzz/corpus at the end. An input that breaks a law is kept under
build/fuzz/findings, where a later run begins with it."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INPUT_BYTES_MAX = 4096
MEMORY_MAX_MIB = 2048
INPUT_SECONDS_MAX = 10  # for one input
MERGE_SECONDS_MAX = 300


def count_of(directory):
    return sum(1 for _ in directory.iterdir()) if directory.is_dir() else 0


class Target:
    def __init__(self, program, work, name):
        self.name = name
        self.program = program
        self.corpus = ROOT / "fuzz" / "corpus" / name
        self.found = work / "found" / name
        self.findings = work / "findings" / name
        self.executions = 0
        self.added = 0
        self.failed = False
        for directory in (self.corpus, self.found, self.findings):
            directory.mkdir(parents=True, exist_ok=True)

    def fuzzer(self, arguments, log):
        """libFuzzer's exit status. Its lines go to the file."""
        environment = {
            **os.environ,
            "FUZZ_TARGET": self.name,
            "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        limits = [
            f"-max_len={INPUT_BYTES_MAX}",
            f"-rss_limit_mb={MEMORY_MAX_MIB}",
            f"-timeout={INPUT_SECONDS_MAX}",
            f"-artifact_prefix={self.findings}/",
        ]
        # Without address randomisation: clang 14's sanitisers cannot stand vm.mmap_rnd_bits=32.
        with open(log, "w", encoding="utf-8", errors="replace") as file:
            return subprocess.run(
                ["setarch", "-R", self.program, *limits, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode

    def run(self, seconds, log):
        # Earlier findings first: one that still breaks a law ends the run at once. One that does
        # not any more is an input like any other.
        for finding in sorted(self.findings.iterdir()):
            if self.fuzzer([str(finding)], log) != 0:
                self.failed = True
                return
            finding.rename(self.found / finding.name)
        status = self.fuzzer(
            [
                f"-max_total_time={seconds}",
                "-print_final_stats=1",
                "-reload=0",
                str(self.found),
                str(self.corpus),
            ],
            log,
        )
        self.failed = status != 0
        lines = log.read_text(encoding="utf-8", errors="replace")
        for count in re.findall(r"stat::number_of_executed_units: +(\d+)", lines):
            self.executions = int(count)

    def merge(self, log):
        """Adds to the corpus what reaches an edge that nothing in the corpus reaches."""
        before = count_of(self.corpus)
        arguments = [
            "-set_cover_merge=1",
            "-use_counters=0",
            f"-max_total_time={MERGE_SECONDS_MAX}",
        ]
        if self.fuzzer([*arguments, str(self.corpus), str(self.found)], log) != 0:
            self.failed = True
        self.added = count_of(self.corpus) - before

    def summary(self):
        return f"{self.name:<16}{self.executions:>12}{self.added:>8}{count_of(self.findings):>10}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="libFuzzer's program")
    parser.add_argument("targets", nargs="*", help="targets (default: all), and seconds for each")
    options = parser.parse_args()
    known = [path.name for path in sorted((ROOT / "fuzz" / "corpus").iterdir())]
    numbers = [int(word) for word in options.targets if word.isdigit()]
    names = [word for word in options.targets if not word.isdigit()]
    unknown = [name for name in names if name not in known]
    if unknown or len(numbers) > 1:
        parser.error(f"TARGET is one of: {', '.join(known)}; SECONDS is one number")
    seconds = numbers[0] if numbers else 60

    program = str(pathlib.Path(options.program).resolve())
    work = ROOT / "build" / "fuzz"
    targets = [Target(program, work, name) for name in names or known]
    for target in targets:
        log = work / f"{target.name}.log"
        print(f"{target.name}: {seconds} s, {log.relative_to(ROOT)}", flush=True)
        target.run(seconds, log)
        if target.failed:
            shutil.copy(log, work / f"{target.name}.failed.log")
            print("".join(log.open(encoding="utf-8", errors="replace").readlines()[-40:]))
        else:
            target.merge(work / f"{target.name}.merge.log")

    print(f"\n{'target':<16}{'executions':>12}{'added':>8}{'findings':>10}")
    for target in targets:
        print(target.summary())
    failed = [target.name for target in targets if target.failed]
    for target in targets:
        for finding in sorted(target.findings.iterdir()) if target.failed else []:
            print(f"finding: {finding.relative_to(ROOT)}")
    print(f"{len(targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
