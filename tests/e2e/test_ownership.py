"""Three thousand clients, and nobody ever gets what belongs to another.

    client                                 proxy                             service
    10.1.0.2, 3000 sockets  ──── 10.1.0.1:5353 │ 10.0.0.1  ──── 10.0.0.254:53 the upstream, asked by all
                                                                10.0.0.253:53 .252:53 .251:53 aliases; they answer in turn

Each payload carries the client's number and a nonce of its own. A reply is late when its session
has ended before it comes.
"""

import collections
import itertools
import time

import pytest

from harness import address
from harness.program import configuration, table
from harness.service import Reply, in_turn
from harness.topology import BOTH, IPV4

_CLIENTS = 3000


def question(client, nonce):
    return b"client=%d nonce=%d" % (client, nonce)


def owner_of(payload):
    return int(payload.split(b" ")[0].removeprefix(b"client="))


def assert_all_own(got, source):
    foreign = [
        (client, datagram) for client, datagram in got if owner_of(datagram.payload) != client
    ]
    assert foreign == [], f"{len(foreign)} replies went to a client that does not own them"
    assert {datagram.source for _, datagram in got} <= {source}


@pytest.mark.slow
@pytest.mark.parametrize("family", BOTH, ids=str)
def test_3000_clients_at_once_get_every_reply_of_theirs_and_no_other(
    engine, family, start_proxy, open_service, open_crowd
):
    sources = [family.service(last) for last in (254, 253, 252, 251)]
    service = open_service(sources, in_turn(sources))
    # An open member each: as many descriptors as these clients need fit a limit of 20 000 with room
    # to spare.
    proxy = start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=sources[0],
                reply_aliases=sources[1:],
                alias_filter="open",
            ),
            engine=engine,
        )
    )
    crowd = open_crowd(_CLIENTS, family.anywhere)
    for nonce in range(3):
        got = crowd.ask_all(family.listener(), lambda client, nonce=nonce: question(client, nonce))
        assert_all_own(got, family.listener())
        assert sorted(datagram.payload.split(b" via ")[0] for _, datagram in got) == sorted(
            question(client, nonce) for client in range(_CLIENTS)
        )
        answered = collections.Counter(
            datagram.payload.split(b" via ")[1].decode() for _, datagram in got
        )
        assert answered == {source: _CLIENTS // len(sources) for source in sources}

    ports = collections.defaultdict(set)
    for request in service.requests:
        ports[request.sender].add(owner_of(request.payload))
    assert (
        len(ports) == _CLIENTS
    ), "each session has a port of its own, the same for all its requests"
    assert all(len(clients) == 1 for clients in ports.values())
    assert proxy.stop().drops() == {}


@pytest.mark.slow
@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_late_replies_never_reach_the_next_client_of_a_reused_port(
    engine, alias_filter, start_proxy, open_service, open_crowd
):
    """300 ports, a stream of new clients. A session ends 1 s after its first reply and cools down
    for 2 s; the late reply comes in between."""
    ports, new_clients_per_second, seconds = 300, 250, 9
    sources = [IPV4.service(last) for last in (254, 253, 252, 251)]
    turn = itertools.cycle(sources)
    delay = itertools.cycle(
        [1.15, 1.4, 1.7, 2.0]
    )  # the session ends after 1 s, its cooldown not before 3 s

    def answer(request):
        return [
            Reply(request.payload + b" at once", next(turn)),
            Reply(request.payload + b" late", next(turn), next(delay)),
        ]

    service = open_service(sources, answer)
    proxy = start_proxy(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=sources[0],
                reply_aliases=sources[1:],
                alias_filter=alias_filter,
                ports=f"20000-{20000 + ports - 1}",
                unassured_timeout="1s",
                port_cooldown="2s",
            ),
            engine=engine,
        )
    )
    crowd = open_crowd(_CLIENTS)
    got = []
    start = time.monotonic()
    for client in range(min(_CLIENTS, new_clients_per_second * seconds)):
        crowd.send(client, question(client, client), IPV4.listener())
        # A pace, so that every moment sees sessions begin, end and cool down.
        while (due := start + client / new_clients_per_second - time.monotonic()) > 0:
            got += crowd.arrived(due)
    while news := crowd.arrived(2.5):
        got += news

    assert_all_own(got, IPV4.listener())
    at_once = [datagram for _, datagram in got if datagram.payload.endswith(b" at once")]
    sessions_of_port = collections.Counter(
        address.port_of(request.sender) for request in service.requests
    )
    assert set(sessions_of_port) <= set(range(20000, 20000 + ports))
    assert len(at_once) == len(service.requests), "a request that reached the service was answered"
    assert len(service.requests) >= 2 * ports, "ports were reused"
    counters = proxy.stop()
    assert counters["drop_late_reply"] >= ports, "late replies met cooling groups"


def test_a_port_cooldowns_before_another_client_gets_it_and_is_the_one_that_rested_longest(
    start_one, open_service, open_client
):
    """Four ports on one shard: they come in the order in which they were released (first in, first
    out)."""
    service = open_service([IPV4.service(254)], in_turn([IPV4.service(254)]))
    start_one(ports="20000-20003", unassured_timeout="200ms", port_cooldown="700ms", shards=1)
    deadline = time.monotonic() + 30
    while len(service.requests) < 12:
        assert time.monotonic() < deadline
        # A new client each time. While all ports are in use or cool down it hears nothing.
        open_client().ask(question(0, 0), IPV4.listener(), 0.25)
    order = [address.port_of(request.sender) for request in service.requests[:12]]
    assert sorted(order[:4]) == [20000, 20001, 20002, 20003]
    assert order == order[:4] * 3
    for before, after in zip(service.requests, service.requests[4:12]):
        assert after.at - before.at >= 0.9, "200 ms until the session ends, 700 ms of cooldown"
