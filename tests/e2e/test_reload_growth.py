"""A reload that brings more than the start had: sessions, listeners, source addresses.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1, 10.0.0.30 to .99 ── 10.0.0.254 service, echoes

The start is small, with one proxy of a few sessions, and the machine has room for much more.
"""


import pytest

from harness.admin import parse_metrics
from harness.program import table
from harness.reloading import Reloading
from harness.service import echo
from harness.topology import IPV4

_SMALL = 3
_LARGE = 1000
_LISTENERS_PER_PROXY = 16
_PROXIES_MAX = 256
_SOURCES = [f"10.0.0.{last}" for last in range(30, 100)]


def proxy_table(name, listen, **keys):
    return table(**{"name": name, "listen": listen, "upstream": IPV4.service(254),
                    "unlisted_replies": "off", "idle_timeout": "10m",
                    "unassured_timeout": "10m", **keys})


@pytest.fixture
def small_start(engine, admin, start_proxy, open_service):
    """A proxy of _SMALL sessions, for reloads that bring more. Its table is `small`."""
    open_service([IPV4.service(254)], echo())
    return Reloading(start_proxy, engine, small(), head=admin.section())


def small():
    return proxy_table("small", IPV4.listener(), sessions_max=_SMALL)


def served(crowd, to):
    """How many of the crowd get their own answer."""
    got = crowd.ask_all(to, lambda client: b"%d" % client, patience=1.0)
    return len({client for client, datagram in got if datagram.payload == b"%d" % client})


def test_a_reload_that_brings_a_larger_proxy_serves_all_of_its_sessions(
        small_start, open_crowd):
    """Tables had the size of the start. The reload was done, said the log, with room for a thousand
    sessions, and three clients were served."""
    small_start.reload(small(), proxy_table("large", IPV4.listener(5354), sessions_max=_LARGE))
    crowd = open_crowd(50)
    assert served(crowd, IPV4.listener(5354)) == len(crowd)
    counters = small_start.proxy.stop()
    assert counters.drops() == {} and counters["sessions_admitted"] == len(crowd)


def test_a_proxy_that_a_reload_enlarges_serves_more_clients(small_start, open_crowd):
    small_start.reload(proxy_table("small", IPV4.listener(), sessions_max=_LARGE))
    crowd = open_crowd(50)
    assert served(crowd, IPV4.listener()) == len(crowd)
    assert small_start.proxy.stop().drops() == {}


def test_a_limit_that_a_reload_raised_is_shown(small_start, admin):
    """What was shown of the capacity stayed that of the start."""
    small_start.reload(small(), proxy_table("large", IPV4.listener(5354), sessions_max=_LARGE))
    assert admin.json("status")["sessions_max"] >= _SMALL + _LARGE
    shown = {proxy["name"]: proxy["sessions_max"] for proxy in admin.json("proxies")["proxies"]}
    assert shown == {"small": _SMALL, "large": _LARGE}
    values = parse_metrics(admin.shown("metrics"))
    assert values["udpproxy_sessions_max", (("proxy", "large"),)] == _LARGE
    assert values["udpproxy_capacity_sessions_max", ()] >= _SMALL + _LARGE


@pytest.mark.parametrize("proxies", [20, 38])
def test_a_reload_opens_hundreds_of_listeners_after_a_small_start(
        proxies, small_start, open_client):
    """Listeners were charged to the descriptors of the start's few sessions: with twenty thousand
    descriptors free there were, the log said, none left. And there were never slots for more than
    512 listeners beyond those of the start."""
    ports = range(20000, 20000 + proxies * _LISTENERS_PER_PROXY)

    def added(first):
        listen = [IPV4.listener(port) for port in range(first, first + _LISTENERS_PER_PROXY)]
        return proxy_table(f"added{first}", listen, sessions_max=10)
    answer = small_start.reload_or_refusal(
        small(), *(added(first) for first in ports[::_LISTENERS_PER_PROXY]))
    assert small_start.proxy.all_events("reload_failed") == [] and answer == "reloaded"
    for port in (ports[0], ports[len(ports) // 2], ports[-1]):
        assert open_client().ask(b"question", IPV4.listener(port)).payload == b"question"
    assert small_start.proxy.stop().drops() == {}


@pytest.fixture
def many_sources(network):
    """Seventy more addresses of the proxy's machine towards the service."""
    network.proxy.ip(*(f"addr add {source}/24 dev to-service" for source in _SOURCES))
    yield _SOURCES
    network.proxy.ip(*(f"addr del {source}/24 dev to-service" for source in _SOURCES))


def test_nothing_is_kept_of_source_addresses_that_a_reload_had_no_room_for(
        engine, start_proxy, open_service, many_sources, open_client):
    """Each source address has a pool of ports, and reloads had room for 64 of them. When the second
    source of a proxy found no pool, the first one's ports were noted all the same and no shard was
    told. After the next reload, with the first source alone, a new client ended the program."""
    open_service([IPV4.service(254)], echo())
    main = proxy_table("main", IPV4.listener())
    running = Reloading(start_proxy, engine, main)

    def sources(addresses, ports):
        return proxy_table("sources", IPV4.listener(5354), source=addresses, ports=ports)
    used, last = many_sources[:64], many_sources[64]
    for first in range(0, len(used), 16):
        running.reload(main, sources(used[first:first + 16], "30000-30999"))
        assert open_client().ask(b"used", IPV4.listener(5354)).payload == b"used"
    running.reload_or_refusal(main, sources([used[0], last], "40000-40999"))
    running.reload_or_refusal(main, sources([used[0]], "40000-40999"))
    for _ in range(4):  # some for each shard
        reply = open_client().ask(b"new client", IPV4.listener(5354), timeout=1)
        assert running.proxy.running() and reply.payload == b"new client"
    assert running.proxy.stop().drops() == {}
