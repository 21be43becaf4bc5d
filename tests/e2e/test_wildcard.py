"""A listener on every address answers from the one that was written to.

    client                             proxy, listening on ":5353"                      service
    10.1.0.2   ────────────  10.1.0.1 10.1.0.3 10.1.0.4  │ 10.0.0.1  ──────── 10.0.0.254:53 the upstream
    fd01::2                  fd01::1  fd01::3            │                     10.0.0.253:53 an alias
    fe80::…                  fe80::…
"""

import socket

import pytest

from harness import address
from harness.namespaces import Network, run
from harness.program import configuration, table
from harness.service import Reply, from_each

_SOURCES = ["10.0.0.254:53", "10.0.0.253:53"]
_ADDRESSES = {
    "ipv4": ["10.1.0.1:5353", "10.1.0.3:5353", "10.1.0.4:5353"],
    "ipv6": ["[fd01::1]:5353", "[fd01::3]:5353"],
}
_ANYWHERE = {"ipv4": "0.0.0.0:0", "ipv6": "[::]:0"}


@pytest.fixture(scope="module")
def network():
    with Network.of_three() as made:
        made.proxy.ip(
            "addr add 10.1.0.3/24 dev to-client",
            "addr add 10.1.0.4/24 dev to-client",
            "addr add fd01::3/64 dev to-client nodad",
        )
        yield made


@pytest.fixture
def service(open_service):
    return open_service(_SOURCES, from_each(_SOURCES))


def wildcard(engine, **keys):
    return configuration(
        table(listen=":5353", upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]], **keys),
        engine=engine,
    )


@pytest.mark.parametrize("family", _ADDRESSES)
def test_each_address_answers_for_itself_and_is_a_session_of_its_own(
    engine, family, service, start_proxy, open_client
):
    proxy = start_proxy(wildcard(engine))
    client = open_client(_ANYWHERE[family])
    for turn in range(3):
        for written_to in _ADDRESSES[family]:
            question = f"{turn} to {written_to}".encode()
            client.send(question, written_to)
            replies = [client.receive(), client.receive()]
            assert {(reply.source, reply.payload) for reply in replies} == {
                (written_to, question + b" via " + source.encode()) for source in _SOURCES
            }
    assert client.drain() == []
    sessions = {}
    for request in service.requests:
        sessions.setdefault(request.payload.split(b" to ")[1], set()).add(request.sender)
    # One port for each address that was written to, the same in every turn.
    assert [len(ports) for ports in sessions.values()] == [1] * len(_ADDRESSES[family])
    assert len(set.union(*sessions.values())) == len(_ADDRESSES[family])
    assert proxy.stop().drops() == {}


def test_late_replies_of_two_addresses_do_not_change_places(
    engine, open_service, start_proxy, open_client
):
    """All questions first, the replies after that: nothing of the last question may decide where an
    earlier reply leaves."""
    open_service(
        _SOURCES, lambda request: [Reply(request.payload, source, delay=0.3) for source in _SOURCES]
    )
    start_proxy(wildcard(engine))
    client = open_client()
    for written_to in _ADDRESSES["ipv4"] * 5:
        client.send(written_to.encode(), written_to)
    replies = [client.receive() for _ in range(len(_ADDRESSES["ipv4"]) * 5 * len(_SOURCES))]
    assert [reply for reply in replies if reply.payload.decode() != reply.source] == []


def test_a_link_local_address_answers_for_itself(
    engine, network, service, start_proxy, open_client
):
    start_proxy(wildcard(engine))
    listing = run(
        "ip",
        "-n",
        network.proxy.name,
        "-6",
        "-o",
        "addr",
        "show",
        "dev",
        "to-client",
        "scope",
        "link",
    ).stdout
    host = listing.split("inet6 ")[1].split("/")[0]
    client = open_client(_ANYWHERE["ipv6"])
    for turn in (b"one", b"two"):
        client.send(turn, f"[{host}%to-proxy]:5353")
        replies = [client.receive(), client.receive()]
        assert {reply.source for reply in replies} == {address.join(host, 5353)}


def test_an_address_added_later_answers_without_a_restart(
    engine, network, service, start_proxy, open_client
):
    start_proxy(wildcard(engine))
    network.proxy.ip("addr add 10.1.0.9/24 dev to-client")
    try:
        client = open_client()
        client.send(b"question", "10.1.0.9:5353")
        assert {client.receive().source, client.receive().source} == {"10.1.0.9:5353"}
    finally:
        network.proxy.ip("addr del 10.1.0.9/24 dev to-client")


@pytest.mark.parametrize(
    "listen, host",
    [
        (":5353", "10.1.0.255"),
        ("10.1.0.255:5353", "10.1.0.255"),
        (":5353", "224.0.0.1"),
        (":5353", "ff02::1%to-proxy"),
    ],
    ids=["broadcast", "broadcast-listener", "multicast", "ipv6-multicast"],
)
def test_a_datagram_to_all_hosts_is_one_request_and_answered_from_one_of_our_addresses(
    engine, listen, host, network, service, start_proxy, open_client, figures
):
    """The kernel copies it to the socket of every shard."""
    shards = 4
    proxy = start_proxy(
        configuration(
            table(listen=listen, upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]]),
            engine=engine,
            shards=shards,
        )
    )
    clients = 8
    for number in range(clients):
        client = open_client("[::]:0" if ":" in host else "10.1.0.2:0")
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if host == "224.0.0.1":
            client.socket.setsockopt(
                socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.1.0.2")
            )
        question = b"%d to all" % number
        for turn in (b"first", b"second"):
            client.send(question + turn, address.join(host, 5353))
            replies = [client.receive(), client.receive()]
            assert {reply.payload for reply in replies} == {
                question + turn + b" via " + source.encode() for source in _SOURCES
            }
            hosts = {address.split(reply.source)[0] for reply in replies}
            if ":" in host:
                assert len(hosts) == 1 and hosts.pop().startswith("fe80::")
            else:
                assert hosts <= {"10.1.0.1", "10.1.0.3", "10.1.0.4"}
    assert client.drain() == []
    counters = proxy.stop()
    figures.tell(
        f"{clients} clients write twice to {host}, {shards} shards",
        f"{len(service.requests)} requests, {counters['sessions_admitted']} sessions",
    )
    assert len(service.requests) == 2 * clients
    assert counters["sessions_admitted"] == clients
    assert counters.drops() == {"drop_broadcast_copy": 2 * clients * (shards - 1)}
