"""A program in a namespace: its output line by line, a bound on every wait, an end by its own pid.
"""

import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time


class Process:
    """Standard error and standard output are read as one stream, by a thread, so that the program
    never blocks on us."""

    def __init__(self, words, namespace=None):
        self.words = list(words)
        self.lines = []
        self._news = queue.Queue()
        # The kernel ends the program if the test run is killed.
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            *(namespace.command(*words) if namespace else words),
        ]
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self._popen.pid

    @property
    def worker_pid(self):
        """The process that does the work."""
        return self.pid

    def _read(self):
        for line in self._popen.stdout:
            self._news.put(line.rstrip("\n"))
        self._news.put(None)

    def _take(self, timeout):
        """One more line into `lines`; None when there is none (yet, or ever: see running)."""
        try:
            line = self._news.get(timeout=timeout) if timeout > 0 else self._news.get_nowait()
        except queue.Empty:
            return None
        if line is None:
            self._news.put(None)  # the end stays the end
            return None
        self.lines.append(line)
        self.arrived(line)
        return line

    def arrived(self, line):
        """For those who parse lines."""

    def catch_up(self):
        while self._take(0) is not None:
            pass

    def wait_until(self, condition, timeout=30, what="a line"):
        """Reads lines until `condition()` is true (its value is returned); fails at the program's
        end or the time-out."""
        deadline = time.monotonic() + timeout
        while True:
            self.catch_up()
            if found := condition():
                return found
            ended = self._popen.poll() is not None
            if self._take(min(0.2, max(0.0, deadline - time.monotonic()))) is None:
                if ended:
                    self.catch_up()
                    if found := condition():
                        return found
                    raise AssertionError(
                        f"{self.words[0]} ended with exit code {self._popen.returncode} before "
                        f"{what}:\n{self.text()}"
                    )
                if time.monotonic() >= deadline:
                    raise AssertionError(
                        f"{self.words[0]}: no {what} within {timeout} s:\n{self.text()}"
                    )

    def wait(self, timeout=30):
        """The exit code, with everything the program said in `lines`."""
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.words[0]} did not end within {timeout} s:\n{self.text()}"
            ) from None
        self._reader.join(5)
        self.catch_up()
        return code

    def wait_until_idle(self, seconds=0.3):
        """Until all its threads have slept for so long: what came is done with."""
        deadline = time.monotonic() + 30
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(0.01)
            if any(
                self._state(thread) == "R" for thread in os.listdir(f"/proc/{self.worker_pid}/task")
            ):
                since = time.monotonic()
            assert time.monotonic() < deadline, f"{self.words[0]} is not idle after 30 s"

    def running(self):
        return self._popen.poll() is None

    def signal(self, number):
        self._popen.send_signal(number)

    def stand_still(self):
        """SIGSTOP, and a wait until no thread runs any more: the kernel tells them one by one, and
        until then they go on."""
        os.kill(self.worker_pid, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        # A ring's kernel workers do not stop; they only wait.
        while not all(
            self._state(thread) in ("T", "iou")
            for thread in os.listdir(f"/proc/{self.worker_pid}/task")
        ):
            assert time.monotonic() < deadline, f"{self.words[0]} goes on 10 s after SIGSTOP"
            time.sleep(0.001)

    def _state(self, thread):
        """The letter of proc(5); "iou" for a ring's kernel worker."""
        with open(f"/proc/{self.worker_pid}/task/{thread}/stat", encoding="utf-8") as file:
            name, rest = file.read().rsplit(")", 1)
        return "iou" if "(iou-" in name else rest.split()[0]

    def go_on(self):
        os.kill(self.worker_pid, signal.SIGCONT)

    def kill(self):
        if self.running():
            self._popen.kill()
        self._popen.wait(10)
        self._reader.join(5)
        self.catch_up()

    def text(self):
        self.catch_up()
        return "\n".join(self.lines)


def injecting(call, fault, directory):
    """Goes before a command: its system calls of this name get strace's `fault`, as recorded in
    directory/strace. With -D strace is the grandchild, so that pid and exit code are the program's.
    """
    record = str(directory / "strace")
    return f"strace -D -f -q -e trace={call} -e inject={call}:{fault} -o".split() + [record, "--"]


@contextlib.contextmanager
def faulty_children(process, *faults):
    """Processes that it starts within the `with` have strace's faults: "CALL:FAULT"."""
    calls = ",".join(fault.split(":")[0] for fault in faults)
    words = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}"]
    for fault in faults:
        words += ["-e", f"inject={fault}"]
    tracer = subprocess.Popen([*words, "-p", str(process.pid)])
    try:
        _wait_for_tracer(pathlib.Path(f"/proc/{process.pid}"))
        yield
    finally:
        tracer.kill()  # and what it traces goes on
        tracer.wait(10)


def _wait_for_tracer(thread):
    deadline = time.monotonic() + 20
    while "TracerPid:\t0\n" in (thread / "status").read_text():
        assert time.monotonic() < deadline, "strace is not there after 20 s"
        time.sleep(0.01)


@contextlib.contextmanager
def slow_thread(process, name, seconds):
    """Each system call of the thread of this name takes so much longer, within the `with`."""
    tasks = pathlib.Path(f"/proc/{process.worker_pid}/task")
    (thread,) = [task for task in tasks.iterdir() if (task / "comm").read_text() == f"{name}\n"]
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", "/dev/null", "-p", thread.name]
        + ["-e", f"inject=all:delay_enter={seconds * 1e6:.0f}"]
    )
    try:
        _wait_for_tracer(thread)
        yield
    finally:
        tracer.kill()  # or it would let go of the thread only when the call is over
        tracer.wait(10)
