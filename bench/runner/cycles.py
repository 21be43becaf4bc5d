"""CPU cycles of some processes over a window, by `perf stat`, where the machine has the counters.
Virtual machines often have not; then the benchmark tells nanoseconds of CPU time alone, and says
so."""

import shutil
import subprocess


class Cycles:
    def __init__(self):
        self.reason = "" if shutil.which("perf") else "there is no perf here"
        if (
            not self.reason
            and self._parse(
                subprocess.run(
                    ["perf", "stat", "-x", ",", "-e", "cycles", "true"],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stderr
            )
            is None
        ):
            self.reason = "perf stat: cycles are not supported by this machine"

    @property
    def supported(self):
        return not self.reason

    def start(self, pids, seconds):
        """Counts from now on for so long; None where there is nothing to count."""
        if not self.supported or not pids:
            return None
        return subprocess.Popen(
            [
                "perf",
                "stat",
                "-x",
                ",",
                "-e",
                "cycles",
                "-p",
                ",".join(map(str, pids)),
                "sleep",
                str(seconds),
            ],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def result(self, counting):
        return self._parse(counting.communicate(timeout=60)[1]) if counting else None

    @staticmethod
    def _parse(text):
        for line in text.splitlines():
            fields = line.split(",")
            if len(fields) > 2 and fields[2].startswith("cycles") and fields[0].isdigit():
                return int(fields[0])
        return None
