"""Every error that a send can meet: one counted reason for each lost datagram, and nothing else is
hurt (F4, F5, F9, K13).

    client                         proxy                              service
    10.1.0.2  ────────  10.1.0.1:5001 │ 10.0.0.1  ────────  10.0.0.254:53  hurt, and healed again
    fd01::2             10.1.0.1:5002 │ fd00::1             10.0.0.253:53  goes on all the time
"""

import contextlib
import time

import pytest

from harness.admin import parse_metrics
from harness.namespaces import run
from harness.program import configuration, table
from harness.service import echo
from harness.topology import BOTH

_QUESTIONS = 20


@contextlib.contextmanager
def route(network, kind, host):
    bits = 128 if ":" in host else 32
    network.proxy.ip(f"route add {kind} {host}/{bits}")
    try:
        yield
    finally:
        network.proxy.ip(f"route del {kind} {host}/{bits}")


@contextlib.contextmanager
def packet_filter(network, verdict, host):
    """A rule of the proxy's own packet filter against what leaves for `host`."""
    family = "ip6" if ":" in host else "ip"
    nft = network.proxy.command("nft", "-f", "-")
    run(
        *nft,
        stdin=f"table {family} hurt {{ chain out {{ type filter hook output priority 0; "
        f"{family} daddr {host} {verdict}; }}; }}",
    )
    try:
        yield
    finally:
        run(*nft, stdin=f"delete table {family} hurt")


def _reject(network, host):
    return packet_filter(
        network, f"reject with {'icmpv6' if ':' in host else 'icmp'} type admin-prohibited", host
    )


# name: (what is done, the reason of each lost datagram by family; which may be one of two)
_HURTS = {
    "drop": (
        lambda network, host: packet_filter(network, "drop", host),
        {"ipv4": ["send_not_permitted"], "ipv6": ["send_not_permitted"]},
    ),
    # The filter's own ICMP message may be there before the next send: then that is what the send
    # reports.
    "reject": (
        _reject,
        {
            "ipv4": ["send_not_permitted", "send_host_unreachable"],
            "ipv6": ["send_not_permitted", "send_prohibited"],
        },
    ),
    "unreachable": (
        lambda network, host: route(network, "unreachable", host),
        {"ipv4": ["send_host_unreachable"], "ipv6": ["send_host_unreachable"]},
    ),
    "blackhole": (
        lambda network, host: route(network, "blackhole", host),
        {"ipv4": ["send_invalid"], "ipv6": ["send_invalid"]},
    ),
    "prohibit": (
        lambda network, host: route(network, "prohibit", host),
        {"ipv4": ["send_prohibited"], "ipv6": ["send_prohibited"]},
    ),
}


@pytest.fixture
def pair(engine, start_proxy, open_service, open_client, admin):
    """pair(family) -> (proxy, client of the service that is hurt, client of the one that is not),
    both with a session."""

    def make(family):
        open_service([family.service(254), family.service(253)], echo())
        proxy = start_proxy(
            configuration(
                table(name="hurt", listen=family.listener(5001), upstream=family.service(254)),
                table(name="well", listen=family.listener(5002), upstream=family.service(253)),
                engine=engine,
                head=admin.section(),
            )
        )
        here = family.client_port(0)
        hurt, well = open_client(here), open_client(here)
        assert hurt.ask(b"before", family.listener(5001)) and well.ask(
            b"before", family.listener(5002)
        )
        return proxy, hurt, well

    return make


def wait_for_drops(proxy, admin):
    """The cure must not come before the last send: a shard may wait for a processor meanwhile."""

    def dropped():
        metrics = parse_metrics(admin.http("/metrics")[2].decode())
        return sum(n for (name, *_), n in metrics.items() if name == "udpproxy_drops_total")

    proxy.wait_until(lambda: dropped() >= _QUESTIONS, what=f"{_QUESTIONS} drops")


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("hurt", _HURTS)
def test_requests_that_cannot_leave_are_counted_under_one_reason_and_the_next_one_after_the_cure_is_answered(
    family, hurt, network, pair, figures, admin
):
    proxy, client, other = pair(family)
    cause, reasons = _HURTS[hurt]
    with cause(network, family.host(254)):
        for number in range(_QUESTIONS):
            client.send(b"%d" % number, family.listener(5001))
            assert (
                other.ask(b"%d" % number, family.listener(5002)) is not None
            ), "the other proxy goes on"
        wait_for_drops(proxy, admin)
    client.drain(0.05)
    assert client.ask(b"after", family.listener(5001)).payload == b"after"
    lines = len(proxy.text().splitlines())
    drops = proxy.stop().drops()
    figures.tell(
        "requests that cannot leave: one reason each, the next one after the cure is answered", hurt
    )
    assert sum(drops.values()) == _QUESTIONS and set(drops) <= {
        f"drop_{reason}" for reason in reasons[family.name]
    }
    assert lines < 25, "no flood of log lines"


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("hurt", _HURTS)
def test_replies_that_cannot_leave_are_counted_under_one_reason_and_other_clients_go_on(
    family, hurt, network, pair, figures, admin, open_client
):
    """The cure comes; the first reply after it arrives. The other client asks from another address
    all the time."""
    healthy = "10.1.0.3" if family.name == "ipv4" else "fd01::3"
    network.client.ip(
        f"addr add {healthy}/{24 if family.name == 'ipv4' else 64} dev to-proxy"
        + ("" if family.name == "ipv4" else " nodad")
    )
    try:
        proxy, client, _ = pair(family)
        other = open_client(f"[{healthy}]:0" if ":" in healthy else f"{healthy}:0")
        assert other.ask(b"before", family.listener(5001)) is not None
        cause, reasons = _HURTS[hurt]
        with cause(network, family.client_host):
            for number in range(_QUESTIONS):
                client.send(b"%d" % number, family.listener(5001))
                assert (
                    other.ask(b"%d" % number, family.listener(5001)) is not None
                ), "the other client goes on"
            wait_for_drops(proxy, admin)
        client.drain(0.05)
        assert client.ask(b"after", family.listener(5001)).payload == b"after"
        drops = proxy.stop().drops()
    finally:
        network.client.ip(f"addr del {healthy}/{24 if family.name == 'ipv4' else 64} dev to-proxy")
    figures.tell("replies that cannot leave: one reason each, other clients go on", hurt)
    assert sum(drops.values()) == _QUESTIONS and set(drops) <= {
        f"drop_{reason}" for reason in reasons[family.name]
    }
