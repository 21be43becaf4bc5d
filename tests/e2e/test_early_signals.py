"""Signals that come before the program can obey them: while it reads its configuration, while it
waits for names.

    client                        proxy
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1
"""

import contextlib
import os
import pathlib
import signal
import socket
import time

import pytest

from harness.program import configuration, table
from harness.topology import IPV4


def _text(engine, upstream=IPV4.service(254), name="echo"):
    return configuration(table(name=name, listen=IPV4.listener(), upstream=upstream), engine=engine)


def _opened_for_writing(fifo, timeout=30):
    """The pipe, as soon as the program has opened it for reading."""
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        assert time.monotonic() < deadline, f"nobody reads {fifo}"
        time.sleep(0.01)


def _start_from_pipe(engine, start_proxy, tmp_path, prefix=()):
    """The program, while it waits for its configuration; finish() brings that."""
    fifo = tmp_path / "pipe.toml"
    os.mkfifo(fifo)
    proxy = start_proxy(
        _text(engine),
        prefix=(*prefix, "sh", "-c", 'exec "$1" --config "$0"', str(fifo)),
        ready=False,
    )
    writer = _opened_for_writing(fifo)

    def finish(next_text):
        other = tmp_path / "next.toml"
        other.write_text(next_text)
        other.rename(fifo)  # what a reload finds
        os.write(writer, _text(engine).encode())
        os.close(writer)

    return proxy, finish


def test_signals_during_the_first_moments_are_obeyed_once_it_is_ready(
    engine, tmp_path, start_proxy
):
    """SIGHUP killed it within the first 20 to 40 ms, or as long as a large file was read."""
    proxy, finish = _start_from_pipe(engine, start_proxy, tmp_path)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        proxy.signal(number)
    time.sleep(0.2)
    finish(_text(engine, name="renamed"))
    proxy.wait_event("ready")
    proxy.wait_event("reloaded", reloads="1")
    proxy.wait_event("log_reopened")
    proxy.wait_event("reload_change", change='proxy "renamed": added')


def test_sigterm_during_the_first_moments_ends_it(engine, tmp_path, start_proxy):
    proxy, _ = _start_from_pipe(engine, start_proxy, tmp_path)
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == -signal.SIGTERM


_AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")


def _process_1(proxy):
    """The program, whose parent is unshare."""
    children = pathlib.Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children")
    (child,) = proxy.wait_until(lambda: children.read_text().split(), what="a child")
    return int(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_first_moments_ends_process_1_too(
    number, engine, tmp_path, start_proxy
):
    """In a container the kernel dropped it, and the engine killed the program ten seconds later."""
    proxy, _ = _start_from_pipe(engine, start_proxy, tmp_path, _AS_PROCESS_1)
    os.kill(_process_1(proxy), number)
    assert proxy.wait() == 128 + number


def test_process_1_stops_in_order(engine, start_proxy):
    proxy = start_proxy(_text(engine), prefix=_AS_PROCESS_1)
    os.kill(_process_1(proxy), signal.SIGTERM)
    proxy.stopped()


@contextlib.contextmanager
def _silent_resolver(network):
    """A name server that never answers, at 10.0.0.1 of the proxy."""
    with network.proxy.inside():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("10.0.0.1", 53))
    with server:
        yield


def _start_with_silent_name(engine, network, start_proxy, tmp_path):
    resolvers = pathlib.Path(tmp_path) / "resolv.conf"
    resolvers.write_text("nameserver 10.0.0.1\n")
    mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    proxy = start_proxy(
        _text(engine, upstream="silent.test:53"),
        prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", mount)
        + (str(resolvers),),
        ready=False,
    )
    proxy.wait_event("starting")
    return proxy


def test_signals_while_the_start_waits_for_names_are_obeyed(engine, network, tmp_path, start_proxy):
    """They were read and forgotten."""
    with _silent_resolver(network):
        proxy = _start_with_silent_name(engine, network, start_proxy, tmp_path)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            proxy.signal(number)
        proxy.wait_event("ready")
        proxy.wait_event("log_reopened")
        proxy.wait_event("reloaded")


def test_a_drain_asked_for_while_the_start_waits_for_names_ends_it(
    engine, network, tmp_path, start_proxy
):
    with _silent_resolver(network):
        proxy = _start_with_silent_name(engine, network, start_proxy, tmp_path)
        proxy.signal(signal.SIGQUIT)
        assert proxy.wait(20) == 0
        proxy.wait_event("draining")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_while_the_start_waits_for_names_ends_it_at_once(
    engine, number, network, tmp_path, start_proxy
):
    with _silent_resolver(network):
        proxy = _start_with_silent_name(engine, network, start_proxy, tmp_path)
        proxy.signal(number)
        assert proxy.wait(20) == 0
        assert proxy.wait_event("stopped")["signal"] == number.name
        assert not proxy.all_events("ready")
