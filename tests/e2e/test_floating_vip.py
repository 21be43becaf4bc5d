"""A listener on an address that is not there yet: a VIP that this host may get later, lose, and get
again.

    client                        proxy                                        service
    10.1.0.2  ────────  10.1.0.1  (10.1.0.99 comes and goes)  │ 10.0.0.1  ──────── 10.0.0.254:53
    fd01::2             fd01::1   (fd01::99)                  │
"""

import time

import pytest

from harness.program import configuration, table
from harness.service import Reply, echo

_HOSTS = {"ipv4": "10.1.0.99/24", "ipv6": "fd01::99/64"}
_LISTEN = {"ipv4": "10.1.0.99:5353", "ipv6": "[fd01::99]:5353"}
_ANYWHERE = {"ipv4": "0.0.0.0:0", "ipv6": "[::]:0"}


class Vip:
    """An address of the proxy that comes and goes."""

    def __init__(self, namespace, host):
        self._namespace = namespace
        self._host = host
        self._here = False

    def come(self):
        self._namespace.ip(
            f"addr add {self._host} dev to-client" + (" nodad" if ":" in self._host else "")
        )
        self._here = True

    def go(self):
        self._namespace.ip(f"addr del {self._host} dev to-client")
        self._here = False

    def close(self):
        if self._here:
            self.go()


def ask_until_answered(client, question, to, seconds=8):
    """Neighbour entries of an address that moved take a moment; the proxy takes none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if (reply := client.ask(question, to, 0.3)) is not None:
                return reply
        except OSError:
            pass  # an error about an earlier question
    return None


@pytest.mark.parametrize("family", _HOSTS)
def test_it_is_bound_at_once_and_serves_whenever_the_address_is_there(
    engine, family, network, closing, open_service, start_proxy, open_client
):
    vip, to = closing(Vip(network.proxy, _HOSTS[family])), _LISTEN[family]
    open_service(["10.0.0.254:53"], echo())
    proxy = start_proxy(configuration(table(listen=to, upstream="10.0.0.254:53"), engine=engine))
    assert proxy.all_events("listening", listen=to)
    assert proxy.all_events(
        "address_absent", listen=to
    ), "the log says that the address is not there"

    client = open_client(_ANYWHERE[family])
    for turn in (b"first", b"second"):
        vip.come()
        reply = ask_until_answered(client, turn, to)
        assert reply is not None and (reply.payload, reply.source) == (turn, to)
        vip.go()
        client.drain()


def test_a_reply_while_the_address_is_away_is_counted_and_the_session_goes_on(
    engine, network, closing, open_service, start_proxy, open_client
):
    vip, to = closing(Vip(network.proxy, _HOSTS["ipv4"])), _LISTEN["ipv4"]
    service = open_service(
        ["10.0.0.254:53"],
        lambda request: [Reply(request.payload, delay=0.5 if request.payload == b"late" else 0)],
    )
    proxy = start_proxy(configuration(table(listen=to, upstream="10.0.0.254:53"), engine=engine))
    client = open_client()
    vip.come()
    assert ask_until_answered(client, b"before", to) is not None
    client.send(b"late", to)
    assert client.receive(0.2) is None
    vip.go()
    assert client.receive(1.0) is None
    vip.come()
    reply = ask_until_answered(client, b"after", to)
    assert reply is not None and reply.payload == b"after"
    assert len({request.sender for request in service.requests}) == 1
    assert sum(proxy.stop().drops().values()) == 1
