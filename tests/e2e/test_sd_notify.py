"""What a service manager is told (sd_notify(3)), by a stand-in for one.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service
"""

import os
import signal
import time

import pytest

from harness.sd_notify import Manager
from harness.process import slow_thread
from harness.program import configuration, table
from harness.service import echo
from harness.topology import IPV4

_LISTENER, _SERVICE = IPV4.listener(), IPV4.service(254)


def _configuration(**options):
    return configuration(table(listen=_LISTENER, upstream=_SERVICE), **options)


_GOOD = _configuration()


@pytest.fixture
def manager(tmp_path, closing):
    return closing(Manager(tmp_path / "notify"))


@pytest.fixture
def start(start_proxy, manager):
    def start(text=_GOOD, variables=None, **options):
        return start_proxy(text, prefix=manager.environment(**(variables or {})), **options)

    return start


def _figures(message):
    return " sessions, " in message["STATUS"]


def test_ready_comes_when_the_listeners_answer_and_stopping_at_the_end(
    engine, start, manager, open_service, open_client
):
    open_service([_SERVICE], echo())
    client = open_client()
    text = _configuration(engine=engine)
    proxy = start(text, ready=False)
    ready = manager.wait(READY="1")
    assert client.ask(b"at once", _LISTENER).payload == b"at once"
    assert ready["pid"] == proxy.pid, "only the main process may speak (NotifyAccess=main)"
    status = manager.wait(STATUS=None, accept=_figures)["STATUS"]
    assert status.endswith(" 0 datagrams/s, 0 dropped in the last 5 s, no problem")
    asked = manager.wait(STATUS=None, accept=lambda message: "1 of" in message["STATUS"])
    assert " 0 datagrams/s" in asked["STATUS"], "two in five seconds are less than half of one"
    assert not manager.all(STOPPING="1") and not manager.all(WATCHDOG="1")
    proxy.stop()
    manager.wait(STOPPING="1")
    assert manager.all(READY="1") == [ready]


def test_a_start_that_fails_is_never_ready(start, manager, start_proxy):
    start_proxy(_GOOD)
    proxy = start(ready=False)
    assert proxy.wait() == 1
    assert manager.all(READY="1") == []


def test_a_reload_is_told_with_its_time_and_a_refused_one_with_its_reason(start, manager, admin):
    good = _configuration(head=admin.section())
    proxy = start(good)
    manager.wait(READY="1")
    before = time.monotonic_ns() // 1000
    proxy.signal(signal.SIGHUP)
    manager.wait(READY="1", count=2)
    (reloading,) = manager.all(RELOADING="1")
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert manager.messages.index(reloading) < manager.messages.index(
        manager.all(READY="1")[1]
    ), "ready again after it, or the manager waits for ever"

    proxy.configuration_file.write_text("what = 1\n", encoding="utf-8")
    proxy.signal(signal.SIGHUP)
    again = manager.wait(READY="1", count=3)
    assert again["STATUS"].startswith("the last reload was refused: ")
    assert f"{proxy.configuration_file}:1:1: " in again["STATUS"]
    figures = manager.wait(STATUS=None, accept=_figures)
    assert (
        again["STATUS"]
        in manager.wait(
            STATUS=None,
            accept=lambda message: _figures(message) and message["heard"] > again["heard"],
        )["STATUS"]
    ), f"the figures hide it: {figures}"

    proxy.configuration_file.write_text(good, encoding="utf-8")
    assert admin.ctl("reload").returncode == 0
    done = manager.wait(READY="1", count=4)
    assert len(manager.all(RELOADING="1")) == 3, "a reload that udpproxyctl asks for is one too"
    assert "refused" not in done["STATUS"]


def test_a_drain_is_told(start, manager, open_service, open_client):
    open_service([_SERVICE], echo())
    proxy = start(arguments=("--drain-timeout", "60s"))
    assert open_client().ask(b"stays", _LISTENER).payload == b"stays"
    proxy.signal(signal.SIGQUIT)
    manager.wait(
        STATUS=None, accept=lambda message: message["STATUS"].startswith("draining: 1 of ")
    )
    proxy.stop()
    manager.wait(STOPPING="1")


def test_the_watchdog_is_fed_while_every_shard_turns(engine, start, manager):
    proxy = start(
        _configuration(engine=engine),
        variables={"WATCHDOG_USEC": 400_000},
        arguments=["--single-process"],
    )
    manager.wait(WATCHDOG="1", count=4)  # idle shards turn because they are woken
    with slow_thread(proxy, "shard 1", 60):
        manager.wait_for_silence(1.2, WATCHDOG="1")
        assert proxy.wait_event("shard_stands_still")["shard"] == "1"
        assert manager.all(STATUS=None), "the control thread goes on"


def test_a_keeper_replaces_a_worker_with_a_shard_that_stands_still(engine, start, manager):
    """At half of the manager's limit, which would end both."""
    proxy = start(_configuration(engine=engine), variables={"WATCHDOG_USEC": 4_000_000})
    manager.wait(WATCHDOG="1", count=2)
    with slow_thread(proxy, "shard 1", 60):
        assert proxy.wait_event("shard_stands_still")["shard"] == "1"
        manager.wait_for_silence(2.5, WATCHDOG="1")
    proxy.wait_until(lambda: len(proxy.all_events("ready")) == 2, what="another worker")
    fed = len(manager.all(WATCHDOG="1"))
    manager.wait(WATCHDOG="1", count=fed + 2)


def test_a_watchdog_of_another_process_is_not_fed(start, manager):
    proxy = start(variables={"WATCHDOG_USEC": 100_000, "WATCHDOG_PID": os.getpid()})
    manager.wait(STATUS=None, accept=_figures)
    proxy.stop()
    assert manager.all(WATCHDOG="1") == []


@pytest.mark.parametrize(
    "socket, reason",
    [
        ("/nowhere/notify", "send: No such file or directory"),
        ("@udpproxy-nobody", "send: Connection refused"),
        ("vsock:2:1234", "NOTIFY_SOCKET is neither a path nor an abstract name"),
        ("/" + "x" * 200, "NOTIFY_SOCKET is neither a path nor an abstract name"),
    ],
)
def test_a_manager_that_is_not_there_is_one_warning(
    start_proxy, open_service, open_client, socket, reason
):
    open_service([_SERVICE], echo())
    proxy = start_proxy(_GOOD, prefix=["env", f"NOTIFY_SOCKET={socket}", "WATCHDOG_USEC=100000"])
    assert open_client().ask(b"served", _LISTENER).payload == b"served"
    assert proxy.wait_event("manager_unreachable")["reason"].startswith(reason)
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    proxy.stop()
    assert len(proxy.all_events("manager_unreachable")) == 1


def test_a_time_that_is_none_is_a_warning(start, manager):
    proxy = start(variables={"WATCHDOG_USEC": "soon"})
    assert proxy.wait_event("manager_unreachable")["reason"] == "WATCHDOG_USEC=soon is no time"
    manager.wait(READY="1")


def test_nobody_waits_for_a_manager_that_reads_nothing(start, manager, open_service, open_client):
    """libsystemd's sd_notify would: after eleven messages (net.unix.max_dgram_qlen) the control
    thread would stand still, and SIGTERM with it."""
    open_service([_SERVICE], echo())
    proxy = start(variables={"WATCHDOG_USEC": 2})  # fed at every look
    for number in range(1, 21):
        proxy.signal(signal.SIGHUP)
        proxy.wait_until(
            lambda: len(proxy.all_events("reloaded")) >= number, what=f"reload {number}"
        )
    assert open_client().ask(b"served", _LISTENER).payload == b"served"
    manager.catch_up()
    held = len(manager.all(READY="1"))
    assert held < 10, "the queue of this socket is longer than a new namespace's"
    manager.wait(READY="1", count=held + 1)  # the newest state is told when there is room again
    proxy.stop()
    manager.wait(STOPPING="1")


def test_children_are_not_told_of_the_manager(start, tmp_path, admin, manager):
    """A child that speaks in the program's place would end it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    nft = tools / "nft"
    nft.write_text(f"#!/bin/sh\nenv >{tools}/environment\n", encoding="utf-8")
    nft.chmod(0o755)
    handed = {"LISTEN_PID": 1, "LISTEN_FDS": 1, "LISTEN_FDNAMES": "a"}
    start(
        _configuration(head=admin.section()),
        variables={"PATH": f"{tools}:{os.environ['PATH']}", "WATCHDOG_USEC": 1_000_000, **handed},
    )
    admin.ctl("doctor")
    environment = (tools / "environment").read_text(encoding="utf-8")
    assert "PATH=" in environment
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", *handed)
    assert not [name for name in names if name in environment]
