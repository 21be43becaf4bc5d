"""After a worker was killed, or replaced by an upgrade, everything carries on as if nothing had
been: families, wildcard listeners, several sources, aliases of both kinds, older versions of an
upstream, proxies that a reload has removed, drains, traces, groups that cool down.

    client                        proxy                            service
    10.1.0.2  ───────────  10.1.0.1 │ 10.0.0.1, 10.0.0.7  ───────  10.0.0.254 .253 .252 .251
    fd01::2                fd01::1  │ fd00::1                      fd00::254 ::253 ::252
"""

import os
import signal
import time

import pytest

from harness.client import Client
from harness.friend import Friend
from harness.program import configuration, table
from harness.service import Reply, echo, from_each
from harness.tables import tables_of_each_kind
from harness.topology import BOTH, IPV4, IPV6

_AT = [family.service(last) for family in BOTH for last in (254, 253, 252, 251)]


def _kill(proxy):
    os.kill(proxy.worker_pid, signal.SIGKILL)


def _upgrade(proxy):
    proxy.signal(signal.SIGUSR2)


def _replace(proxy, way):
    """The next worker has adopted; what it tells of that."""
    before = len(proxy.all_events("adopted"))
    way(proxy)
    proxy.wait_until(lambda: len(proxy.all_events("adopted")) > before, what="an adoption")
    return proxy.all_events("adopted")[-1]


@pytest.fixture(name="way", params=[_kill, _upgrade], ids=["kill", "upgrade"])
def _way(request):
    return request.param


def _tables(exact_upstream=254, exact_aliases=(253,), with_removed=True):
    tables = tables_of_each_kind(exact_upstream, exact_aliases)
    if with_removed:
        tables.append(table(name="removed", listen=IPV4.listener(7353), upstream=IPV4.service(254)))
    return tables


@pytest.mark.bound(180)
def test_everything_carries_on(way, engine, network, start_installed, open_service, admin):
    network.proxy.ip("addr replace 10.0.0.7/24 dev to-service")
    service = open_service(_AT, echo())
    text = lambda *words, **keys: configuration(
        *_tables(*words, **keys), engine=engine, head=admin.section()
    )
    proxy = start_installed(text(), arguments=["--drain-timeout", "5m"])
    befriend = lambda at, family=IPV4: Friend(network, service, at, family)
    of_old_version = befriend(IPV4.listener())
    of_open = [befriend("10.1.0.1:6353"), befriend("[fd01::1]:6353", IPV6)]
    of_six = befriend(IPV6.listener(), IPV6)
    of_removed = befriend(IPV4.listener(7353))
    friends = [of_old_version, *of_open, of_six, of_removed]

    proxy.configuration_file.write_text(text(252, (253,), with_removed=False), encoding="utf-8")
    admin.shown("reload")
    friends.append(befriend(IPV4.listener()))
    admin.shown("drain", "open")
    assert [friend.goes_on() for friend in friends] == [True] * 6

    for _ in range(2):
        told = _replace(proxy, way)
        assert (told["sessions"], told["closed"], told["not_believed"]) == ("6", "0", "0")
        assert [friend.goes_on() for friend in friends] == [True] * 6
        # The old version's requests still go where they went.
        asked = lambda friend: [
            request.asked_on for request in service.requests if request.sender == friend.port
        ][-1]
        assert asked(of_old_version) == IPV4.service(254)
        assert asked(friends[5]) == IPV4.service(252)
        # A proxy that was removed takes nobody new, nor does one that drains.
        for at in (IPV4.listener(7353), "10.1.0.1:6353"):
            assert Client(network.client).ask(b"new", at, timeout=0.5) is None
        time.sleep(1.1)  # or three short lives would cost the sessions

    admin.shown("resume", "open")
    assert befriend("10.1.0.1:6353").goes_on()
    # A reload changes what was adopted: an alias more joins the groups that are there.
    proxy.configuration_file.write_text(text(252, (253, 251), with_removed=False), "utf-8")
    assert "reply_aliases" in admin.shown("reload")
    service.answer = from_each([IPV4.service(251)])
    assert friends[5].goes_on()
    service.answer = echo()
    ids = {session["id"] for session in admin.json("sessions")["sessions"]}
    assert len(ids) == 7
    traced = admin.ctl(
        *("trace", "--client", friends[5].client.endpoint.replace("0.0.0.0", "10.1.0.2")),
        *("--seconds", 1),
    )
    assert traced.returncode == 0
    assert admin.ctl("doctor").returncode in (0, 1)
    assert "adopted" in proxy.text()


def test_a_group_that_cools_down_goes_on_cooling_and_its_late_reply_reaches_nobody(
    way, engine, network, start_installed, open_service, open_client, admin
):
    cooldown_s = 4
    service = open_service([IPV4.service(254)], lambda request: ())
    proxy = start_installed(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=IPV4.service(254),
                ports="20000-20001",
                port_cooldown=f"{cooldown_s}s",
                unassured_timeout="200ms",
            ),
            engine=engine,
            shards=1,
            head=admin.section(),
        )
    )
    first = open_client()
    first.send(b"first", IPV4.listener())
    proxy.wait_until(lambda: service.sender_of(b"first"), what="the first request")
    late_for = service.sender_of(b"first")
    ends = time.monotonic() + 10
    while admin.json("sessions")["sessions"]:
        assert time.monotonic() < ends
        time.sleep(0.05)
    cools_until = time.monotonic() + cooldown_s
    assert _replace(proxy, way)["sessions"] == "0"
    # Another client gets the other port, and nobody this one's late reply.
    second = open_client()
    second.send(b"second", IPV4.listener())
    proxy.wait_until(lambda: service.sender_of(b"second"), what="the second request")
    if time.monotonic() < cools_until:  # a busy machine may have taken too long
        assert service.sender_of(b"second") != late_for
    service.answer = lambda request: [Reply(b"late")]
    service.socket_of(IPV4.service(254)).sendto(b"late", ("10.0.0.1", int(late_for.split(":")[1])))
    assert first.receive(0.3) is None and second.receive(0.1) is None
    time.sleep(max(0, cools_until + 0.5 - time.monotonic()))
    third = open_client()
    assert third.ask(b"third", IPV4.listener()).payload == b"late"
    assert "late_reply" in admin.shown("drops")


def test_a_drain_goes_on_and_ends_in_order(
    way, engine, network, start_installed, open_service, admin
):
    """A death while it drained ended the program, with the sessions that were to be waited for."""
    service = open_service([IPV4.service(254)], echo())
    text = configuration(
        table(listen=IPV4.listener(), upstream=IPV4.service(254)),
        engine=engine,
        head=admin.section(),
    )
    proxy = start_installed(text, arguments=["--drain-timeout", "5m"])
    friend = Friend(network, service, IPV4.listener())
    proxy.signal(signal.SIGQUIT)
    proxy.wait_event("draining")
    assert _replace(proxy, way)["sessions"] == "1"
    assert friend.goes_on()
    assert Client(network.client).ask(b"new", IPV4.listener(), timeout=0.5) is None
    (session,) = admin.json("sessions")["sessions"]
    admin.shown("session", "kill", session["id"])
    proxy.stopped()


def test_a_worker_that_never_heard_of_a_drain_is_followed_by_one_that_does(
    engine, start_installed, open_service, open_client
):
    open_service([IPV4.service(254)], echo())
    text = configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine)
    proxy = start_installed(text, arguments=["--drain-timeout", "5m"])
    client = open_client()
    assert client.ask(b"before", IPV4.listener()) is not None
    worker = proxy.worker_pid
    os.kill(worker, signal.SIGSTOP)
    proxy.signal(signal.SIGQUIT)
    time.sleep(0.5)  # the keeper has passed it on
    os.kill(worker, signal.SIGKILL)
    proxy.wait_event("draining")
    assert client.ask(b"known", IPV4.listener()) is not None
    assert open_client().ask(b"new", IPV4.listener(), timeout=0.5) is None


def test_a_broken_file_does_not_turn_a_death_into_an_outage(
    way, engine, network, start_installed, open_service
):
    service = open_service([IPV4.service(254)], echo())
    text = configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine)
    proxy = start_installed(text)
    friend = Friend(network, service, IPV4.listener())
    proxy.configuration_file.write_text("[[proxy]]\nnonsense", encoding="utf-8")
    if way is _upgrade:  # is refused before anything happens
        way(proxy)
        proxy.wait_event("upgrade_refused")
    else:
        assert _replace(proxy, way)["sessions"] == "1"
        proxy.wait_event("not_reloaded")
    assert friend.goes_on()


def test_settings_that_need_a_restart_take_effect_by_an_upgrade(
    engine, network, start_installed, open_service, admin
):
    service = open_service([IPV4.service(254)], echo())
    other = {"io_uring": "epoll", "epoll": "io_uring"}[engine]
    text = lambda engine, **keys: configuration(
        table(listen=IPV4.listener(), upstream=IPV4.service(254), **keys),
        engine=engine,
        head=admin.section(),
    )
    proxy = start_installed(text(engine))
    friend = Friend(network, service, IPV4.listener())
    proxy.configuration_file.write_text(text(other, receive_buffer="1MiB"), encoding="utf-8")
    assert _replace(proxy, _upgrade)["sessions"] == "1"
    assert proxy.all_events("engine")[-1]["engine"] == other
    assert friend.goes_on()
    assert '"needs_restart"' not in admin.shown("reload", "--json")
