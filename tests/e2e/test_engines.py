"""Which engine runs, and what happens where io_uring is refused, as Docker's default profile and
kernel.io_uring_disabled do (K25).

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias

The refusal is strace's: io_uring_setup returns EPERM (or ENOSYS, as on old kernels) without being
called.
"""

import signal

import pytest

from harness.process import injecting
from harness.program import configuration, table
from harness.service import from_each
from harness.topology import IPV4
from harness.users import as_its_user, several_users

_SOURCES = [IPV4.service(254), IPV4.service(253)]
_TABLE = table(listen=IPV4.listener(), upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]])


@pytest.mark.parametrize(
    "error, words", [("EPERM", "Operation not permitted"), ("ENOSYS", "Function not implemented")]
)
def test_auto_takes_epoll_where_io_uring_is_refused_and_says_which_call_failed_and_why(
    error, words, tmp_path, start_proxy, open_service, open_crowd
):
    open_service(_SOURCES, from_each(_SOURCES))
    proxy = start_proxy(
        configuration(_TABLE, engine="auto"),
        prefix=injecting("io_uring_setup", f"error={error}", tmp_path),
    )
    (event,) = proxy.all_events("engine")
    assert event["engine"] == "epoll"
    assert "io_uring_setup" in event["reason"] and words in event["reason"]
    assert "INJECTED" in (tmp_path / "strace").read_text()
    got = open_crowd(20).ask_all(IPV4.listener(), lambda client: b"%d" % client, replies=2)
    assert len(got) == 40
    assert proxy.stop().drops() == {}


def test_io_uring_demanded_but_refused_ends_with_exit_code_1_and_a_reason(tmp_path, start_proxy):
    proxy = start_proxy(
        configuration(_TABLE, engine="io_uring"),
        prefix=injecting("io_uring_setup", "error=EPERM", tmp_path),
        ready=False,
    )
    assert proxy.wait() == 1
    assert "io_uring_setup" in proxy.text() and "Operation not permitted" in proxy.text()
    assert proxy.all_events("ready") == []


def _with_locked_memory(kib, **options):
    return as_its_user("prlimit", f"--memlock={kib * 1024}:{kib * 1024}", **options)


@several_users
def test_auto_takes_epoll_for_all_shards_when_the_ring_of_a_later_one_is_refused(
    start_proxy, open_service, open_crowd
):
    open_service(_SOURCES, from_each(_SOURCES))
    proxy = start_proxy(
        configuration(_TABLE, engine="auto", shards=8), prefix=_with_locked_memory(2000)
    )
    (event,) = proxy.all_events("engine")
    assert event["engine"] == "epoll"
    assert "shard " in event["reason"] and "RLIMIT_MEMLOCK allows 2000 KiB" in event["reason"]
    got = open_crowd(20).ask_all(IPV4.listener(), lambda client: b"%d" % client, replies=2)
    assert len(got) == 40
    assert proxy.stop().drops() == {}


@several_users
def test_io_uring_demanded_with_too_little_locked_memory_ends_and_names_the_limit(start_proxy):
    proxy = start_proxy(
        configuration(_TABLE, engine="io_uring", shards=8),
        prefix=_with_locked_memory(2000),
        ready=False,
    )
    assert proxy.wait() == 1
    assert "RLIMIT_MEMLOCK allows 2000 KiB" in proxy.text() and "LimitMEMLOCK=" in proxy.text()


@several_users
def test_eight_shards_and_quick_restarts_get_by_with_the_usual_locked_memory(start_proxy):
    """What an ended program held is given back some moments later (K44)."""
    for _ in range(6):
        proxy = start_proxy(
            configuration(_TABLE, engine="auto", shards=8), prefix=_with_locked_memory(8192)
        )
        (event,) = proxy.all_events("engine")
        assert event["engine"] == "io_uring", event
        proxy.stop()


@several_users
def test_an_upgrade_gets_by_with_the_locked_memory_of_one_program(start_proxy):
    """The rings of the worker before are closed late, once the next one serves. Who may write the
    program may not have it upgraded."""
    proxy = start_proxy(
        configuration(_TABLE, engine="auto", shards=8),
        # Rings of other tests' programs would count, too.
        prefix=_with_locked_memory(4000, capability="dac_read_search", user="64322"),
    )
    proxy.signal(signal.SIGUSR2)
    proxy.wait_until(lambda: len(proxy.all_events("ready")) == 2, what="ready again")
    assert [event["engine"] for event in proxy.all_events("engine")] == ["io_uring"] * 2
    proxy.stop()


def test_the_engine_that_is_asked_for_is_the_one_that_runs(engine, start_proxy):
    proxy = start_proxy(configuration(_TABLE, engine=engine))
    (event,) = proxy.all_events("engine")
    assert event["engine"] == engine
