"""Addresses, links and routes go and come under traffic (F5 to F11, F34): no session is lost, and
what is asked after the return is answered.

    client                          proxy                                    service
    10.1.0.2  40 clients ask ── 10.1.0.1:5353 (VIP) │ 10.0.0.1 (source) ── 10.0.0.254:53 asked; answers from it and .253 (alias) in turn
    fd01::2                     fd01::1             │ fd00::1              fd00::254, fd00::253

IPv6 addresses vanish with their link and do not come back by themselves; whoever brings the link up
again adds them.
"""

import time

import pytest

from harness.kernel import answers_ping
from harness.load import NEVER, lost_between
from harness.program import configuration, table
from harness.topology import BOTH, IPV4, IPV6

_CLIENTS = 40
_UNDER_WAY_S = 0.1
_REASONS = {"drop_send_net_unreachable", "drop_send_host_unreachable", "drop_send_refused"}


class Flap:
    """Something that goes away and comes back: it is back when the kernels can reach each other
    again (a link takes a moment)."""

    def __init__(self, namespace, go, come, reach):
        self._namespace, self._go, self._come, self._reach = namespace, go, come, reach

    def go(self):
        self._namespace.ip(*self._go)

    def come(self):
        self._namespace.ip(*self._come)
        deadline = time.monotonic() + 5
        while not answers_ping(*self._reach):
            assert time.monotonic() < deadline, "the path does not come back"


def _address(namespace, host, link, reach):
    bits, end = (64, " nodad") if ":" in host else (24, "")
    return Flap(
        namespace,
        [f"addr del {host}/{bits} dev {link}"],
        [f"addr add {host}/{bits} dev {link}{end}"],
        reach,
    )


def _link(namespace, link, host_ipv6, reach):
    return Flap(
        namespace,
        [f"link set {link} down"],
        [f"link set {link} up", f"addr add {host_ipv6}/64 dev {link} nodad"],
        reach,
    )


def flaps_of(network, family):
    source, block, more = (
        ("10.0.0.1", "10.0.0.0/24", "proto kernel scope link src 10.0.0.1")
        if family.name == "ipv4"
        else ("fd00::1", "fd00::/64", "proto kernel")
    )
    service, listener = (network.proxy, family.host(254)), (network.client, family.listen_host)
    return {
        "source": _address(network.proxy, source, "to-service", service),
        "vip": _address(network.proxy, family.listen_host, "to-client", listener),
        "alias": _address(
            network.service, family.host(253), "to-proxy", (network.proxy, family.host(253))
        ),
        "route": Flap(
            network.proxy,
            [f"route del {block} dev to-service"],
            [f"route add {block} dev to-service {more}"],
            service,
        ),
        "link_to_service": _link(network.proxy, "to-service", "fd00::1", service),
        "link_to_client": _link(network.proxy, "to-client", "fd01::1", listener),
    }


@pytest.fixture
def load(engine, start_proxy, start_asking, start_load):
    """load(family) -> (clients that ask for a long time, service, proxy); all clients are
    assured."""

    def make(family):
        sources = [family.service(254), family.service(253)]
        service = start_load("serve", at=sources, answer_from="turn")
        proxy = start_proxy(
            configuration(
                table(listen=family.listener(), upstream=sources[0], reply_aliases=sources[1:]),
                engine=engine,
            )
        )
        asking = start_asking(family, clients=_CLIENTS, rate=1000)
        return asking, service, proxy

    return make


def flap_under_load(flap, times, pause):
    """The times during which all was there."""
    there = []
    for _ in range(times):
        back = time.monotonic()
        time.sleep(pause)
        there.append((back, time.monotonic() - _UNDER_WAY_S))
        flap.go()
        time.sleep(pause)
        flap.come()
    back = time.monotonic()
    time.sleep(pause)
    return [*there, (back, time.monotonic() - _UNDER_WAY_S)]


def check(figures, what, family, times, asking, service, proxy, there):
    result = asking.stop()
    served = service.stop()
    counters = proxy.stop()
    lost = {
        name: sum(lost_between(result, first, last) for first, last in moments)
        for name, moments in there.items()
    }
    figures.count(result)
    figures.tell(
        f"{what} gone and back {times} times under load: no session lost, what is asked after the "
        "return is answered",
        f"{family}: {sum(lost.values())} lost after a return of {result['sent']} asked",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert set(lost.values()) == {0}, f"{lost} {there} {result} {counters}"
    assert (
        counters["sessions_admitted"] == _CLIENTS
        and counters["sessions_expired"] == counters["sessions_evicted"] == 0
    )
    assert served["senders"] == _CLIENTS
    assert set(counters.drops()) <= _REASONS
    return result


@pytest.mark.slow
@pytest.mark.parametrize("family", [IPV4, pytest.param(IPV6, marks=pytest.mark.long)], ids=str)
def test_whatever_goes_and_comes_back_no_session_is_lost_and_the_next_question_is_answered(
    family, network, load, figures
):
    asking, service, proxy = load(family)
    there = {
        name: flap_under_load(flap, 1, 0.3) for name, flap in flaps_of(network, family).items()
    }
    result = check(
        figures, "source, VIP, alias, route, links", family, 1, asking, service, proxy, there
    )
    assert result["lost"] > 100, "it was felt"


@pytest.mark.long
@pytest.mark.bound(300)
@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize(
    "what, times",
    [
        ("source", 20),
        ("vip", 100),
        ("alias", 20),
        ("route", 20),
        ("link_to_service", 20),
        ("link_to_client", 20),
    ],
)
def test_it_may_happen_many_times(family, what, times, network, load, figures):
    asking, service, proxy = load(family)
    there = {what: flap_under_load(flaps_of(network, family)[what], times, 0.3)}
    check(figures, what, family, times, asking, service, proxy, there)
