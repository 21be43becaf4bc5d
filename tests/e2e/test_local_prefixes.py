"""Addresses that are local by a route of a whole block (AnyIP), on no interface.

    client                               proxy                                      service
    10.1.0.2  ──────── 10.1.0.1, local 10.9.0.0/16      │ 10.0.0.1  ─────── 10.0.0.254:53
    fd01::2            fd01::1, local 2001:db8:9::/64   │
"""

import pytest

from harness.namespaces import Network
from harness.program import configuration, table
from harness.service import echo
from harness.topology import BOTH, IPV4, IPV6

_ADDRESSES = {
    "ipv4": ["10.9.0.1:5353", "10.9.77.7:5353"],
    "ipv6": ["[2001:db8:9::1]:5353", "[2001:db8:9::77:7]:5353"],
}


@pytest.fixture(scope="module")
def network():
    with Network.of_three() as made:
        made.proxy.ip(
            "route add local 10.9.0.0/16 dev lo", "route add local 2001:db8:9::/64 dev lo"
        )
        made.client.ip(
            "route add 10.9.0.0/16 via 10.1.0.1", "route add 2001:db8:9::/64 via fd01::1"
        )
        yield made


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("every", [True, False], ids=["every_address", "listed"])
def test_each_address_of_a_local_block_answers_for_itself(
    every, family, engine, start_proxy, open_service, open_client
):
    """Replies of a listener on every IPv6 address failed with EINVAL, and the log blamed a
    blackhole route; a listed address was said to be absent."""
    open_service([IPV4.service(254)], echo())
    addresses = _ADDRESSES[family.name]
    proxy = start_proxy(
        configuration(
            table(listen=":5353" if every else addresses, upstream=IPV4.service(254)), engine=engine
        )
    )
    assert proxy.all_events("address_absent") == []
    client = open_client(family.anywhere)
    for to in addresses:
        reply = client.ask(b"to " + to.encode(), to)
        assert reply is not None and (reply.source, reply.payload) == (to, b"to " + to.encode())
    assert proxy.stop().drops() == {}
