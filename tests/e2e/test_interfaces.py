"""Interfaces that are named in the configuration come late, go, and are made anew under their names
with other indices.

    client                              proxy                                        service
    10.1.0.2   ────────────── 10.1.0.1:5353  │ 10.0.0.1   ─────────────── 10.0.0.254:53
    fe80::2%to-tun9  ──── fe80::1%tun9 (comes) │
                                             │ fe80::1%tun8 (comes) ───── fe80::2%to-tun8:53, fe80::3
"""

import signal
import time

import pytest

from harness.program import configuration, table
from harness.service import Service, echo, from_each
from harness.topology import IPV4


class Tunnel:
    """A link that comes and goes: `name` at the proxy, `to-name` at the peer."""

    def __init__(self, proxy, peer, name, peer_hosts):
        self._proxy, self._peer, self._name, self._hosts = proxy, peer, name, peer_hosts
        self._here = False

    def come(self):
        self._proxy.ip(
            f"link add {self._name} type veth peer name to-{self._name} netns {self._peer.name}",
            f"addr add fe80::1/64 dev {self._name} nodad",
            f"link set {self._name} up",
        )
        self._peer.ip(
            *(f"addr add {host}/64 dev to-{self._name} nodad" for host in self._hosts),
            f"link set to-{self._name} up",
        )
        self._here = True

    def go(self):
        self._proxy.ip(f"link del {self._name}")
        self._here = False

    def close(self):
        if self._here:
            self.go()


@pytest.fixture
def tun9(network, closing):
    return closing(Tunnel(network.proxy, network.client, "tun9", ["fe80::2"]))


@pytest.fixture
def tun8(network, closing):
    return closing(Tunnel(network.proxy, network.service, "tun8", ["fe80::2", "fe80::3"]))


def answered(open_client, to, bind_to, replies=1, seconds=15):
    """Whether a client of its own is answered in time; it asks again until then."""
    deadline = time.monotonic() + seconds
    client = open_client(bind_to)
    asked = 0
    while time.monotonic() < deadline:
        asked += 1
        payload = b"question %d" % asked
        client.drain(0)  # a late reply would be taken for this one's, and so on for ever
        try:
            client.send(payload, to)
        except OSError:
            pass  # the link is not up yet
        got = []
        while len(got) < replies and (reply := client.receive(0.3)) is not None:
            got.append(reply)
        if len([reply for reply in got if reply.payload.startswith(payload)]) == replies:
            return True
    return False


def test_a_listener_serves_whenever_its_interface_is_there(
    engine, tun9, start_proxy, open_service, open_client
):
    """Without the interface the start ended with 78 for all proxies, and every reload was refused;
    made anew under its name, it left the listener deaf."""
    open_service([IPV4.service(254)], echo())
    proxy = start_proxy(
        configuration(
            table(listen=[IPV4.listener(), "[fe80::1%tun9]:5353"], upstream=IPV4.service(254)),
            engine=engine,
        )
    )
    (event,) = proxy.all_events("interface_absent")
    assert event["interface"] == "tun9" and event["key"] == "listen"
    assert answered(open_client, IPV4.listener(), "0.0.0.0:0")
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    for _ in range(2):
        tun9.come()
        assert answered(open_client, "[fe80::1%to-tun9]:5353", "[::]:0")
        tun9.go()
    assert answered(open_client, IPV4.listener(), "0.0.0.0:0")
    proxy.wait_event("listener_closed")
    tun9.come()
    assert answered(open_client, "[fe80::1%to-tun9]:5353", "[::]:0")
    proxy.stop()


def test_an_upstream_and_an_alias_are_used_whenever_their_interface_is_there(
    engine, network, tun8, start_proxy, closing, open_service, open_client
):
    """One client that never stops asking: its session must not stay on sockets of an interface that
    is gone."""
    open_service([IPV4.service(254)], echo())
    proxy = start_proxy(
        configuration(
            table(
                listen="10.1.0.1:5353",
                upstream="[fe80::2%tun8]:53",
                reply_aliases=["[fe80::3%tun8]:53"],
            ),
            table(name="other", listen="10.1.0.1:5354", upstream=IPV4.service(254)),
            engine=engine,
        )
    )
    absent = {event["key"] for event in proxy.all_events("interface_absent")}
    assert absent == {"upstream", "reply_aliases"}
    assert answered(open_client, "10.1.0.1:5354", "0.0.0.0:0")
    same = open_client()
    assert same.ask(b"nobody", "10.1.0.1:5353", 0.3) is None
    sources = ["[fe80::2%to-tun8]:53", "[fe80::3%to-tun8]:53"]
    for _ in range(2):
        tun8.come()
        service = Service(network.service, sources, from_each(sources))
        assert answered(lambda _: same, "10.1.0.1:5353", "", replies=2)
        service.close()
        tun8.go()
    assert answered(open_client, "10.1.0.1:5354", "0.0.0.0:0")
    proxy.stop()


@pytest.mark.slow
def test_an_interface_that_cannot_be_followed_is_told_once_and_tried_again(
    engine, network, tun9, start_proxy, start_process, open_service, open_client
):
    """Somebody else holds the port on every address, so the listener cannot be opened on it."""
    open_service([IPV4.service(254)], echo())
    holder = start_process(
        [
            "/usr/bin/python3",
            "-c",
            "import socket, time; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); "
            "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1); "
            "s.bind(('::', 5353)); print('bound', flush=True); time.sleep(60)",
        ],
        network.proxy,
    )
    holder.wait_until(lambda: "bound" in holder.lines, what="bound")
    proxy = start_proxy(
        configuration(
            table(listen="[fe80::1%tun9]:5353", upstream=IPV4.service(254)), engine=engine
        )
    )
    tun9.come()
    failed = proxy.wait_event("interface_change_failed")
    assert f"(held by python3 (process {holder.pid}))" in failed["reason"]
    holder.signal(signal.SIGKILL)
    holder.wait()
    # Tried again every ten seconds, whether or not anything changes.
    proxy.wait_event("listening", timeout=60)
    assert answered(open_client, "[fe80::1%to-tun9]:5353", "[fe80::2%to-tun9]:0")
    assert len(proxy.all_events("interface_change_failed")) == 1
    assert proxy.stop().drops() == {}
