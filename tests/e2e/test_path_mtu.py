"""A path that takes less than the proxy's own links, in either direction, and the three ways of
`path_mtu` (F12, K14).

    far client        client (a router)             proxy                     service (a router)         far service
    10.8.0.2  ─1300─  10.8.0.1 │ 10.1.0.2  ─1500─  10.1.0.1 │ 10.0.0.1 ─1500─ 10.0.0.254 │ 10.9.0.1 ─1300─ 10.9.0.2:53
    fd08::2           fd08::1  │ fd01::2           fd01::1  │ fd00::1         fd00::254  │ fd09::1         fd09::2

Datagrams of 1400 bytes fit the links at the proxy, not the outer ones. A router tells by ICMP; IPv6
routers never fragment.
"""

import time

import pytest

from harness.client import Client
from harness.namespaces import Network
from harness.program import configuration, table
from harness.service import Reply, Service

_LARGE = 1400
_HOSTS = {
    "ipv4": ("10.1.0.1:5353", "10.9.0.2:53", "10.8.0.2:0"),
    "ipv6": ("[fd01::1]:5353", "[fd09::2]:53", "[fd08::2]:0"),
}


@pytest.fixture
def network():
    """Its own for each test: kernels remember what they learn of a path."""
    with Network.of_three() as made:
        made.far_client, made.far_service = made.add("farclient"), made.add("farservice")
        for far, near, number in (
            (made.far_client, made.client, 8),
            (made.far_service, made.service, 9),
        ):
            for namespace in (far, near):
                namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)
            near.ip(
                f"link add to-far type veth peer name to-near netns {far.name}",
                "link set to-far mtu 1300 up",
                f"addr add 10.{number}.0.1/24 dev to-far",
                f"addr add fd0{number}::1/64 dev to-far nodad",
            )
            far.ip(
                "link set to-near mtu 1300 up",
                f"addr add 10.{number}.0.2/24 dev to-near",
                f"addr add fd0{number}::2/64 dev to-near nodad",
                f"route add default via 10.{number}.0.1",
                f"route add default via fd0{number}::1",
            )
            near.sysctl("net.ipv4.ip_forward", 1)
            near.sysctl("net.ipv6.conf.all.forwarding", 1)
        made.client.ip("route add default via 10.1.0.1", "route add default via fd01::1")
        made.service.ip("route add default via 10.0.0.1", "route add default via fd00::1")
        made.proxy.ip(
            "route add 10.8.0.0/24 via 10.1.0.2",
            "route add fd08::/64 via fd01::2",
            "route add 10.9.0.0/24 via 10.0.0.254",
            "route add fd09::/64 via fd00::254",
        )
        yield made


@pytest.fixture
def stage(engine, network, start_proxy, closing):
    """stage(family, path_mtu) -> (proxy, service, client); the service answers `large` with a large
    reply and all else with a small one."""

    def make(family, path_mtu):
        listen, upstream, here = _HOSTS[family]
        service = closing(
            Service(
                network.far_service,
                [upstream],
                lambda request: [
                    Reply(
                        bytes(_LARGE)
                        if request.payload.startswith(b"large")
                        else request.payload[:4]
                    )
                ],
            )
        )
        proxy = start_proxy(
            configuration(table(listen=listen, upstream=upstream, path_mtu=path_mtu), engine=engine)
        )
        client = closing(Client(network.far_client, here))
        deadline = time.monotonic() + 20
        while client.ask(b"hello", listen, 0.3) is None:
            assert time.monotonic() < deadline
        service.requests.clear()
        return proxy, service, client, listen

    return make


def large_both_ways(stage, family, path_mtu, timeout=3.0, count=4):
    """Which of some large requests, then which of some large replies came through; and the drops.
    Large requests leave the far client as fragments, since its own link is the small one."""
    proxy, service, client, listen = stage(family, path_mtu)
    requests = [
        client.ask(b"%d" % number + bytes(_LARGE), listen, timeout) is not None
        for number in range(count)
    ]
    assert all(len(request.payload) == _LARGE + 1 for request in service.requests)
    replies = [client.ask(b"large %d" % number, listen, timeout) for number in range(count)]
    assert all(reply.payload == bytes(_LARGE) for reply in replies if reply)
    return requests, [reply is not None for reply in replies], proxy.stop().drops()


@pytest.mark.parametrize("family", _HOSTS)
def test_want_loses_the_first_of_each_direction_and_fragments_from_then_on(family, stage, figures):
    requests, replies, drops = large_both_ways(stage, family, "want")
    figures.tell(
        "path_mtu = want: the first large datagram is lost, the others pass",
        f"{family}: requests {requests}, replies {replies}",
    )
    assert requests == replies == [False, True, True, True] and drops == {}


@pytest.mark.parametrize("family", _HOSTS)
def test_probe_never_fragments_so_that_clients_find_the_path_mtu_themselves(family, stage, figures):
    requests, replies, _ = large_both_ways(stage, family, "probe", timeout=0.2)
    figures.tell(
        "path_mtu = probe: nothing larger than the path passes, nothing is fragmented here",
        f"{family}: requests {requests}, replies {replies}",
    )
    assert requests == replies == [False] * 4


def test_omit_lets_routers_fragment_and_loses_nothing(stage, figures):
    requests, replies, drops = large_both_ways(stage, "ipv4", "omit")
    figures.tell(
        "path_mtu = omit: IPv4 routers fragment, nothing is lost",
        f"requests {requests}, replies {replies}",
    )
    assert requests == replies == [True] * 4 and drops == {}


# IPv6 routers fragment nothing: there, `omit` is for paths that take what the link takes.
@pytest.mark.parametrize("family, path_mtu", [("ipv4", "want"), ("ipv6", "want"), ("ipv4", "omit")])
def test_what_is_larger_than_the_link_is_fragmented_at_once(family, path_mtu, stage):
    """2500 bytes to the listener; the proxy's own links take 1500. The far links take what
    fragments to their size."""
    proxy, service, client, listen = stage(family, path_mtu)
    asked = [
        client.ask(b"%d" % number + bytes(2500), listen, 3.0) is not None for number in range(4)
    ]
    assert asked[-1] and proxy.stop().drops() == {}
    assert len(service.requests[-1].payload) == 2501


@pytest.mark.parametrize("family", _HOSTS)
def test_probe_counts_what_is_larger_than_the_link(family, stage, figures):
    proxy, service, client, listen = stage(family, "probe")
    for number in range(4):
        client.send(b"%d" % number + bytes(2500), listen)
    assert client.ask(b"small", listen) is not None
    drops = proxy.stop().drops()
    figures.tell("path_mtu = probe: what is larger than the link is counted", f"{family}: {drops}")
    assert drops == {"drop_send_too_big": 4} and [
        request.payload for request in service.requests
    ] == [b"small"]
