"""The log's reader stands still, its file cannot be opened, or there is no standard error at all.
Nothing waits for a log: not the control thread, not the admin thread, not the end of the program.

    client 10.1.0.2 ── 10.1.0.1:5353 proxy 10.0.0.1 ── 10.0.0.254:53 service
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time

import pytest

from harness.admin import ctl_path, parse_metrics
from harness.program import configuration, parse_log_line, table
from harness.service import echo
from harness.topology import IPV4

_PIPE_BYTES = 4096
_MORE = 40  # further proxies, whose lines at the start are more than the pipe holds


class StuckReader:
    """A pipe that is standard error of the program, and that nobody reads until take_up()."""

    def __init__(self, directory):
        self.path = directory / "stuck"
        os.mkfifo(self.path)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.prefix = ("sh", "-c", 'exec "$@" 2>"$0"', str(self.path))
        self._text = bytearray()
        self._thread = None
        self._closing = False

    def take_up(self):
        fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, 1 << 20)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        while True:
            try:
                self._text += os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                if self._closing:
                    return
                time.sleep(0.01)

    def close(self):
        self._closing = True
        if self._thread:
            self._thread.join(10)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def events(self):
        whole, _, _ = self._text.decode().rpartition("\n")
        return [parse_log_line(line) for line in whole.splitlines()]

    def wait_event(self, name, timeout=60):
        deadline = time.monotonic() + timeout
        while f" event={name} ".encode() not in self._text:
            assert time.monotonic() < deadline, f"no {name} within {timeout} s: {self._text[-999:]}"
            time.sleep(0.05)


@pytest.fixture
def reader(tmp_path, closing):
    return closing(StuckReader(tmp_path))


def _wait(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not {what} within {timeout} s"
        time.sleep(0.05)


def _text(engine, admin, more=""):
    others = (
        table(name=f"more{i}", listen=IPV4.listener(6000 + i), upstream=IPV4.service(254))
        for i in range(_MORE)
    )
    echo_table = table(listen=IPV4.listener(), upstream=IPV4.service(254))
    head = admin.section(listen=True)
    return configuration(*others, echo_table, engine=engine, head=head) + more


def _start(engine, admin, start_proxy, reader):
    proxy = start_proxy(_text(engine, admin), prefix=reader.prefix, ready=False)
    _wait(lambda: admin.ctl("status").returncode == 0, "ready")
    return proxy


def test_a_reader_that_stands_still_holds_nothing_up(
    engine, admin, start_proxy, reader, open_service, open_client
):
    """The start hung, and so did signals, verbs and the end; after one `log level` the status page
    as well. Only SIGKILL ended it."""
    open_service([IPV4.service(254)], echo())
    proxy = _start(engine, admin, start_proxy, reader)
    client = open_client()
    assert client.ask(b"question", IPV4.listener()) is not None
    assert admin.shown("log", "level", "info") == "info\n"
    assert admin.http("/live")[0] == 200 and admin.http("/metrics", tcp=True)[0] == 200

    proxy.configuration_file.write_text(_text(engine, admin, "idle_timeout = '77s'\n"))
    proxy.signal(signal.SIGHUP)
    _wait(lambda: admin.json("status")["reloads"] == 1, "reloaded")
    proxy.signal(signal.SIGUSR1)
    assert admin.json("drain", "echo")["proxy"] == "echo"
    assert admin.json("resume", "echo")["proxy"] == "echo"
    assert client.ask(b"question", IPV4.listener()) is not None
    proxy.signal(signal.SIGQUIT)  # a session is there: it goes on until SIGTERM
    _wait(lambda: not admin.json("status")["ready"], "draining")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(20) == 0


def test_a_second_signal_ends_it_at_once_whatever_the_reader_does(
    engine, admin, start_proxy, reader
):
    proxy = _start(engine, admin, start_proxy, reader)
    proxy.stand_still()
    proxy.signal(signal.SIGTERM)
    proxy.signal(signal.SIGINT)
    proxy.go_on()
    assert proxy.wait(20) in (0, 1)  # 0: the shards were faster than the second signal


def test_lines_without_room_are_counted_and_the_log_says_so_when_the_reader_is_back(
    engine, admin, start_proxy, reader
):
    proxy = _start(engine, admin, start_proxy, reader)

    def dropped():
        metrics = parse_metrics(admin.http("/metrics")[2].decode())
        return metrics[("udpproxy_log_lines_dropped_total", ())]

    assert dropped() == 0
    wrong = "".join(f"wrong_{i:04} = 1\n" for i in range(1000))
    proxy.configuration_file.write_text(_text(engine, admin, wrong))
    deadline = time.monotonic() + 60
    while dropped() == 0:  # some 4 MiB of complaints
        assert time.monotonic() < deadline, "the queue has no end"
        proxy.signal(signal.SIGHUP)
        time.sleep(0.06)
    reader.take_up()
    reader.wait_event("log_dropped")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(20) == 0
    reader.close()
    events = reader.events()
    assert events[0]["event"] == "starting" and events[-1]["event"] == "stopped"
    assert all(event for event in events), "a line was broken in two"
    said = [event for event in events if event["event"] == "log_dropped"]
    assert all(event["level"] == "warn" and int(event["lines"]) > 0 for event in said)
    times = [event["time"] for event in events if event["event"] != "log_dropped"]
    assert times == sorted(times)


@pytest.mark.parametrize("cure", ["SIGUSR1", "SIGHUP"])
def test_a_log_file_that_could_not_be_opened_is_tried_again_by_a_signal(
    engine, cure, tmp_path, start_proxy
):
    """The log said `log_kept`, and neither cure reached the new file: the old name was opened."""
    listen = table(listen=IPV4.listener(), upstream=IPV4.service(254))
    file = tmp_path / "the.log"
    file.mkdir()
    proxy = start_proxy(configuration(listen, engine=engine))
    proxy.configuration_file.write_text(
        configuration(listen, engine=engine, head=f'[log]\nfile = "{file}"')
    )
    proxy.signal(signal.SIGHUP)
    kept = proxy.wait_event("log_kept")
    assert str(file) in kept["reason"] and "Is a directory" in kept["reason"]
    proxy.wait_event("reload_change", change=f"log: kept: {kept['reason']}")
    proxy.wait_event("reloaded", reloads="1")
    file.rmdir()
    proxy.signal(signal.Signals[cure])
    news = {"SIGUSR1": "event=log_reopened", "SIGHUP": "event=reloaded"}[cure]
    proxy.wait_until(
        lambda: file.is_file() and news in file.read_text(), what=f"{news} in the file"
    )
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert "event=stopped" in file.read_text()


def test_a_log_file_on_a_file_system_that_does_not_answer_is_given_up(
    engine, tmp_path, start_proxy
):
    listen = table(listen=IPV4.listener(), upstream=IPV4.service(254))
    file = tmp_path / "the.log"
    proxy = start_proxy(configuration(listen, engine=engine))
    proxy.configuration_file.write_text(
        configuration(listen, engine=engine, head=f'[log]\nfile = "{file}"')
    )
    with hanging_opens(proxy, file):
        proxy.signal(signal.SIGHUP)
        assert "no answer within 2 s" in proxy.wait_event("log_kept", timeout=30)["reason"]
        proxy.wait_event("reloaded")


@contextlib.contextmanager
def hanging_opens(proxy, path):
    """open(2) of this path takes a minute."""
    tracer = subprocess.Popen(
        ["strace", "-qq", "-f", "-o", "/dev/null", "-p", str(proxy.worker_pid), "-P", str(path)]
        + ["-e", "trace=openat", "-e", "inject=openat:delay_enter=60000000"]
    )
    try:
        _wait(
            lambda: "TracerPid:\t0\n" not in open(f"/proc/{proxy.worker_pid}/status").read(),
            "traced",
            timeout=10,
        )
        yield
    finally:
        tracer.kill()
        tracer.wait(10)


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_never_become_sockets(engine, closed, admin, start_proxy):
    """Number 2 became a listener, and log lines left as datagrams."""
    proxy = start_proxy(
        _text(engine, admin), prefix=("sh", "-c", f'exec "$@" {closed}', "sh"), ready=False
    )
    _wait(lambda: admin.ctl("status").returncode == 0, "ready")
    for number in range(3):
        if f"{number}<&-" in closed or f"{number}>&-" in closed:
            assert os.readlink(f"/proc/{proxy.pid}/fd/{number}") == "/dev/null"
    proxy.signal(signal.SIGTERM)
    assert proxy.wait(20) == 0


def test_closed_standard_streams_of_udpproxyctl_never_become_sockets(admin, start_proxy):
    start_proxy(_text("epoll", admin))
    tracing = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", ctl_path(), "--socket", admin.socket]
        + ["trace", "--client", "10.1.0.2", "--seconds", "600"]
    )
    try:
        folder = f"/proc/{tracing.pid}/fd"
        _wait(lambda: open(f"/proc/{tracing.pid}/comm").read() == "udpproxyctl\n", "executed")
        _wait(lambda: len(os.listdir(folder)) >= 3, "at work")
        assert [os.readlink(f"{folder}/{number}") for number in range(3)] == ["/dev/null"] * 3
    finally:
        tracing.terminate()
        tracing.wait(10)
