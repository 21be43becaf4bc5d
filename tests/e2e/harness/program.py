"""The program under test: where it is, how it is configured, started, read and stopped."""

import contextlib
import functools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

from harness.process import Process

# No turn of a shard may use more processor time than this, whatever a test does to it.
TURN_CPU_NS_MAX = 10_000_000

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


def path():
    return os.environ.get("UDPPROXY", str(REPOSITORY / "build" / "release" / "udpproxy"))


@functools.cache
def is_sanitised():
    """Whether the program was built with the address or thread sanitiser."""
    content = pathlib.Path(path()).read_bytes()
    return b"__asan_init" in content or b"__tsan_init" in content


def table(**keys):
    """One [[proxy]] as TOML. JSON's strings, numbers, booleans and lists are TOML as well."""
    keys.setdefault("name", "echo")
    if (offload := os.environ.get("UDPPROXY_OFFLOAD")) is not None:
        keys.setdefault("offload", offload)
    return "[[proxy]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def configuration(*tables, engine="auto", shards=2, head=""):
    """A whole file. `head` is TOML for the sections above the proxies."""
    return f'[runtime]\nengine = "{engine}"\nshards = {shards}\n{head}\n' + "\n".join(tables)


def run_once(*arguments, timeout=30, prefix=()):
    """The program to its end: completed process with .returncode, .stdout, .stderr."""
    return subprocess.run(
        [*prefix, path(), *map(str, arguments)], capture_output=True, text=True, timeout=timeout
    )


def install(source, path):
    """As a package does: the file that is executed stays as it is, without a name."""
    shutil.copy(source, f"{path}.new")
    os.chmod(f"{path}.new", 0o755)  # whatever the umask of its builder
    os.rename(f"{path}.new", path)


def help_of(*words):
    """({option}, [command]) that a program's --help lists."""
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    options, _, commands = done.stdout.partition("Subcommands:\n")
    named = {
        name
        for first in re.findall(r"^  (-\S+)", options, re.MULTILINE)
        for name in first.split(",")
    }
    return named, re.findall(r"^  (\w+) ", commands, re.MULTILINE)


def commands_of(program):
    """{words of a command: its options} of a program with commands, -h and --help left out."""
    found = {}

    def visit(*words):
        options, commands = help_of(program, *words)
        for command in commands:
            visit(*words, command)
        if not commands:
            found[words] = options - {"-h", "--help"}

    visit()
    return found


_PAIR = re.compile(r'([A-Za-z0-9_.]+)=("(?:[^"\\]|\\.)*"|\S*)')


def parse_log_line(line):
    """Text (key=value, quoted where needed) or one JSON object -> dict of strings; {} for anything
    else."""
    if line.startswith("{"):
        try:
            return {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in json.loads(line).items()
            }
        except ValueError:
            return {}
    pairs = {}
    for key, value in _PAIR.findall(line):
        if value.startswith('"'):
            value = json.loads(value)  # quoted and escaped as JSON is
        pairs[key] = value
    return pairs if "event" in pairs else {}


class Counters(dict):
    """The final totals, as numbers. A counter that is not shown is zero."""

    def __missing__(self, _key):
        return 0

    def drops(self):
        return {key: value for key, value in self.items() if key.startswith("drop_") and value}


class Proxy(Process):
    """udpproxy, started and ready (unless told not to wait)."""

    def __init__(self, namespace, text, directory, prefix=(), ready=True, arguments=()):
        self.events = []
        self.configuration_file = pathlib.Path(directory) / "udpproxy.toml"
        self.configuration_file.write_text(text, encoding="utf-8")
        super().__init__(
            [*prefix, path(), "--config", str(self.configuration_file), *arguments], namespace
        )
        if ready:
            self.wait_event("ready")

    @property
    def worker_pid(self):
        """The keeper's living child of that name; with --single-process the program itself."""
        return self.wait_until(self._find_worker, what="a worker")

    def _find_worker(self):
        if "--single-process" in self.words:
            return self.pid
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text("ascii")
        for child in children.split():
            with contextlib.suppress(FileNotFoundError):
                stat = pathlib.Path(f"/proc/{child}/stat").read_text("ascii")
                if "(udpproxy worker) " in stat and "(udpproxy worker) Z" not in stat:
                    return int(child)
        return None

    def arrived(self, line):
        if event := parse_log_line(line):
            self.events.append(event)

    def all_events(self, name, **values):
        self.catch_up()
        return [
            event
            for event in self.events
            if event.get("event") == name
            and all(event.get(key) == value for key, value in values.items())
        ]

    def wait_event(self, name, timeout=30, **values):
        return self.wait_until(
            lambda: next(iter(self.all_events(name, **values)), None),
            timeout,
            f"event={name} {values or ''}",
        )

    def stop(self, timeout=30):
        """SIGTERM, then as stopped()."""
        self.signal(signal.SIGTERM)
        return self.stopped(timeout)

    def stopped(self, timeout=30):
        """Exit code 0, and the final counters; the law that nothing vanishes is checked each
        time."""
        code = self.wait(timeout)
        assert code == 0, f"exit code {code} after a signal to stop:\n{self.text()}"
        counters = self.counters()
        arrivals = counters["arrivals_request"] + counters["arrivals_reply"]
        departures = counters["departures_request"] + counters["departures_reply"]
        assert arrivals == departures + sum(
            counters.drops().values()
        ), f"arrivals are not departures + drops: {counters}"
        # Under strace every system call costs a hundred times as much, and with a sanitiser each
        # access to memory does some ten times.
        is_slow = "strace" in self.words or is_sanitised()
        for shard in [] if is_slow else self.all_events("shard_counters"):
            longest = int(shard["longest_turn_cpu_ns"])
            assert longest <= TURN_CPU_NS_MAX, (
                f"a turn of shard {shard['shard']} took {longest / 1e6:.1f} ms of processor time: "
                f"{shard}"
            )
        return counters

    def counters(self):
        """From the log; several lines (one per proxy) are summed."""
        lines = self.all_events("counters")
        assert lines, f"no final counters:\n{self.text()}"
        total = Counters()
        for line in lines:
            for key, value in line.items():
                if value.isdigit():
                    total[key] += int(value)
        return total
