"""When no capacity is left for another session: which one is evicted, which stays, what is said.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53, echoes

A session is assured once its client has written again after a reply. With one shard, so that
all share one capacity.
"""

import re
import time

import pytest

from harness import address
from harness.program import configuration, run_once, table
from harness.service import echo
from harness.topology import IPV4

_CAPACITY = 4
# Asked for, or what four ports allow.
_WALLS = {
    "sessions_max": {"sessions_max": _CAPACITY},
    "ports": {"ports": f"20000-{20000 + _CAPACITY - 1}"},
}


@pytest.fixture
def service(open_service):
    return open_service([IPV4.service(254)], echo())


def small(engine, **keys):
    return configuration(
        table(
            listen=IPV4.listener(), upstream=IPV4.service(254), **{"port_cooldown": "0s", **keys}
        ),
        engine=engine,
        shards=1,
    )


def ask(client, payload, timeout=20):
    reply = client.ask(payload, IPV4.listener(), timeout)
    return reply and reply.payload


def assure(client):
    assert ask(client, b"one") == b"one" and ask(client, b"two") == b"two"


@pytest.mark.parametrize("wall", _WALLS)
def test_a_new_client_is_dropped_and_counted_while_all_sessions_are_assured(
    engine, wall, service, start_proxy, open_client
):
    proxy = start_proxy(small(engine, **_WALLS[wall]))
    residents = [open_client() for _ in range(_CAPACITY)]
    for resident in residents:
        assure(resident)
    time.sleep(1.2)  # idle for longer than it takes to evict the unassured
    new_client = open_client()
    for _ in range(3):
        assert ask(new_client, b"new?", 0.2) is None
    assert proxy.wait_event("limit_met", proxy="echo")["reason"]
    before = {request.sender for request in service.requests}
    for resident in residents:
        assert ask(resident, b"still here") == b"still here"
    assert {request.sender for request in service.requests} == before and len(before) == _CAPACITY
    counters = proxy.stop()
    assert counters.drops() == {"drop_session_limit": 3}


@pytest.mark.parametrize("wall", _WALLS)
def test_a_new_client_evicts_the_unassured_session_that_was_idle_longest(
    engine, wall, service, start_proxy, open_client
):
    proxy = start_proxy(small(engine, **_WALLS[wall]))
    assured, oldest, younger, youngest = (open_client() for _ in range(_CAPACITY))
    assure(assured)
    payload_of = {oldest: b"oldest", younger: b"younger", youngest: b"youngest"}
    for resident, payload in payload_of.items():
        assert ask(resident, payload) == payload
        time.sleep(0.1)
    new_clients = []
    for evicted in (oldest, younger):
        time.sleep(1.2)
        new_clients.append(open_client())
        assert (
            ask(new_clients[-1], b"new? %d" % len(new_clients)) is not None
        ), "a session idle for a second was evicted"
        if wall == "ports":
            # The port shows which session it was.
            port = service.sender_of(b"new? %d" % len(new_clients))
            assert [request.payload for request in service.requests if request.sender == port][
                0
            ] == payload_of[evicted]
    assert ask(assured, b"still here") == b"still here"
    assert service.sender_of(b"still here") == service.sender_of(b"two")
    assert proxy.stop().drops() == {}


def test_an_unassured_session_that_was_active_within_the_second_is_not_evicted(
    engine, service, start_proxy, open_client
):
    proxy = start_proxy(small(engine, sessions_max=_CAPACITY))
    residents = [open_client() for _ in range(_CAPACITY)]
    began = time.monotonic()
    for resident in residents:
        assert ask(resident, b"one") == b"one"
    refused = ask(open_client(), b"new?", 0.2) is None
    if time.monotonic() - began >= 1:
        pytest.skip("this machine is too busy to ask five times within a second")
    assert refused
    time.sleep(1.2)
    assert ask(open_client(), b"new?") == b"new?"
    assert proxy.stop().drops() == {"drop_session_limit": 1}


def test_the_sum_of_two_proxies_is_bounded_by_limits_sessions_max(
    engine, service, start_proxy, open_client
):
    tables = [
        table(name=name, listen=IPV4.listener(port), upstream=IPV4.service(254))
        for name, port in (("one", 5001), ("two", 5002))
    ]
    proxy = start_proxy(
        configuration(
            *tables, engine=engine, shards=1, head=f"[limits]\nsessions_max = {_CAPACITY}"
        )
    )
    clients = [open_client() for _ in range(_CAPACITY + 1)]
    answered = [
        client.ask(b"new?", IPV4.listener((5001, 5002)[number % 2]), 3) is not None
        for number, client in enumerate(clients)
    ]
    assert answered == [True] * _CAPACITY + [False]
    assert proxy.wait_event("limit_met")


def test_clients_of_all_shards_share_the_capacity_of_a_proxy(service, start_one, open_crowd):
    proxy = start_one(sessions_max=40, shards=2)
    crowd = open_crowd(100)
    got = crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client, window=100, patience=3.0)
    assert len(got) == 40
    assert len({request.sender for request in service.requests}) == len(got)
    counters = proxy.stop()
    assert counters.drops() == {"drop_session_limit": 60}


@pytest.mark.parametrize("section", ["proxy", "limits"])
def test_sessions_that_cannot_fit_the_descriptors_are_refused_with_the_arithmetic(
    engine, section, tmp_path
):
    """5000 sessions under a hard limit of 1024 descriptors are refused at the start, not served
    until it breaks."""
    keys = {"sessions_max": 5000} if section == "proxy" else {}
    head = "[limits]\nsessions_max = 5000" if section == "limits" else ""
    file = tmp_path / "udpproxy.toml"
    file.write_text(
        configuration(
            table(listen="127.0.0.1:5353", upstream="127.0.0.2:5353", **keys),
            engine=engine,
            head=head,
        )
    )
    done = run_once("--config", file, prefix=("prlimit", "--nofile=1024:1024"))
    assert done.returncode == 78
    assert re.search(rf"{re.escape(str(file))}:\d+:\d+: .*sessions_max", done.stderr)
    assert "1024" in done.stderr and "5000" in done.stderr


def test_a_low_descriptor_limit_makes_the_capacity_small_not_the_program_fail(
    engine, service, start_proxy, open_crowd
):
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine),
        prefix=("prlimit", "--nofile=128:128"),
    )
    capacity = int(proxy.wait_event("capacity")["sessions"])
    assert 0 < capacity < 128
    crowd = open_crowd(200)
    got = crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client, window=200, patience=3.0)
    assert capacity // 2 <= len(got) <= capacity
    proxy.stop()


def test_the_soft_descriptor_limit_is_raised_to_the_hard_one(engine, start_proxy):
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine),
        prefix=("prlimit", "--nofile=64:8192"),
    )
    assert int(proxy.wait_event("capacity")["sessions"]) > 1000
    with open(f"/proc/{proxy.worker_pid}/limits", encoding="ascii") as limits:
        assert re.search(r"Max open files\s+8192\s+8192", limits.read())


def test_a_session_ends_after_its_timeout_and_its_port_serves_again(
    engine, service, start_proxy, open_client
):
    start_proxy(small(engine, ports="20000-20000", unassured_timeout="400ms", idle_timeout="4s"))
    first, second = open_client(), open_client()
    assert ask(first, b"unassured") == b"unassured"
    time.sleep(0.9)
    assure(second)
    time.sleep(0.7)
    assert (
        ask(open_client(), b"too early", 0.2) is None
    ), "an assured session lives for idle_timeout"
    time.sleep(4.2)
    assert ask(open_client(), b"third") == b"third"
    assert {address.port_of(request.sender) for request in service.requests} == {20000}


@pytest.fixture
def five_hosts(network):
    """Five more addresses of the client's machine, one for each of five clients."""
    hosts = [f"10.1.0.{last}" for last in range(10, 15)]
    network.client.ip(*(f"addr add {host}/24 dev to-proxy" for host in hosts))
    yield hosts
    network.client.ip(*(f"addr del {host}/24 dev to-proxy" for host in hosts))


def test_one_more_client_host_than_sessions_max_is_one_counted_drop(
    engine, service, five_hosts, start_proxy, open_client
):
    """The count of each client host was kept in a table of sessions_max entries, and was taken
    before the session itself was. With sessions_per_client_max, the first datagram of one host too
    many ended the program."""
    proxy = start_proxy(small(engine, sessions_max=_CAPACITY, sessions_per_client_max=2))
    *residents, new_client = (open_client(f"{host}:0") for host in five_hosts)
    for resident in residents:
        assure(resident)
    assert ask(new_client, b"new?", 0.3) is None
    for resident in residents:
        assert ask(resident, b"still here") == b"still here"
    counters = proxy.stop()
    assert (
        counters.drops() == {"drop_session_limit": 1} and counters["sessions_admitted"] == _CAPACITY
    )
