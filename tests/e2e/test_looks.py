"""Whatever is looked at while reloads change it is shown whole, and as it is in force.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, echoes
                          admin.sock                        10.0.0.253:53, 10.0.0.252:53 aliases
"""

import collections
import contextlib
import select
import threading
import time

import pytest

from harness.hosts import Hosts
from harness.kernel import Cost
from harness.process import slow_thread
from harness.program import table
from harness.reloading import Reloading
from harness.service import echo
from harness.topology import IPV4

_UPSTREAM, _ALIAS, _NEW_ALIAS = IPV4.service(254), IPV4.service(253), IPV4.service(252)
_ENDED_WITHIN_S = 2
_UNREAD_BYTES = 40 << 20
_KEPT_BYTES = 8 << 20


def proxy_table(name, listen, **keys):
    return table(
        **{
            "name": name,
            "listen": listen,
            "upstream": _UPSTREAM,
            "unlisted_replies": "off",
            "idle_timeout": "10m",
            "unassured_timeout": "10m",
            **keys,
        }
    )


def look(admin, path):
    """The text of a page, which must be there."""
    status, _, body = admin.http(path)
    assert status == 200, f"{path}: {status} {body}"
    return body.decode()


def series_of(text):
    """How often each series (a name with its labels) stands in a text exposition."""
    return collections.Counter(
        line.rpartition(" ")[0] for line in text.splitlines() if line and not line.startswith("#")
    )


class Looking:
    """Threads that look at one page each, again and again, until the end of the `with`."""

    def __init__(self, admin, *paths):
        self._admin = admin
        self._stop = threading.Event()
        self.failures = []
        self._threads = [threading.Thread(target=self._look, args=(path,)) for path in paths]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _look(self, path):
        try:
            while not self._stop.is_set():
                look(self._admin, path)
        except Exception as failure:
            self.failures.append(f"{path}: {failure!r}")


def test_reloads_that_add_proxies_and_three_scrapers_meet_without_harm(
    engine, admin, start_proxy, open_service, open_client
):
    """A new proxy's listeners were shown before the proxy itself was: a look in between indexed
    past the end, and the fourth or fifth reload ended the program."""
    reloads, listeners = 40, 8
    open_service([_UPSTREAM], echo())

    def added(number):
        first = 20000 + number * listeners
        listen = [IPV4.listener(port) for port in range(first, first + listeners)]
        return proxy_table(f"added{number}", listen, sessions_max=10)

    tables = [proxy_table("main", IPV4.listener(), sessions_max=1000)]
    running = Reloading(start_proxy, engine, *tables, head=admin.section())
    client = open_client()
    pages = ["/metrics"] * 3 + ["/v1/sessions", "/v1/drops", "/v1/status", "/v1/unlisted"]
    with Looking(admin, *pages) as looking:
        for number in range(reloads):
            tables.append(added(number))
            running.reload(*tables)
            # A session of the newest proxy is listed, and a drop of it is counted.
            assert client.ask(b"new", IPV4.listener(20000 + number * listeners)).payload == b"new"
    assert looking.failures == []
    counts = series_of(look(admin, "/metrics"))
    for number in range(reloads):
        assert counts[f'udpproxy_sessions{{proxy="added{number}"}}'] == 1
    assert [series for series, count in counts.items() if count > 1] == []
    assert admin.json("sessions", "--limit", 1000)["found"] == reloads
    assert admin.json("status")["proxies"] == 1 + reloads


def aliases_shown(admin, name):
    (proxy,) = [each for each in admin.json("proxies")["proxies"] if each["name"] == name]
    return [reply["source"] for reply in proxy["replies"] if reply["kind"] == "alias"]


@pytest.mark.parametrize("address", ["10.0.0.254", "10.0.0.251"], ids=["same", "another"])
def test_what_is_in_force_is_shown_while_a_new_upstream_name_has_no_address(
    engine, address, admin, start_proxy, open_service, open_client, tmp_path
):
    """The aliases of the new configuration were looked up in the upstream that was still the old
    one, and the first look ended the program. When the name's address was the one in use, the new
    alias never came into force."""
    open_service([_UPSTREAM, _ALIAS, _NEW_ALIAS, IPV4.service(251)], echo())
    hosts = Hosts(tmp_path)
    running = Reloading(
        lambda text: start_proxy(text, prefix=hosts.prefix),
        engine,
        proxy_table("named", IPV4.listener(), reply_aliases=[_ALIAS]),
        head=admin.section(),
    )
    client = open_client()
    assert client.ask(b"before", IPV4.listener()).payload == b"before"

    running.reload(
        proxy_table(
            "named", IPV4.listener(), upstream="service.test:53", reply_aliases=[_ALIAS, _NEW_ALIAS]
        )
    )
    running.proxy.wait_event("unresolved", proxy="named")
    series = 'udpproxy_replies_total{{proxy="named",source="alias",alias="{}"}}'
    counts = series_of(look(admin, "/metrics"))
    assert counts[series.format(_ALIAS)] == 1 and counts[series.format(_NEW_ALIAS)] == 0
    assert aliases_shown(admin, "named") == [_ALIAS]
    assert client.ask(b"meanwhile", IPV4.listener()).payload == b"meanwhile"

    hosts.write(f"{address} service.test")
    running.proxy.wait_event("resolved", proxy="named", timeout=20)
    running.proxy.wait_until(
        lambda: aliases_shown(admin, "named") == [_ALIAS, _NEW_ALIAS], what="both aliases"
    )
    counts = series_of(look(admin, "/metrics"))
    assert counts[series.format(_ALIAS)] == counts[series.format(_NEW_ALIAS)] == 1
    assert client.ask(b"after", IPV4.listener()).payload == b"after"


def test_a_proxy_that_comes_back_while_it_is_closing_is_shown_once(
    engine, admin, start_proxy, open_service, open_crowd
):
    """The name got a second slot while the first one was being given up, for ever: its series
    stood twice in the metrics, and its sessions could not be listed."""
    open_service([_UPSTREAM], echo())
    main = proxy_table("main", IPV4.listener())
    again = proxy_table(
        "again", IPV4.listener(5354), idle_timeout="100ms", unassured_timeout="100ms"
    )
    running = Reloading(start_proxy, engine, main, again, head=admin.section())
    # The groups of these clients' sessions are what takes a while to close.
    crowd = open_crowd(300)
    # The control thread looks each 100 ms, and giving a proxy up takes some of these looks.
    for milliseconds in range(240, 420, 20):
        asked = crowd.ask_all(IPV4.listener(5354), lambda client: b"%d" % client)
        assert len(asked) == len(crowd)
        running.reload(main)
        time.sleep(milliseconds / 1000)
        running.reload(main, again)
        counts = series_of(look(admin, "/metrics"))
        twice = [series for series, count in counts.items() if count > 1]
        assert twice == [], f"{len(twice)} series twice after {milliseconds} ms"
    running.reload(main, again.replace('"100ms"', '"1m"'))
    assert len(crowd.ask_all(IPV4.listener(5354), lambda client: b"%d" % client)) == len(crowd)
    assert admin.json("sessions", "--proxy", "again")["found"] == len(crowd)
    assert admin.json("status")["proxies"] == 2
    assert [proxy["name"] for proxy in admin.json("proxies")["proxies"]] == ["main", "again"]


class Unread:
    """Clients that ask for a listing of every session, and do not read it: one, and when that has
    its answer all the others together."""

    def __init__(self, admin, count):
        self._open = contextlib.ExitStack()
        connections = []
        for _ in range(count):
            with admin.connected() as connection:
                connections.append(self._open.enter_context(connection.dup()))
        look(admin, "/live")  # all of them are accepted
        for connection in reversed(connections):
            with contextlib.suppress(OSError):  # the oldest have made way
                connection.send(
                    b"GET /v1/sessions?sort=idle&limit=100000 HTTP/1.1\r\n"
                    b"Host: localhost\r\n\r\n"
                )
        assert select.select(connections[-1:], [], [], 10)[0], "no answer within 10 s"
        time.sleep(0.03)  # the others are taken up

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.close()


def test_listings_that_nobody_reads_take_bounded_memory_and_give_it_back(
    engine, admin, start_proxy, start_load, figures
):
    """Forty clients asked for every session and read nothing: each answer was kept whole, and the
    memory of all of them stayed with the program for good."""
    sessions = 15000
    start_load("serve", at=_UPSTREAM)
    running = Reloading(
        start_proxy, engine, proxy_table("main", IPV4.listener()), head=admin.section()
    )
    start_load("ask", family=IPV4, clients=sessions, rate=100, seconds=30, warm=True).wait_event(
        "asking"
    )
    assert admin.json("sessions", "--limit", 100000)["found"] == sessions
    cost = Cost(running.proxy.worker_pid)
    before = cost.resident()
    with Unread(admin, 40):
        look(admin, "/live")  # answered after the forty
        meanwhile = cost.resident() - before
    deadline = time.monotonic() + 3
    while (after := cost.resident() - before) > _KEPT_BYTES and time.monotonic() < deadline:
        time.sleep(0.1)
    figures.tell(
        "forty listings of all sessions that nobody reads",
        f"{meanwhile >> 20} MiB meanwhile, {after >> 20} MiB after",
    )
    assert meanwhile <= _UNREAD_BYTES
    assert after <= _KEPT_BYTES


def test_a_signal_to_stop_does_not_wait_for_listings(engine, admin, start_proxy, figures):
    """A shard that is slow to answer makes each listing last. The end of the program waited for
    every listing that somebody had asked for."""
    running = Reloading(
        start_proxy, engine, proxy_table("main", IPV4.listener()), head=admin.section()
    )
    with slow_thread(running.proxy, "shard 1", 0.05), Unread(admin, 40):
        began = time.monotonic()
        running.proxy.stop(timeout=30)
        took = time.monotonic() - began
    figures.tell("SIGTERM while all sessions are listed", f"stopped after {took:.2f} s")
    assert took <= _ENDED_WITHIN_S
