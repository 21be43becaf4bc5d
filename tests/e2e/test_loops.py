"""One forged datagram begins no loop: what the program listens on and sends to is no client (F31).

    client                                proxy                                  service
    10.1.0.2  ──────────────────────  10.1.0.1 │ 10.0.0.1  ──────────────────  10.0.0.254, .253, .252
    fd01::2   forges the sources      fd01::1  │ fd00::1                       fd00::254, ::253, ::252
                                                                               answers whatever it gets
"""

import pytest

from harness import address
from harness.forged import send_forged
from harness.namespaces import Network
from harness.program import configuration, table
from harness.reloading import Reloading
from harness.service import echo
from harness.topology import BOTH, IPV4

_WILDCARD_PORT = 5400


@pytest.fixture(scope="module")
def network():
    with Network.of_three() as made:
        # So that the service's answers reach the listeners.
        made.service.ip("route add 10.1.0.0/24 via 10.0.0.1", "route add fd01::/64 via fd00::1")
        yield made


def the_proxy(family, **keys):
    """Listens on one address and on the wildcard; two services behind it."""
    return [
        table(
            name="first",
            listen=family.listener(),
            upstream=family.service(254),
            reply_aliases=[family.service(253)],
            **keys,
        ),
        table(
            name="second", listen=f":{_WILDCARD_PORT}", upstream=family.service(252, 5000), **keys
        ),
    ]


def sources(family):
    """The program's endpoints that a datagram can bear as its source when it comes from outside.
    IPv4 takes none with a local address (net/ipv4/fib_frontend.c, fib_validate_source)."""
    found = [family.service(254), family.service(253), family.service(252, 5000)]
    if family is not IPV4:
        found += [
            family.listener(),
            family.listener(_WILDCARD_PORT),
            family.session_port(_WILDCARD_PORT),  # its address on the other side
        ]
    return found


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("port", [5353, _WILDCARD_PORT])
def test_a_datagram_that_bears_an_endpoint_of_the_program_goes_nowhere(
    engine, family, port, network, open_service, start_proxy, open_client, figures
):
    service = open_service(
        [family.service(254), family.service(253), family.service(252, 5000)], echo()
    )
    proxy = start_proxy(configuration(*the_proxy(family), engine=engine))
    for source in sources(family):
        send_forged(network.client, source, family.listener(port), b"round and round")
    # The same port on another host, and another port of the same host, are clients.
    client = open_client(address.join("0.0.0.0" if family is IPV4 else "::", _WILDCARD_PORT))
    assert client.ask(b"question", family.listener(port)).payload == b"question"
    send_forged(network.client, family.service(254, 54), family.listener(port), b"a client")
    proxy.wait_until(
        lambda: service.sender_of(b"a client"), what="the request of a client on that host"
    )
    counters = proxy.stop()
    assert {request.payload for request in service.requests} == {b"question", b"a client"}
    assert counters["drop_forwarding_loop"] == len(sources(family))
    assert counters["sessions_admitted"] == 2
    figures.tell(
        "one forged datagram whose source is a listener, an upstream or an alias begins no loop",
        f"{len(sources(family))} sources, {counters['arrivals_request']} datagrams in all",
    )


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_the_endpoints_follow_a_reload(
    engine, family, network, open_service, start_proxy, open_client
):
    service = open_service([family.service(254), family.service(253)], echo())
    other = open_service([family.service(252, 5000)], echo())
    both = the_proxy(family)
    reloading = Reloading(start_proxy, engine, both[0])
    reloading.reload(*both)
    for source in sources(family):
        send_forged(network.client, source, family.listener(), b"round and round")
    assert open_client(family.anywhere).ask(b"question", family.listener())
    assert {request.payload for request in service.requests} == {b"question"}
    reloading.reload(both[0])
    other.close()

    def is_served():
        send_forged(network.client, family.service(252, 5000), family.listener(), b"a client now")
        return service.sender_of(b"a client now")

    reloading.proxy.wait_until(is_served, what="the request of what was an upstream before")
