"""A reload goes from one address to every address, and back: the program itself holds the port.
What other programs hold, and what the kernel does not have, is said.

    client                              proxy                             service
    10.1.0.2  ──────── 10.1.0.1, 10.1.0.3  port 5353 │ 10.0.0.1  ──────── 10.0.0.254:53
    fd01::2            fd01::1, fd01::3              │ fd00::1            fd00::254
"""

import signal

import pytest

from harness import address
from harness.namespaces import Network
from harness.program import configuration, table
from harness.reloading import Reloading
from harness.service import echo
from harness.topology import BOTH, IPV6
from harness.without_family import prefix

_CLIENTS = 20


@pytest.fixture(scope="module")
def network():
    with Network.of_three() as made:
        made.proxy.ip(
            "addr add 10.1.0.3/24 dev to-client", "addr add fd01::3/64 dev to-client nodad"
        )
        yield made


def listening(family, listen):
    return table(listen=listen, upstream=family.service(254))


def ask_all(crowd, service, to, words):
    """Each client's port towards the service; all are answered, from the address that they
    asked."""
    got = crowd.ask_all(to, lambda client: b"%s %d" % (words, client))
    assert len(got) == len(crowd) and {reply.source for _, reply in got} == {to}
    return [service.sender_of(b"%s %d" % (words, client)) for client in range(len(crowd))]


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_from_one_address_to_every_address_and_back_sessions_keep_their_ports(
    family, engine, start_proxy, open_service, open_crowd, open_client
):
    """It was refused: "Address already in use", by the program itself."""
    service = open_service([family.service(254)], echo())
    one = family.listener()
    other = address.join("fd01::3" if family is IPV6 else "10.1.0.3", 5353)
    running = Reloading(start_proxy, engine, listening(family, one))
    crowd = open_crowd(_CLIENTS, family.anywhere)
    ports = ask_all(crowd, service, one, b"first")
    assert open_client(family.anywhere).ask(b"nobody", other, 0.3) is None

    running.reload(listening(family, ":5353"))
    assert ask_all(crowd, service, one, b"every") == ports
    for to in (one, other):
        assert open_client(family.anywhere).ask(b"new", to) is not None

    running.reload(listening(family, one))
    assert ask_all(crowd, service, one, b"one again") == ports
    assert open_client(family.anywhere).ask(b"new again", one) is not None
    assert open_client(family.anywhere).ask(b"nobody again", other, 0.3) is None
    counters = running.proxy.stop()
    assert counters.drops() == {"drop_draining": 1} and counters["sessions_closed"] == 0


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_from_every_address_to_one_the_sockets_stay_until_a_restart_and_the_log_says_so(
    family, engine, start_proxy, open_service, open_crowd, open_client
):
    """Sockets at the one address would get half of its clients in the other of two shards."""
    service = open_service([family.service(254)], echo())
    one = family.listener()
    every = address.join("::" if family is IPV6 else "0.0.0.0", 5353)
    other = address.join("fd01::3" if family is IPV6 else "10.1.0.3", 5353)
    running = Reloading(start_proxy, engine, listening(family, every))
    crowd = open_crowd(_CLIENTS, family.anywhere)
    ports = ask_all(crowd, service, one, b"first")
    running.reload(listening(family, one))
    (event,) = running.proxy.all_events("needs_restart")
    assert event["key"] == f'proxy "echo": listen ({every} stays open)'
    assert ask_all(crowd, service, one, b"narrow") == ports
    two = [
        table(name=name, listen=listen, upstream=family.service(254))
        for name, listen in (("echo", one), ("more", other))
    ]
    assert running.reload_or_refusal(*two) == "not_reloaded"
    assert "only a restart can divide" in running.proxy.text()
    running.reload(listening(family, every))
    assert ask_all(crowd, service, one, b"wide") == ports
    # Gone for good: what has no listener of its own in the file goes with the wildcard's.
    running.reload(
        table(listen=address.join(family.listen_host, 5354), upstream=family.service(254))
    )
    assert open_client(family.anywhere).ask(b"gone", one, 0.3) is None
    assert set(running.proxy.stop().drops()) <= {"drop_draining"}


def test_a_port_of_another_program_is_refused_and_its_holder_named(
    engine, network, start_proxy, start_process, open_service
):
    program = (
        "import socket, time\n"
        "held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "held.bind(('10.1.0.1', 5399))\n"
        "print('bound', flush=True)\n"
        "time.sleep(60)\n"
    )
    holder = start_process(["/usr/bin/python3", "-c", program], network.proxy)
    holder.wait_until(lambda: "bound" in holder.text(), 10, "the port is bound")
    proxy = start_proxy(
        configuration(table(listen="10.1.0.1:5399", upstream="10.0.0.254:53"), engine=engine),
        ready=False,
    )
    assert proxy.wait() == 1
    (event,) = proxy.all_events("failed")
    assert f"Address already in use (held by python3 (process {holder.pid}))" in event["reason"]


def test_without_ipv6_every_address_is_every_ipv4_address(
    engine, start_proxy, open_service, open_client
):
    """The start failed, and the check of the configuration had been content."""
    open_service(["10.0.0.254:53"], echo())
    proxy = start_proxy(
        configuration(table(listen=":5353", upstream="10.0.0.254:53"), engine=engine),
        prefix=prefix("AF_INET6", "EAFNOSUPPORT"),
    )
    (event,) = proxy.all_events("no_ipv6")
    assert event["listen"] == "[::]:5353" and "not supported" in event["reason"]
    assert open_client().ask(b"question", "10.1.0.1:5353") is not None
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    proxy.configuration_file.write_text(
        configuration(table(listen=[":5353", ":5354"], upstream="10.0.0.254:53"), engine=engine)
    )
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded", reloads="2")
    assert open_client().ask(b"question", "10.1.0.1:5354") is not None
    assert proxy.stop().drops() == {}


def test_without_ipv6_an_ipv6_address_that_is_listed_by_itself_ends_the_start(start_proxy):
    proxy = start_proxy(
        configuration(table(listen=["10.1.0.1:5353", "[::]:5353"], upstream="10.0.0.254:53")),
        prefix=prefix("AF_INET6", "EAFNOSUPPORT"),
        ready=False,
    )
    assert proxy.wait() == 1
    (event,) = proxy.all_events("failed")
    assert "[::]:5353: socket: Address family not supported" in event["reason"]


@pytest.fixture
def without_ipv6(network):
    """disable_ipv6 takes addresses away, not sockets."""
    network.proxy.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    yield
    network.proxy.sysctl("net.ipv6.conf.all.disable_ipv6", 0)
    network.proxy.ip(
        "addr add fd01::1/64 dev to-client nodad",
        "addr add fd01::3/64 dev to-client nodad",
        "addr add fd00::1/64 dev to-service nodad",
    )


def test_where_ipv6_is_switched_off_every_address_serves_ipv4(
    engine, without_ipv6, start_proxy, open_service, open_client
):
    open_service(["10.0.0.254:53"], echo())
    proxy = start_proxy(
        configuration(table(listen=":5353", upstream="10.0.0.254:53"), engine=engine)
    )
    assert open_client().ask(b"question", "10.1.0.1:5353") is not None
    assert proxy.stop().drops() == {}
