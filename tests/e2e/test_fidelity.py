"""What goes in comes out: bytes, boundaries, sizes, order, ECN and DSCP, in both directions.

    client                         proxy                               service
    10.1.0.2  ────────  10.1.0.1:5353  │ 10.0.0.1  ────────  10.0.0.254:53  asked, and answers
    fd01::2             [fd01::1]:5353 │ fd00::1             [fd00::254]:53
                                 MTU 1500 on all links: larger datagrams travel as fragments
"""

import hashlib
import random

import pytest

from harness.program import configuration, table
from harness.service import Reply, echo
from harness.topology import BOTH, IPV4, IPV6

_SIZES = (0, 1, 511, 512, 1200, 1472, 1473, 2047, 2048, 2049, 4096, 4097, 65507)


def one_to_one(engine, family, **keys):
    return configuration(
        table(listen=family.listener(), upstream=family.service(254), **keys), engine=engine
    )


def digest(payload):
    return len(payload), hashlib.sha256(payload).hexdigest()


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_every_size_arrives_whole_in_both_directions(
    engine, family, start_proxy, open_service, open_client
):
    dice = random.Random(2)
    sizes = [*_SIZES, family.size_max]
    requests = [dice.randbytes(size) for size in sizes]
    replies = [dice.randbytes(size) for size in reversed(sizes)]
    service = open_service([family.service(254)], lambda request: [Reply(replies[request.number])])
    proxy = start_proxy(one_to_one(engine, family))
    client = open_client(family.anywhere)
    for number, request in enumerate(requests):
        reply = client.ask(request, family.listener())
        assert (
            reply is not None
        ), f"no reply of {len(replies[number])} bytes to {len(request)} bytes"
        assert digest(service.requests[number].payload) == digest(request)
        assert digest(reply.payload) == digest(replies[number])
    assert proxy.stop().drops() == {}


@pytest.mark.parametrize(
    "outside, inside", [(IPV4, IPV6), (IPV6, IPV4)], ids=["ipv4-to-ipv6", "ipv6-to-ipv4"]
)
def test_every_size_that_both_families_know_arrives_whole_across_them(
    engine, outside, inside, start_proxy, open_service, open_client
):
    open_service([inside.service(254)], echo())
    proxy = start_proxy(
        configuration(table(listen=outside.listener(), upstream=inside.service(254)), engine=engine)
    )
    client = open_client(outside.anywhere)
    for size in _SIZES:
        payload = random.Random(size).randbytes(size)
        reply = client.ask(payload, outside.listener())
        assert reply is not None and digest(reply.payload) == digest(payload)
    assert proxy.stop().drops() == {}


def test_a_datagram_too_large_for_the_other_family_is_one_counted_drop_and_the_next_one_passes(
    engine, start_proxy, open_service, open_client
):
    service = open_service([IPV4.service(254)], echo())
    proxy = start_proxy(
        configuration(table(listen=IPV6.listener(), upstream=IPV4.service(254)), engine=engine)
    )
    client = open_client(IPV6.anywhere)
    client.send(bytes(65527), IPV6.listener())
    assert client.ask(b"next", IPV6.listener()).payload == b"next"
    assert [request.payload for request in service.requests] == [b"next"]
    assert proxy.stop().drops() == {"drop_send_too_big": 1}


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_all_values_of_dscp_and_ecn_are_copied_both_ways(
    engine, family, start_proxy, open_service, open_client
):
    service = open_service(
        [family.service(254)],
        lambda request: [Reply(request.payload, tos=255 - request.payload[0])],
    )
    start_proxy(one_to_one(engine, family))
    client = open_client(family.anywhere)
    for tos in range(256):
        reply = client.ask(bytes([tos]), family.listener(), tos=tos)
        assert (service.requests[tos].tos, reply.tos) == (tos, 255 - tos)


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_dscp_clear_leaves_only_ecn(engine, family, start_proxy, open_service, open_client):
    service = open_service(
        [family.service(254)],
        lambda request: [Reply(request.payload, tos=255 - request.payload[0])],
    )
    start_proxy(one_to_one(engine, family, dscp="clear"))
    client = open_client(family.anywhere)
    for number, tos in enumerate(range(0, 256, 5)):
        reply = client.ask(bytes([tos]), family.listener(), tos=tos)
        assert (service.requests[number].tos, reply.tos) == (tos & 3, (255 - tos) & 3)


def test_dscp_and_ecn_are_copied_across_families(engine, start_proxy, open_service, open_client):
    service = open_service(
        [IPV6.service(254)], lambda request: [Reply(request.payload, tos=255 - request.payload[0])]
    )
    start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=IPV6.service(254)), engine=engine)
    )
    client = open_client()
    for number, tos in enumerate(range(0, 256, 5)):
        reply = client.ask(bytes([tos]), IPV4.listener(), tos=tos)
        assert (service.requests[number].tos, reply.tos) == (tos, 255 - tos)


@pytest.mark.slow
def test_10000_empty_and_10000_other_datagrams_arrive_in_order_both_ways(
    engine, start_proxy, open_service, open_client
):
    """An empty datagram ends a multishot receive of io_uring (K19): it must silence nothing and
    overtake nothing."""
    pairs, window = 10_000, 32
    service = open_service([IPV4.service(254)], echo())
    proxy = start_proxy(one_to_one(engine, IPV4))
    client = open_client()
    sent = [payload for number in range(pairs) for payload in (b"", b"%d" % number)]
    got = []
    for first in range(0, len(sent), window):
        for payload in sent[first : first + window]:
            client.send(payload, IPV4.listener())
        while len(got) < min(first + window, len(sent)):
            reply = client.receive()
            assert reply is not None, f"{len(got)} of {first + window} came back"
            got.append(reply.payload)
    assert [request.payload for request in service.requests] == sent
    assert got == sent
    assert proxy.stop().drops() == {}


def test_a_burst_to_a_service_that_says_nothing_arrives_in_order(
    engine, start_proxy, open_service, open_client
):
    service = open_service(
        [IPV4.service(254)], lambda request: [Reply(b"done")] if request.payload == b"last" else ()
    )
    start_proxy(one_to_one(engine, IPV4))
    client = open_client()
    sent = [b"%d " % number + bytes(number % 700) for number in range(200)]
    assert client.ask(b"last", IPV4.listener()).payload == b"done"  # the session is there
    for payload in sent:
        client.send(payload, IPV4.listener())
    assert client.ask(b"last", IPV4.listener()).payload == b"done"
    assert [request.payload for request in service.requests] == [b"last", *sent, b"last"]


def test_one_request_may_have_many_replies_and_many_requests_none(
    engine, start_proxy, open_service, open_client
):
    numbers = [b"%d" % number for number in range(100)]
    open_service(
        [IPV4.service(254)],
        lambda request: [Reply(number) for number in numbers] if request.payload == b"many" else (),
    )
    proxy = start_proxy(one_to_one(engine, IPV4))
    client = open_client()
    for _ in range(50):
        client.send(b"none", IPV4.listener())
    client.send(b"many", IPV4.listener())
    assert [client.receive().payload for _ in range(100)] == numbers
    counters = proxy.stop()
    assert (counters["arrivals_request"], counters["departures_request"]) == (51, 51)
    assert (counters["arrivals_reply"], counters["departures_reply"]) == (100, 100)
