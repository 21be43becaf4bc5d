"""No other socket gets into a session: not while its group opens, not later, not by binding its
port (K1 to K5).

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias
                                                            10.0.0.250:53 and 10.0.0.254:9999, unlisted, write to every session's port
"""

import errno
import pathlib
import socket
import sys

import pytest

from harness import address
from harness.client import open_socket
from harness.process import injecting
from harness.program import configuration, table
from harness.service import in_turn
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253)]
_UNLISTED = ["10.0.0.250:53", "10.0.0.254:9999"]


def one_proxy(engine, **keys):
    return configuration(
        table(listen=IPV4.listener(), upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]], **keys),
        engine=engine,
    )


@pytest.mark.parametrize("alias_filter", ["connected", "open"])
@pytest.mark.parametrize("unlisted_replies", ["auto", "off"])
def test_what_an_unlisted_source_writes_while_groups_open_reaches_no_client(
    engine,
    alias_filter,
    unlisted_replies,
    network,
    start_process,
    open_service,
    start_proxy,
    open_crowd,
):
    """The unlisted source floods all ports of the range while sessions open on them: some of it
    falls between bind and connect (K3)."""
    service = open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(
        one_proxy(
            engine,
            alias_filter=alias_filter,
            unlisted_replies=unlisted_replies,
            ports="20000-20499",
        )
    )
    flood = str(pathlib.Path(__file__).with_name("flood.py"))
    flooding = start_process(
        [sys.executable, flood, _UNLISTED[0], "10.0.0.1", "20000", "20499"], network.service
    )
    flooding.wait_until(lambda: "flooding" in flooding.lines, what="flooding")
    crowd = open_crowd(400)
    got = crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client, window=20)
    if unlisted_replies == "auto":
        proxy.wait_event("unlisted_reply")  # the flood may have had no processor until now
    flooding.kill()
    got += crowd.arrived(0.2)
    assert [datagram for _, datagram in got if datagram.payload == b"foreign"] == []
    assert all(datagram.payload.split(b" ")[0] == b"%d" % client for client, datagram in got)
    # A flood may cost answers (queues are finite), never ownership; a client that was served once
    # is served when it is over.
    again = crowd.ask_all(IPV4.listener(), lambda client: b"%d again" % client, window=20)
    assert len(again) == len(crowd)
    assert all(datagram.payload.startswith(b"%d again" % client) for client, datagram in again)
    assert len({request.sender for request in service.requests}) == len(crowd)
    counters = proxy.stop()
    if unlisted_replies == "auto":
        assert counters["drop_unlisted_source"] > 0


def test_not_even_the_moment_between_bind_and_connect_lets_an_unlisted_source_in(
    engine, network, tmp_path, start_process, open_service, start_proxy, open_crowd
):
    """strace makes that moment long. All members are connected, so what an unlisted source
    writes can have come in nowhere else; the filter keeps them out."""
    open_service(_SOURCES, in_turn(_SOURCES))
    slowly = injecting("connect", "delay_enter=3000", tmp_path)
    proxy = start_proxy(
        one_proxy(engine, alias_filter="connected", unlisted_replies="off", ports="20000-20063"),
        prefix=slowly,
    )
    flood = str(pathlib.Path(__file__).with_name("flood.py"))
    flooding = start_process(
        [sys.executable, flood, _UNLISTED[0], "10.0.0.1", "20000", "20063"], network.service
    )
    flooding.wait_until(lambda: "flooding" in flooding.lines, what="flooding")
    got = open_crowd(20).ask_all(IPV4.listener(), lambda client: b"%d" % client, window=2)
    flooding.kill()
    assert "DELAYED" in (tmp_path / "strace").read_text()
    assert len(got) == 20 and all(
        datagram.payload.startswith(b"%d via" % client) for client, datagram in got
    )
    counters = proxy.stop()
    assert counters["drop_unlisted_source"] == 0
    assert counters["arrivals_reply"] == 20


@pytest.mark.parametrize("source", _UNLISTED)
@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_an_unlisted_source_that_knows_the_port_is_counted_and_not_heard(
    engine, source, alias_filter, closing, network, open_service, start_proxy, open_client
):
    service = open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(one_proxy(engine, alias_filter=alias_filter))
    client = open_client()
    assert client.ask(b"question", IPV4.listener()) is not None
    outsider = closing(open_socket(network.service, source))
    session = address.to_socket(service.sender_of(b"question"))
    for _ in range(10):
        outsider.sendto(b"foreign", session)
    assert client.drain() == []
    assert client.ask(b"once more", IPV4.listener()) is not None
    assert proxy.stop().drops() == {"drop_unlisted_source": 10}


@pytest.mark.parametrize("alias_filter", ["connected", "open"])
@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0"])
def test_nobody_can_bind_a_port_of_a_session_with_any_reuse_flag(
    engine, alias_filter, host, network, open_service, start_proxy, open_client
):
    service = open_service(_SOURCES, in_turn(_SOURCES))
    start_proxy(one_proxy(engine, alias_filter=alias_filter))
    client = open_client()
    assert client.ask(b"question", IPV4.listener()) is not None
    port = address.port_of(service.sender_of(b"question"))
    for flags in (
        (),
        (socket.SO_REUSEADDR,),
        (socket.SO_REUSEPORT,),
        (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
    ):
        with network.proxy.inside():
            intruder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with intruder:
            for flag in flags:
                intruder.setsockopt(socket.SOL_SOCKET, flag, 1)
            with pytest.raises(OSError) as refused:
                intruder.bind((host, port))
            assert refused.value.errno == errno.EADDRINUSE
    assert client.ask(b"once more", IPV4.listener()) is not None


@pytest.mark.parametrize(
    "flag",
    [None, socket.SO_REUSEADDR, socket.SO_REUSEPORT],
    ids=["plain", "reuseaddr", "reuseport"],
)
def test_a_port_that_somebody_else_holds_is_left_to_him_whatever_flag_he_set(
    engine, flag, closing, network, open_service, start_proxy, open_crowd
):
    """K1: a group that set SO_REUSEPORT before its first bind would join the holder's port, and
    share its replies with him."""
    service = open_service(_SOURCES, in_turn(_SOURCES))
    held = range(20000, 20032, 4)
    holders = []
    for port in held:
        with network.proxy.inside():
            holders.append(
                closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            )
        if flag is not None:
            holders[-1].setsockopt(socket.SOL_SOCKET, flag, 1)
        holders[-1].bind(("10.0.0.1", port))
    proxy = start_proxy(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=_SOURCES[0],
                reply_aliases=[_SOURCES[1]],
                ports="20000-20031",
            ),
            engine=engine,
            shards=1,
        )
    )
    crowd = open_crowd(
        32 - len(held)
    )  # all that is free is needed: wherever a shard begins, it meets ports that are held
    for _ in range(2):
        assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == len(crowd)
    for holder in holders:
        with pytest.raises(BlockingIOError):
            holder.recv(1)
    assert {address.port_of(request.sender) for request in service.requests} == set(
        range(20000, 20032)
    ) - set(held)
    assert proxy.stop()["ports_taken"] > 0


def test_two_instances_that_share_a_range_of_ports_never_share_a_port(
    engine, open_service, start_proxy, open_crowd
):
    service = open_service(_SOURCES, in_turn(_SOURCES))
    for port in (5001, 5002):
        start_proxy(
            configuration(
                table(
                    listen=IPV4.listener(port),
                    upstream=_SOURCES[0],
                    reply_aliases=[_SOURCES[1]],
                    ports="20000-20499",
                ),
                engine=engine,
            )
        )
    crowds = {port: open_crowd(100) for port in (5001, 5002)}
    missing = {(port, client) for port in crowds for client in range(100)}
    for _ in range(20):
        # A few sessions here, a few there, so that both take ports at the same points of the range.
        # Whoever met too many taken ports asks again.
        for port, crowd in crowds.items():
            some = sorted(client for at, client in missing if at == port)[:25]
            got = crowd.ask_all(
                IPV4.listener(port),
                lambda client, port=port: b"%d of %d" % (client, port),
                clients=some,
                patience=0.5,
            )
            for client, datagram in got:
                assert datagram.payload.split(b" via ")[0] == b"%d of %d" % (client, port)
                missing.discard((port, client))
    assert not missing
    assert len({request.sender for request in service.requests}) == 200


def test_ports_that_the_host_reserves_are_left_to_those_they_are_reserved_for(
    engine, network, open_service, start_proxy, open_crowd
):
    """Unless the configuration names them: then they are reserved for us. There are more clients
    than ports, so that each shard takes all of its ports."""
    service = open_service(_SOURCES, in_turn(_SOURCES))
    network.proxy.sysctl("net.ipv4.ip_local_port_range", "40000 40015")
    network.proxy.sysctl("net.ipv4.ip_local_reserved_ports", "40000-40003,40010")
    try:
        proxy = start_proxy(one_proxy(engine))
        assert "11 ports (5 reserved ones left out)" in proxy.wait_event("capacity")["limit"]
        open_crowd(64).ask_all(IPV4.listener(), lambda client: b"%d" % client, patience=0.5)
        ours = {address.port_of(request.sender) for request in service.requests}
        assert ours == set(range(40000, 40016)) - {40000, 40001, 40002, 40003, 40010}
        proxy.stop()
        service.requests.clear()
        start_proxy(one_proxy(engine, ports="40000-40015"))
        open_crowd(64).ask_all(IPV4.listener(), lambda client: b"%d" % client, patience=0.5)
        ours = {address.port_of(request.sender) for request in service.requests}
        assert ours == set(range(40000, 40016))
    finally:
        network.proxy.sysctl("net.ipv4.ip_local_port_range", "32768 60999")
        network.proxy.sysctl("net.ipv4.ip_local_reserved_ports", "")


def test_outsiders_that_bind_any_port_with_reuse_never_get_one_of_ours(
    engine, network, open_service, start_proxy, open_crowd
):
    """K1 seen from the other side: with SO_REUSEPORT left on, the kernel gives session ports to
    others that ask for any port."""
    service = open_service(_SOURCES, in_turn(_SOURCES))
    network.proxy.sysctl("net.ipv4.ip_local_port_range", "40000 40999")
    outsiders = []
    try:
        start_proxy(one_proxy(engine))
        crowd = open_crowd(500)
        assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == len(crowd)
        ours = {address.port_of(request.sender) for request in service.requests}
        assert len(ours) == len(crowd) and ours <= set(range(40000, 41000))
        for _ in range(300):
            with network.proxy.inside():
                outsider = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            outsiders.append(outsider)
            outsider.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            outsider.bind(("10.0.0.1", 0))
            assert outsider.getsockname()[1] not in ours
        assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d again" % client)) == len(
            crowd
        )
    finally:
        for outsider in outsiders:
            outsider.close()
        network.proxy.sysctl("net.ipv4.ip_local_port_range", "32768 60999")
