"""The local addresses towards the upstream: named, found by routing, gone and back.

    client                        proxy                                     service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1, 10.0.0.9  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias
                                        10.0.0.9 comes and goes
"""

import socket
import time

import pytest

from harness import address
from harness.program import configuration, table
from harness.service import in_turn
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253)]


def one_proxy(engine, **keys):
    return configuration(
        table(listen=IPV4.listener(), upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]], **keys),
        engine=engine,
        shards=1,
    )


@pytest.fixture
def second_address(network):
    """10.0.0.9 at the proxy; yields a function that takes it away, and one that gives it back."""

    def add():
        network.proxy.ip("addr replace 10.0.0.9/24 dev to-service")

    def remove():
        network.proxy.ip("addr del 10.0.0.9/24 dev to-service")

    add()
    yield remove, add
    add()
    remove()


@pytest.fixture
def service(open_service):
    return open_service(_SOURCES, in_turn(_SOURCES))


def host_of(endpoint):
    return address.split(endpoint)[0]


def test_two_sources_have_their_own_ports_and_share_the_sessions(
    engine, second_address, service, start_proxy, open_crowd
):
    proxy = start_proxy(one_proxy(engine, source=["10.0.0.1", "10.0.0.9"], ports="20000-20009"))
    got = open_crowd(20).ask_all(IPV4.listener(), lambda client: b"%d" % client)
    assert len(got) == 20
    sessions = {request.sender for request in service.requests}
    assert sessions == {
        f"{host}:{port}" for host in ("10.0.0.1", "10.0.0.9") for port in range(20000, 20010)
    }
    assert proxy.stop().drops() == {}


def test_while_a_source_is_gone_new_clients_are_counted_and_later_ones_served(
    engine, second_address, service, start_proxy, open_client
):
    remove, add = second_address
    proxy = start_proxy(one_proxy(engine, source="10.0.0.9"))
    early = open_client()
    assert early.ask(b"early", IPV4.listener()) is not None
    remove()
    time.sleep(1.1)  # the source is looked up once a second at most
    assert open_client().ask(b"nobody", IPV4.listener(), 0.3) is None
    assert proxy.wait_event("limit_met")["reason"] == "source_unavailable"
    add()
    time.sleep(1.1)
    assert open_client().ask(b"later", IPV4.listener()) is not None
    assert (
        early.ask(b"early again", IPV4.listener()) is not None
    ), "a session outlives the absence of its address"
    assert {host_of(request.sender) for request in service.requests} == {"10.0.0.9"}
    assert proxy.stop()["drop_source_unavailable"] == 1


def test_when_routing_says_another_source_resting_groups_close_and_give_their_ports_back(
    engine, second_address, network, service, start_proxy, open_client
):
    """A socket with an armed receive of io_uring is not closed by close() alone: its port would
    stay bound (K20)."""
    start_proxy(one_proxy(engine, unassured_timeout="200ms", port_cooldown="60s"))
    assert open_client().ask(b"before", IPV4.listener()) is not None
    time.sleep(1.1)  # the session has ended, its group cools down
    cooling = address.split(service.sender_of(b"before"))
    assert cooling[0] == "10.0.0.1" and not can_bind(network, cooling)
    network.proxy.ip(
        "route replace 10.0.0.0/24 dev to-service proto kernel scope link src 10.0.0.9"
    )
    try:
        assert open_client().ask(b"after", IPV4.listener()) is not None
        assert host_of(service.sender_of(b"after")) == "10.0.0.9"
        deadline = time.monotonic() + 20
        while not can_bind(network, cooling):
            assert time.monotonic() < deadline, "the port is still bound"
            time.sleep(0.05)
    finally:
        network.proxy.ip(
            "route replace 10.0.0.0/24 dev to-service proto kernel scope link src 10.0.0.1"
        )


def can_bind(network, endpoint):
    with network.proxy.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind(endpoint)
        except OSError:
            return False
        return True
