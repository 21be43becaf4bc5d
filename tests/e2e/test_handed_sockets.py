"""Sockets that a service manager has bound and hands over (LISTEN_FDS, sd_listen_fds(3)), with a
parent in its place.

    client 10.1.0.2 fd01::2 ── 10.1.0.1 fd01::1 proxy 10.0.0.1 fd00::1 ── service
"""

import contextlib
import os
import signal

import pytest

from harness import address
from harness.handing_over import handing_over, udp
from harness.program import configuration, run_once, table
from harness.service import echo
from harness.topology import BOTH, IPV4, IPV6
from harness.users import as_its_user, several_users

_PORT = 5353


def _configuration(listen=IPV4.listener(), engine="epoll", shards=1, family=IPV4, head=""):
    return configuration(
        table(listen=listen, upstream=family.service(254)), engine=engine, shards=shards, head=head
    )


@pytest.fixture
def start(start_proxy):
    """start(text, sockets…) runs the program with them; `.handed` are their inodes' names."""

    def start(text, *sockets, ready=True, become=(), **options):
        proxy = start_proxy(text, ready=False, prefix=[*handing_over(*sockets, **options), *become])
        proxy.handed = proxy.wait_until(
            lambda: [line.split()[1:] for line in proxy.lines if line.startswith("bound")]
        )[0]
        if ready:
            proxy.wait_event("ready")
        return proxy

    return start


def _sockets_of(proxy):
    found = set()
    with os.scandir(f"/proc/{proxy.pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(entry.path))
    return found


@pytest.mark.parametrize("shards, handed", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("wildcard", [False, True], ids=["one_address", "wildcard"])
def test_a_handed_socket_serves_the_listener_of_its_address(
    engine, family, wildcard, shards, handed, start, open_service, open_client, open_crowd
):
    """What came before the start is answered too, from the address that was asked; of several
    shards each has a socket, handed over or of its own."""
    open_service([family.service(254)], echo())
    listener = family.listener()
    host = ("[::]" if family is IPV6 else "0.0.0.0") if wildcard else family.listen_host
    bind = address.join(host.strip("[]"), _PORT)
    proxy = start(
        _configuration(bind, engine, shards, family),
        *[udp(bind)] * handed,
        ready=False,
        await_datagram=True,
    )
    client = open_client(family.anywhere)
    client.send(b"before", listener)
    # The first datagram may be in the second socket's queue, and the first socket starts us.
    crowd = open_crowd(40, family.anywhere)
    for number in range(len(crowd)):
        crowd.send(number, b"crowd", listener)
    assert (answer := client.receive()) and (answer.payload, answer.source) == (b"before", listener)
    answered = set()
    while len(answered) < len(crowd) and (news := crowd.arrived(20)):
        assert {datagram.source for _, datagram in news} == {listener}
        answered |= {number for number, _ in news}
    assert len(answered) == len(crowd)
    assert set(proxy.handed) <= _sockets_of(proxy)
    assert proxy.wait_event("handed_over")["sockets"] == str(handed)
    assert proxy.stop().drops() == {}


def test_both_halves_of_every_address_are_served(start, open_service, open_client):
    open_service([IPV4.service(254)], echo())
    proxy = start(_configuration(f":{_PORT}"), udp(f"0.0.0.0:{_PORT}"), udp(f"[::]:{_PORT}"))
    for family in BOTH:
        answer = open_client(family.anywhere).ask(b"x", family.listener())
        assert answer and answer.source == family.listener()
    assert set(proxy.handed) <= _sockets_of(proxy)
    assert len(proxy.all_events("handed_over")) == 2


@pytest.mark.parametrize(
    "listen, shards, sockets, complaint",
    [
        (
            IPV4.listener(),
            2,
            [udp(IPV4.listener(), reuse_port=False)],
            "descriptor 3 (udpproxy.socket) has no SO_REUSEPORT, and 2 shards need a socket each: "
            "ReusePort=yes in the socket unit, or runtime.shards = 1",
        ),
        (
            IPV4.listener(),
            1,
            [udp(IPV4.listener())] * 2,
            "2 sockets are handed over, and the shards are 1: one ListenDatagram= of the socket "
            "unit for each shard, or more runtime.shards",
        ),
        (
            f"[::]:{_PORT}",
            1,
            [udp(f"[::]:{_PORT}", ipv6_only=False)],
            "descriptor 3 (udpproxy.socket) takes IPv4 clients as well: BindIPv6Only=ipv6-only in "
            "the socket unit",
        ),
    ],
    ids=["exclusive", "too_many", "both_families"],
)
def test_a_socket_that_cannot_serve_its_listener_is_a_complaint(
    start, listen, shards, sockets, complaint
):
    proxy = start(_configuration(listen, shards=shards), *sockets, ready=False)
    assert proxy.wait() == 78, "no restart would help"
    (failed,) = proxy.all_events("failed")
    assert failed["reason"] == f'listener "echo" {listen}: {complaint}'


def test_one_shard_needs_no_shared_port(engine, start, open_service, open_client):
    open_service([IPV4.service(254)], echo())
    proxy = start(_configuration(engine=engine), udp(IPV4.listener(), reuse_port=False))
    assert open_client().ask(b"x", IPV4.listener()).payload == b"x"
    assert set(proxy.handed) <= _sockets_of(proxy)


@several_users
def test_under_another_user_each_shard_needs_a_handed_socket(start, open_service, open_crowd):
    """A service manager makes them as root, and the kernel lets only root join them."""
    open_service([IPV4.service(254)], echo())
    text = _configuration(shards=2)
    proxy = start(text, udp(IPV4.listener()), become=as_its_user(), ready=False)
    assert proxy.wait() == 78
    assert proxy.all_events("failed")[0]["reason"].endswith(
        "was made by user 0, who alone may open more for 2 shards: one ListenDatagram= of the "
        "socket unit for each shard, or fewer runtime.shards"
    )
    start(text, *[udp(IPV4.listener())] * 2, become=as_its_user())
    crowd = open_crowd(20)
    assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == len(crowd)


def test_what_no_listener_wants_is_a_warning_and_closed(start, open_service, open_client):
    open_service([IPV4.service(254)], echo())
    proxy = start(
        _configuration(),
        udp(IPV4.listener(_PORT + 1)),
        {"kind": "tcp", "bind": IPV4.listener()},
        {"kind": "unix"},
        {"kind": "pipe"},
        udp(f"[::ffff:{IPV4.listen_host}]:{_PORT + 2}", ipv6_only=False),
    )
    assert open_client().ask(b"x", IPV4.listener()).payload == b"x"
    no_udp = "is no UDP socket (ListenDatagram= with an address and a port makes one)"
    told = {event["socket"]: event["reason"] for event in proxy.all_events("handed_over_unused")}
    assert told == {
        "descriptor 3 (udpproxy.socket)": f"no listener is at {IPV4.listener(_PORT + 1)}",
        "descriptor 4 (udpproxy.socket)": no_udp,
        "descriptor 5 (udpproxy.socket)": no_udp,
        "descriptor 6 (udpproxy.socket)": "is no socket",
        "descriptor 7 (udpproxy.socket)": "is a socket of IPv6 for the IPv4 address "
        + IPV4.listener(_PORT + 2),
    }
    assert not set(proxy.handed) & _sockets_of(proxy)


@pytest.mark.parametrize(
    "variables, told",
    [
        ({"LISTEN_PID": "1", "LISTEN_FDS": "5"}, []),
        ({"LISTEN_FDS": "many"}, ["is no number"]),
        ({"LISTEN_FDS": "-1"}, ["is no number"]),
        ({"LISTEN_FDS": "2000000000"}, ["is not open, though LISTEN_FDS is 2000000000"]),
    ],
)
def test_an_environment_that_is_not_so_takes_nothing(
    start, open_service, open_client, variables, told
):
    open_service([IPV4.service(254)], echo())
    proxy = start(_configuration(), variables=variables)
    assert open_client().ask(b"x", IPV4.listener()).payload == b"x"
    assert [event["reason"] for event in proxy.all_events("handed_over_unused")] == told


def _reload(proxy, text, event):
    count = len(proxy.all_events(event))
    proxy.configuration_file.write_text(text, encoding="utf-8")
    proxy.signal(signal.SIGHUP)
    proxy.wait_until(lambda: len(proxy.all_events(event)) > count, what=event)


@pytest.mark.parametrize("kept_by", [None, "systemd"])
def test_a_listener_that_comes_back_opens_sockets_of_its_own(
    start, open_service, open_client, kept_by
):
    open_service([IPV4.service(254)], echo())
    other = _configuration(IPV4.listener(_PORT + 1))
    proxy = start(_configuration(), udp(IPV4.listener()), kept_by=kept_by)
    _reload(proxy, other, "listener_closed")
    if kept_by is None:
        _reload(proxy, _configuration(), "reloaded")
        assert open_client().ask(b"again", IPV4.listener()).payload == b"again"
        assert not set(proxy.handed) & _sockets_of(proxy)
        return
    # The manager's copy holds the port.
    _reload(proxy, _configuration(), "not_reloaded")
    (failed,) = proxy.all_events("reload_failed")
    assert "bind: Address already in use (held by systemd (process " in failed["reason"]
    assert open_client().ask(b"other", IPV4.listener(_PORT + 1)).payload == b"other"


def test_a_check_takes_a_handed_port_for_free(network, tmp_path):
    file = tmp_path / "udpproxy.toml"
    file.write_text(_configuration(), encoding="utf-8")

    prefix = network.proxy.command(*handing_over(udp(IPV4.listener()), kept_by="systemd"))
    done = run_once("--check-config", "--config", file, prefix=prefix)
    assert (done.returncode, done.stderr) == (0, "")
