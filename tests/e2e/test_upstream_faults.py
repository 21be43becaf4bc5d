"""The upstream goes away and comes back: an ICMP error is a hint, never a reason to end a session
or to lose the next datagram (K11, K12).

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias
    fd01::2             [fd01::1]:5353│ fd00::1             [fd00::254]:53; closed and opened again
"""

import pytest

from harness.program import configuration, table
from harness.service import Service, echo, from_each
from harness.topology import BOTH, IPV4


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_the_first_datagram_after_the_return_is_answered_in_the_same_session(
    engine, family, network, start_proxy, open_client
):
    upstream = family.service(254)
    proxy = start_proxy(
        configuration(table(listen=family.listener(), upstream=upstream), engine=engine)
    )
    client = open_client(family.anywhere)
    with Service(network.service, [upstream], echo()) as before:
        assert client.ask(b"before", family.listener()).payload == b"before"
    for number in range(3):
        client.send(b"into the void %d" % number, family.listener())
        proxy.wait_until_idle(0.1)  # the ICMP message of each is there before the next
    with Service(network.service, [upstream], echo()) as after:
        assert client.ask(b"after", family.listener()).payload == b"after"
        assert [request.payload for request in after.requests] == [b"after"]
        assert after.sender_of(b"after") == before.sender_of(b"before")
    assert proxy.stop()["departures_request"] == 5


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_the_error_of_one_datagram_does_not_cost_the_next_one_of_the_same_turn(
    engine, family, network, start_proxy, open_client
):
    """The program is stopped while datagrams queue up. Then it sends them in one turn, and each
    ICMP message is there before the next send."""
    upstream = family.service(254)
    proxy = start_proxy(
        configuration(table(listen=family.listener(), upstream=upstream), engine=engine)
    )
    client = open_client(family.anywhere)
    with Service(network.service, [upstream], echo()):
        assert client.ask(b"session", family.listener()) is not None
    proxy.stand_still()
    for number in range(20):
        client.send(b"%d" % number, family.listener())
    proxy.go_on()
    proxy.wait_until_idle()
    counters = proxy.stop()
    assert counters["departures_request"] == 21
    assert counters.drops() == {}


def test_a_new_session_towards_a_closed_upstream_works_once_it_is_there(
    network, start_one, open_client
):
    proxy = start_one()
    client = open_client()
    client.send(b"void", IPV4.listener())
    proxy.wait_until_idle()
    assert client.receive(0) is None
    with Service(network.service, [IPV4.service(254)], echo()):
        assert client.ask(b"there", IPV4.listener()).payload == b"there"


@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_an_alias_that_is_gone_disturbs_no_other_source(
    engine, alias_filter, network, open_service, start_proxy, open_client
):
    """The alias's port is closed; the upstream and the other alias go on."""
    upstream, alias, closed = (IPV4.service(last) for last in (254, 253, 252))
    open_service([upstream, alias], from_each([upstream, alias]))
    start_proxy(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=upstream,
                reply_aliases=[alias, closed],
                alias_filter=alias_filter,
            ),
            engine=engine,
        )
    )
    client = open_client()
    with Service(network.service, [closed], echo()):
        pass
    for number in range(20):
        client.send(b"%d" % number, IPV4.listener())
        heard = {client.receive().payload, client.receive().payload}
        assert heard == {b"%d via " % number + source.encode() for source in (upstream, alias)}


def test_an_alias_without_a_route_refuses_nobody(engine, open_service, start_proxy, open_client):
    """Connecting to it fails with ENETUNREACH; the upstream and the other alias can do without
    it."""
    upstream, alias = IPV4.service(254), IPV4.service(253)
    open_service([upstream, alias], from_each([upstream, alias]))
    proxy = start_proxy(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=upstream,
                reply_aliases=[alias, "203.0.113.9:53"],
                alias_filter="connected",
            ),
            engine=engine,
        )
    )
    client = open_client()
    client.send(b"question", IPV4.listener())
    assert len({client.receive().payload, client.receive().payload}) == 2
    assert proxy.stop().drops() == {}


def test_no_session_suffers_from_the_dead_upstream_of_another_proxy(
    engine, open_service, start_proxy, open_client
):
    open_service([IPV4.service(254)], echo())
    start_proxy(
        configuration(
            table(name="alive", listen=IPV4.listener(5001), upstream=IPV4.service(254)),
            table(name="dead", listen=IPV4.listener(5002), upstream=IPV4.service(253)),
            engine=engine,
        )
    )
    alive, dead = open_client(), open_client()
    for number in range(200):
        dead.send(b"%d" % number, IPV4.listener(5002))
        assert alive.ask(b"%d" % number, IPV4.listener(5001)).payload == b"%d" % number
