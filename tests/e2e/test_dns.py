"""Upstreams whose names a DNS server knows, or keeps silent about.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 .253 .252 services
                              fd00::1           ── fd00::254           service
                                                  10.0.0.251 fd00::251  unbound
                                                  10.0.0.250            a socket that never answers

The program has an /etc/hosts and an /etc/resolv.conf of its own. unbound serves the zone `test`
from a file and reads it again on SIGHUP.
"""

import signal
import time

import pytest

from harness.client import open_socket
from harness.hosts import Hosts
from harness.program import configuration, run_once, table
from harness.service import Reply
from harness.unbound import start_unbound, wait_for_starts

_ECHO = "10.1.0.1:5300"
_SILENT = "10.0.0.250"
_UNBOUND = "10.0.0.251"

_ZONE = """  local-zone: "test." nodefault
auth-zone:
  name: "test."
  zonefile: "{file}"
  for-downstream: yes
  for-upstream: no"""


class Zone:
    def __init__(self, start_process, network, directory, *records):
        self._file = directory / "test.zone"
        self._write(records)
        self._daemon = start_unbound(
            start_process,
            network.service,
            directory,
            [_UNBOUND, "fd00::251"],
            _ZONE.format(file=self._file),
        )

    def _write(self, records):
        lines = ["$TTL 1", "@ SOA ns root 1 60 60 60 1", "@ NS ns", "ns A 10.0.0.251", *records]
        self._file.write_text("\n".join(lines) + "\n", encoding="ascii")

    def has(self, *records):
        starts = self._daemon.text().count("start of service")
        self._write(records)
        self._daemon.signal(signal.SIGHUP)
        wait_for_starts(self._daemon, starts + 1)


@pytest.fixture
def start_zone(start_process, network, tmp_path):
    return lambda *records: Zone(start_process, network, tmp_path, *records)


@pytest.fixture
def silent(network, closing):
    return closing(open_socket(network.service, f"{_SILENT}:53"))


def echo(request):
    return [Reply(request.payload)]


def named(name, upstream, port, **more):
    return table(name=name, listen=f"10.1.0.1:{port}", upstream=upstream, **more)


def wait_for_answer(client):
    """Asks again and again, as a client would: shards take a new address in their next turn."""
    deadline = time.monotonic() + 20
    while not client.ask(b"question", _ECHO, timeout=0.3):
        assert time.monotonic() < deadline, "no answer"


def answered_first(proxy, *names):
    """Which of these names, or of all, was the first to have an address or to be given up."""
    return next(
        event["proxy"]
        for event in proxy.events
        if event["event"] in ("resolved", "unresolved") and (not names or event["proxy"] in names)
    )


def test_names_whose_server_is_silent_hold_up_no_other(
    engine, start_proxy, open_client, open_service, silent, tmp_path
):
    """A name in /etc/hosts had its address after the two before it had been given up: 20 s."""
    open_service(["10.0.0.254:53"], echo)
    hosts = Hosts(tmp_path, "10.0.0.254 hosts.test", nameservers=[_SILENT])
    text = configuration(
        named("one", "one.test:53", 5301),
        named("two", "two.test:53", 5302),
        named("hosts", "hosts.test:53", 5300),
        engine=engine,
    )
    proxy = start_proxy(text, prefix=hosts.prefix)
    proxy.wait_event("resolved", proxy="hosts", timeout=30)
    wait_for_answer(open_client())
    for name in ("one", "two"):
        reason = proxy.wait_event("unresolved", proxy=name, timeout=30)["reason"]
        assert reason == f'upstream "{name}.test:53": resolve: Timeout while contacting DNS servers'
    assert answered_first(proxy) == "hosts"
    proxy.stop()


def test_a_reload_while_names_are_asked_for_brings_its_own_name_at_once(
    engine, start_proxy, open_client, open_service, silent, tmp_path
):
    open_service(["10.0.0.254:53"], echo)
    hosts = Hosts(tmp_path, "10.0.0.254 hosts.test", nameservers=[_SILENT])
    proxy = start_proxy(
        configuration(named("one", "one.test:53", 5301), engine=engine), prefix=hosts.prefix
    )
    proxy.configuration_file.write_text(
        configuration(
            named("one", "one.test:53", 5301),
            named("two", "two.test:53", 5302),
            named("hosts", "hosts.test:53", 5300),
            engine=engine,
        ),
        encoding="ascii",
    )
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("resolved", proxy="hosts", timeout=30)
    wait_for_answer(open_client())
    proxy.wait_event("unresolved", proxy="two", timeout=30)
    assert answered_first(proxy, "hosts", "two") == "hosts"
    proxy.stop()


def test_a_change_of_resolv_conf_reaches_names_that_are_asked_for(
    engine, start_proxy, start_zone, silent, tmp_path
):
    start_zone("one A 10.0.0.254")
    hosts = Hosts(tmp_path, nameservers=[_SILENT])
    proxy = start_proxy(
        configuration(named("one", "one.test:53", 5300), engine=engine), prefix=hosts.prefix
    )
    assert silent.recv(512), "the silent one was asked"
    hosts.ask(_UNBOUND)
    proxy.wait_event("resolved", proxy="one", endpoint="10.0.0.254:53", timeout=30)
    proxy.stop()


def test_a_name_that_changes_address_takes_new_sessions_along_and_leaves_the_others(
    engine, start_proxy, start_zone, open_client, open_service, tmp_path
):
    service = open_service(["10.0.0.254:53", "10.0.0.253:53"], echo)
    zone = start_zone("www CNAME host", "host A 10.0.0.254")
    hosts = Hosts(tmp_path, nameservers=[_UNBOUND])
    proxy = start_proxy(
        configuration(named("www", "www.test:53", 5300), engine=engine), prefix=hosts.prefix
    )
    proxy.wait_event("resolved", proxy="www", endpoint="10.0.0.254:53")

    def asked_on(client):
        assert client.ask(b"question", _ECHO).payload == b"question"
        return service.requests[-1].asked_on

    def new_client_asks(endpoint):
        """The shards take a new address in their next turn."""
        deadline = time.monotonic() + 20
        while asked_on(client := open_client()) != endpoint:
            assert time.monotonic() < deadline, f"no new client gets to {endpoint}"
        return client

    early = open_client()
    assert asked_on(early) == "10.0.0.254:53"
    zone.has("www CNAME host", "host A 10.0.0.253")
    proxy.wait_event("resolved", proxy="www", endpoint="10.0.0.253:53", timeout=30)
    late = new_client_asks("10.0.0.253:53")
    assert asked_on(early) == "10.0.0.254:53"
    zone.has()  # the name is gone; the address stays
    reason = proxy.wait_event("unresolved", proxy="www", timeout=30)
    assert "Domain name not found" in reason["reason"] and "the address it has" in reason["effect"]
    assert asked_on(open_client()) == "10.0.0.253:53"
    zone.has("www A 10.0.0.254")
    proxy.wait_until(
        lambda: len(proxy.all_events("resolved", endpoint="10.0.0.254:53")) == 2, 60, "the old one"
    )
    new_client_asks("10.0.0.254:53")
    assert asked_on(late) == "10.0.0.253:53"
    assert proxy.stop().drops() == {}


def test_a_name_that_does_not_exist_serves_once_it_does(
    engine, start_proxy, start_zone, open_client, open_service, tmp_path
):
    open_service(["[fd00::254]:53"], echo)
    zone = start_zone()
    hosts = Hosts(tmp_path, nameservers=["fd00::251"])
    proxy = start_proxy(
        configuration(named("six", "six.test:53", 5300), engine=engine), prefix=hosts.prefix
    )
    reason = proxy.wait_event("unresolved", proxy="six")["reason"]
    assert reason == 'upstream "six.test:53": resolve: Domain name not found'
    zone.has("six AAAA fd00::254")
    proxy.wait_event("resolved", proxy="six", endpoint="[fd00::254]:53", timeout=60)
    wait_for_answer(open_client())
    proxy.stop()


def test_the_family_of_the_aliases_is_the_one_that_is_asked_for(
    engine, start_proxy, start_zone, tmp_path
):
    start_zone("both AAAA fd00::254", "both A 10.0.0.254")
    hosts = Hosts(tmp_path, nameservers=[_UNBOUND])
    proxy = start_proxy(
        configuration(
            named("four", "both.test:53", 5300, reply_aliases=["10.0.0.253:53"]),
            named("six", "both.test:53", 5301, reply_aliases=["[fd00::253]:53"]),
            named("any", "both.test:53", 5302),
            engine=engine,
        ),
        prefix=hosts.prefix,
    )
    assert proxy.wait_event("resolved", proxy="four")["endpoint"] == "10.0.0.254:53"
    assert proxy.wait_event("resolved", proxy="six")["endpoint"] == "[fd00::254]:53"
    assert proxy.wait_event("resolved", proxy="any")["addresses"] == "2"
    proxy.stop()


def test_an_answer_too_long_for_udp_comes_over_tcp(engine, start_proxy, start_zone, tmp_path):
    start_zone(*(f"many A 10.0.1.{host}" for host in range(1, 101)))
    hosts = Hosts(tmp_path, nameservers=[_UNBOUND])
    proxy = start_proxy(
        configuration(named("many", "many.test:53", 5300), engine=engine), prefix=hosts.prefix
    )
    assert proxy.wait_event("resolved", proxy="many")["addresses"] == "100"
    proxy.stop()


def test_as_many_names_as_there_are_proxies_are_asked_for_at_once(
    engine, start_proxy, start_zone, tmp_path
):
    count = 256
    start_zone(*(f"host{i} A 10.0.2.{i % 250 + 1}" for i in range(count)))
    hosts = Hosts(tmp_path, nameservers=[_SILENT, _UNBOUND])
    proxy = start_proxy(
        configuration(
            *(named(f"proxy{i}", f"host{i}.test:53", 6000 + i) for i in range(count)),
            engine=engine,
            shards=1,
        ),
        prefix=hosts.prefix,
        ready=False,
    )
    proxy.wait_event("ready", timeout=30)
    proxy.wait_until(lambda: len(proxy.all_events("resolved")) == count, 60, "all of them")
    assert proxy.all_events("unresolved") == []
    proxy.stop()


def test_a_check_asks_for_all_names_at_once(network, start_zone, silent, tmp_path):
    """Each silent name used to cost it ten seconds."""
    start_zone("host A 10.0.0.254")
    names = [named(f"proxy{i}", f"silent{i}.example:53", 6000 + i) for i in range(8)]
    hosts = Hosts(tmp_path, "10.0.0.254 hosts.test", nameservers=[_SILENT])
    file = tmp_path / "names.toml"
    text = configuration(*names, named("hosts", "hosts.test:53", 5300))
    file.write_text(text, encoding="ascii")
    for argument, word in (("--check-config", "silent7.example"), ("--doctor", "silent7.example")):
        done = run_once(
            argument, "--config", file, prefix=network.proxy.command(*hosts.prefix), timeout=40
        )
        assert "Timeout while contacting DNS servers" in done.stdout + done.stderr
        assert word in done.stdout + done.stderr
        assert "hosts.test" not in done.stderr
