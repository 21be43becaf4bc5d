"""The configuration is something else than a file: a pipe, a directory, a device, a file system
that does not answer, another encoding.

    client                        proxy
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1
"""

import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest

from harness import program
from harness.program import configuration, run_once, table
from harness.topology import IPV4

_GOOD = configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)))


def _refusal(path):
    done = run_once("--check-config", "--config", path, timeout=30)
    assert done.returncode == 78
    return done.stderr


def test_a_directory_a_device_and_a_socket_are_refused(tmp_path):
    assert _refusal(tmp_path) == f"{tmp_path}: cannot be read: it is a directory\n"
    assert _refusal("/dev/zero") == "/dev/zero: cannot be read: it is a device\n"
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path)
        assert _refusal(path) == f"{path}: cannot be read: it is a socket\n"


def test_a_pipe_without_a_writer_is_refused_in_time(tmp_path):
    """It waited for ever."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    assert _refusal(fifo) == f"{fifo}: cannot be read: no answer within 10 s\n"


@pytest.mark.parametrize(
    "command",
    [
        'printf %s "$2" | "$1" --check-config --config /dev/stdin',
        '"$1" --check-config --config <(printf %s "$2")',
        '"$1" --check-config --config <(sleep 0.5; printf %s "$2")',
    ],
)
def test_a_pipe_with_a_writer_is_read(command):
    done = subprocess.run(
        ["bash", "-c", command, "bash", program.path(), _GOOD],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert "configuration is good" in done.stdout


def test_utf_16_is_named_and_the_mark_of_utf_8_is_taken(tmp_path):
    file = tmp_path / "udpproxy.toml"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        file.write_bytes(_GOOD.encode(encoding))
        assert _refusal(file) == f"{file}: cannot be read: it is UTF-16; save it as UTF-8\n"
        done = run_once("--from-caddyfile", file)
        assert (done.returncode, done.stderr) == (
            78,
            f"{file}: cannot be read: it is UTF-16; save it as UTF-8\n",
        )
    file.write_bytes(_GOOD.encode("utf-8-sig"))
    assert run_once("--check-config", "--config", file).returncode == 0


@contextlib.contextmanager
def _pipe(proxy):
    proxy.configuration_file.unlink()
    os.mkfifo(proxy.configuration_file)
    yield


@contextlib.contextmanager
def _hanging_file_system(proxy):
    """open(2) of the file takes a minute."""
    tracer = subprocess.Popen(
        ["strace", "-qq", "-f", "-o", "/dev/null", "-p", str(proxy.worker_pid)]
        + ["-P", str(proxy.configuration_file)]
        + ["-e", "trace=openat", "-e", "inject=openat:delay_enter=60000000"]
    )
    try:
        deadline = time.monotonic() + 10
        while "TracerPid:\t0\n" in open(f"/proc/{proxy.worker_pid}/status").read():
            assert time.monotonic() < deadline, "strace is not there after 10 s"
            time.sleep(0.01)
        yield
    finally:
        tracer.kill()
        tracer.wait(10)


@pytest.mark.parametrize("becomes", [_pipe, _hanging_file_system])
def test_a_reload_of_a_file_that_does_not_answer_is_refused_in_time(engine, becomes, start_proxy):
    """No signal but SIGKILL reached the program any more."""
    text = configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine)
    proxy = start_proxy(text)
    with becomes(proxy):
        proxy.signal(signal.SIGHUP)
        refusal = proxy.wait_event("reload_failed", timeout=30)
        assert refusal["reason"] == (
            f"{proxy.configuration_file}: cannot be read: no answer within 2 s"
        )
    proxy.configuration_file.unlink()
    proxy.configuration_file.write_text(text)
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
