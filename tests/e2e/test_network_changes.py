"""Routes and addresses change while sends succeed: the program notices without a failed send.

    client                        proxy                                           service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1, 10.0.0.9 (comes)  ────────  10.0.0.254:53
    fd01::2             fd01::1       │ fd00::1, fd00::9

The service answers whatever comes; it has no route to fd01::/64.
"""

import subprocess
import threading
import time

import pytest

from harness import address
from harness.kernel import Cost
from harness.program import configuration, table
from harness.service import echo
from harness.topology import BOTH, IPV4, IPV6
from harness.without_family import prefix

_ROUTES = {
    "ipv4": ("10.0.0.0/24", "proto kernel scope link", 24),
    "ipv6": ("fd00::/64", "proto kernel metric 256", 64),
}


@pytest.fixture
def second_source(network):
    """prefer(family, host) makes routing choose one of two addresses as the source; both stay
    there."""

    def prefer(family, last):
        block, more, _ = _ROUTES[family.name]
        network.proxy.ip(f"route replace {block} dev to-service {more} src {family.host(last)}")

    for family in BOTH:
        network.proxy.ip(
            f"addr replace {family.host(9)}/{_ROUTES[family.name][2]} dev to-service"
            + (" nodad" if family is IPV6 else "")
        )
        prefer(family, 1)
    yield prefer
    for family in BOTH:
        prefer(family, 1)
        network.proxy.ip(f"addr del {family.host(9)}/{_ROUTES[family.name][2]} dev to-service")


@pytest.fixture
def service(open_service):
    return open_service([IPV4.service(254), IPV6.service(254)], echo())


def start(start_proxy, family, engine, more="", **options):
    return start_proxy(
        configuration(
            table(listen=family.listener(), upstream=family.service(254)) + more, engine=engine
        ),
        **options,
    )


def ask_until(client, family, done, seconds=20):
    """Asks five times a second until done(payload, answer) is true; the number of questions, or
    None."""
    deadline = time.monotonic() + seconds
    asked = 0
    while time.monotonic() < deadline:
        asked += 1
        payload = b"question %d" % asked
        if done(payload, client.ask(payload, family.listener(), 0.2)):
            return asked
        time.sleep(0.2)
    return None


def source_of(service, payload):
    return address.split(service.sender_of(payload))[0]


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_sessions_leave_a_source_that_routing_has_left_though_their_sends_succeed(
    family, engine, second_source, service, start_proxy, open_client
):
    """Both addresses stay: sends from the old one go on to succeed, so no error tells of it."""
    proxy = start(start_proxy, family, engine)
    client = open_client(family.anywhere)
    assert client.ask(b"before", family.listener()) is not None
    assert source_of(service, b"before") == family.host(1)
    second_source(family, 9)
    assert ask_until(
        client,
        family,
        lambda payload, answer: answer is not None
        and source_of(service, payload) == family.host(9),
    )
    assert proxy.stop()["sessions_moved"] == 1


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_sessions_of_a_configured_source_stay(
    family, engine, second_source, service, start_proxy, open_client
):
    proxy = start(start_proxy, family, engine, f'source = "{family.host(1)}"\n')
    client = open_client(family.anywhere)
    assert client.ask(b"before", family.listener()) is not None
    second_source(family, 9)
    time.sleep(2.5)  # a change is followed within a second and a half
    assert client.ask(b"after", family.listener()) is not None
    assert service.sender_of(b"after") == service.sender_of(b"before")
    assert proxy.stop()["sessions_moved"] == 0


@pytest.fixture
def detection(network):
    """Duplicate address detection at the proxy, with time for a test: three probes, a second
    apart."""
    keys = ("accept_dad", "dad_transmits")
    for key, value in zip(keys, (1, 3)):
        for scope in ("all", "to-service"):
            network.proxy.sysctl(f"net.ipv6.conf.{scope}.{key}", value)
    yield
    for key, value in zip(keys, (0, 1)):
        for scope in ("all", "to-service"):
            network.proxy.sysctl(f"net.ipv6.conf.{scope}.{key}", value)
    network.proxy.ip("addr replace fd00::1/64 dev to-service nodad")


def test_a_session_that_began_while_the_address_was_tentative_moves_to_it(
    engine, network, detection, service, start_proxy, open_client
):
    """The session begins from fd01::1, to which the service has no route: no answer comes, no send
    fails, and the client's retries kept the session alive for ever."""
    network.proxy.ip("addr del fd00::1/64 dev to-service", "addr add fd00::1/64 dev to-service")
    proxy = start(start_proxy, IPV6, engine)
    client = open_client(IPV6.anywhere)
    asked = ask_until(client, IPV6, lambda _, answer: answer is not None)
    assert asked is not None and asked > 1
    assert proxy.stop()["sessions_moved"] == 1


def test_an_address_that_is_tentative_for_a_moment_moves_no_session(
    engine, network, detection, service, start_proxy, open_client
):
    """A link that flaps takes its IPv6 addresses away and brings them back as tentative ones;
    another address is the kernel's choice meanwhile."""
    network.proxy.sysctl("net.ipv6.conf.to-service.dad_transmits", 1)
    proxy = start(start_proxy, IPV6, engine)
    client = open_client(IPV6.anywhere)
    assert client.ask(b"before", IPV6.listener()) is not None
    network.proxy.ip("addr del fd00::1/64 dev to-service", "addr add fd00::1/64 dev to-service")
    time.sleep(4)
    assert ask_until(client, IPV6, lambda _, answer: answer is not None)
    assert proxy.stop()["sessions_moved"] == 0


def _storm(namespace, seconds):
    """Some thousand route changes a second that concern nobody."""
    lines = "".join(
        f"route {verb} blackhole 198.51.100.{host}/32\n"
        for host in range(250)
        for verb in ("add", "del")
    )
    end = time.monotonic() + seconds
    changes = 0
    while time.monotonic() < end:
        subprocess.run(
            ["ip", "-n", namespace.name, "-batch", "-"], input=lines, text=True, check=True
        )
        changes += 500
        time.sleep(0.3)
    return changes


def test_a_storm_of_changes_costs_little_and_hides_no_change(
    engine, network, second_source, service, start_proxy, open_client
):
    """The queue of announcements overflows (ENOBUFS): what was lost is looked for all the same."""
    proxy = start(start_proxy, IPV4, engine)
    client = open_client()
    assert client.ask(b"before", IPV4.listener()) is not None
    cost = Cost(proxy.worker_pid)
    ran = cost.ran()
    changes = _storm(network.proxy, 5)
    used = cost.ran() - ran
    assert changes > 2000
    assert used < 0.5, f"{used} s of processor time for {changes} changes"
    storm = threading.Thread(target=_storm, args=(network.proxy, 5))
    storm.start()
    second_source(IPV4, 9)
    storm.join()
    assert ask_until(
        client, IPV4, lambda payload, answer: answer and source_of(service, payload) == "10.0.0.9"
    )
    assert proxy.stop()["sessions_moved"] == 1


def test_without_announcements_changes_are_looked_for_and_the_log_says_so(
    engine, second_source, service, start_proxy, open_client
):
    proxy = start(start_proxy, IPV4, engine, prefix=prefix("AF_NETLINK", "EAFNOSUPPORT"))
    (event,) = proxy.all_events("network_unwatched")
    assert "Address family not supported" in event["reason"]
    client = open_client()
    assert client.ask(b"before", IPV4.listener()) is not None
    time.sleep(1)  # the first look follows the start
    second_source(IPV4, 9)
    assert ask_until(
        client,
        IPV4,
        lambda payload, answer: answer and source_of(service, payload) == "10.0.0.9",
        seconds=40,
    )
    assert proxy.stop()["sessions_moved"] == 1
