"""Requests to everybody in the service's network: Wake-on-LAN, discovery. Whoever answers does so
from an address of its own, which a prefix lists.

    client 10.1.0.2 ── 10.1.0.1:5353 proxy 10.0.0.1 ── 10.0.0.255:9, answered by 10.0.0.254
"""

from harness.service import echo
from harness.topology import IPV4

_EVERYBODY = "10.0.0.255:9"
_LISTED = ["10.0.0.0/24:9"]


def test_a_request_to_everybody_has_the_answer_of_one(start_one, open_service, open_client):
    service = open_service(["0.0.0.0:9"], echo())
    proxy = start_one(upstream=_EVERYBODY, reply_aliases=_LISTED)
    client = open_client()
    for number in range(3):
        assert client.ask(b"%d" % number, IPV4.listener()).payload == b"%d" % number
    assert len({request.sender for request in service.requests}) == 1
    counters = proxy.stop()
    assert counters["sessions_admitted"] == 1 and counters.drops() == {}


def test_a_route_that_prohibits_is_obeyed(network, start_one, open_client):
    """It is the error of connect(2) that a broadcast address has."""
    network.proxy.ip("route add prohibit 10.9.9.0/24")
    try:
        proxy = start_one(upstream="10.9.9.9:9")
        client = open_client()
        client.send(b"question", IPV4.listener())
        assert client.drain(0.5) == []
        assert proxy.stop().drops() == {"drop_source_unavailable": 1}
    finally:
        network.proxy.ip("route del prohibit 10.9.9.0/24")
