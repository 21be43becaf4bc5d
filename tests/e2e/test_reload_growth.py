"""A reload that brings more than the start had: sessions, listeners, source addresses, versions.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1, 10.0.0.30 to .99 ── 10.0.0.254 service, echoes

The start is small, with one proxy of a few sessions, and the machine has capacity for much more.
"""

import time

import pytest

from harness.admin import parse_metrics
from harness.hosts import Hosts
from harness.process import slow_thread
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
    return table(
        **{
            "name": name,
            "listen": listen,
            "upstream": IPV4.service(254),
            "unlisted_replies": "off",
            "idle_timeout": "10m",
            "unassured_timeout": "10m",
            **keys,
        }
    )


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


def test_a_reload_that_brings_a_larger_proxy_serves_all_of_its_sessions(small_start, open_crowd):
    """Tables had the size of the start. The reload was done, said the log, with capacity for a
    thousand sessions, and three clients were served."""
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
    proxies, small_start, open_client
):
    """Listeners were charged to the descriptors of the start's few sessions: with twenty thousand
    descriptors free there were, the log said, none left. And there were never slots for more than
    512 listeners beyond those of the start."""
    ports = range(20000, 20000 + proxies * _LISTENERS_PER_PROXY)

    def added(first):
        listen = [IPV4.listener(port) for port in range(first, first + _LISTENERS_PER_PROXY)]
        return proxy_table(f"added{first}", listen, sessions_max=10)

    answer = small_start.reload_or_refusal(
        small(), *(added(first) for first in ports[::_LISTENERS_PER_PROXY])
    )
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
    engine, start_proxy, open_service, many_sources, open_client
):
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
        running.reload(main, sources(used[first : first + 16], "30000-30999"))
        assert open_client().ask(b"used", IPV4.listener(5354)).payload == b"used"
    running.reload_or_refusal(main, sources([used[0], last], "40000-40999"))
    running.reload_or_refusal(main, sources([used[0]], "40000-40999"))
    for _ in range(4):  # some for each shard
        reply = open_client().ask(b"new client", IPV4.listener(5354))
        assert running.proxy.running() and reply.payload == b"new client"
    assert running.proxy.stop().drops() == {}


def test_more_versions_of_upstreams_than_there_is_room_for_are_refused_by_the_reload(
    engine, start_proxy, open_service, open_crowd, tmp_path
):
    """Each proxy's sessions hold the upstream that they began with, and a shard has room for 1024.
    One reload can bring two versions: the new aliases with the old address, and then the name's new
    address. One was counted, and a new client ended the program."""
    addresses = [IPV4.host(last) for last in (254, 253, 252, 251)]
    alias, another = IPV4.service(250), IPV4.service(249)
    service = open_service([f"{address}:53" for address in addresses], echo())
    hosts = Hosts(tmp_path, f"{addresses[0]} service.test")
    listeners = [IPV4.listener(20000 + number) for number in range(_PROXIES_MAX)]

    def tables(*aliases):
        return [
            proxy_table(
                f"proxy{number}",
                listener,
                upstream="service.test:53",
                reply_aliases=aliases,
                alias_filter="connected",
                sessions_max=100 if listener == listeners[-1] else 10,
            )
            for number, listener in enumerate(listeners)
        ]

    def served_by_each(sessions):
        count = 0
        for _ in range(sessions):
            crowd = open_crowd(_PROXIES_MAX)
            for client, listener in enumerate(listeners):
                crowd.send(client, b"%d" % client, listener)
            answered = set()
            while arrived := crowd.arrived(0.5):
                answered |= {
                    client for client, datagram in arrived if datagram.payload == b"%d" % client
                }
            count += len(answered)
        return count

    def wait_for(address):
        """The last proxy is told last: once its new clients get there, those of all do."""
        running.proxy.wait_event(
            "resolved", proxy=f"proxy{_PROXIES_MAX - 1}", endpoint=f"{address}:53"
        )
        for _ in range(30):
            with open_crowd(1) as probe:
                probe.send(0, b"probe", listeners[-1])
                assert probe.arrived(5) != []
            if service.requests[-1].asked_on == f"{address}:53":
                return
            time.sleep(0.2)
        raise AssertionError(f"no new client gets to {address}")

    running = Reloading(
        lambda text: start_proxy(text, prefix=hosts.prefix), engine, *tables(alias), shards=1
    )
    assert served_by_each(1) == _PROXIES_MAX
    for sessions, address in enumerate(addresses[1:3], 1):
        hosts.write(f"{address} service.test")
        running.reload(*tables(alias))  # asks for the names again
        wait_for(address)
        # Two of the last version, of which one may have the new aliases before the other has them.
        assert served_by_each(sessions) == sessions * _PROXIES_MAX
    hosts.write()
    with slow_thread(running.proxy, "shard 0", 0.004):
        answer = running.reload_or_refusal(*tables(alias, another))
        if answer == "reloaded":
            running.proxy.wait_event("unresolved", proxy=f"proxy{_PROXIES_MAX - 1}")
            hosts.write(f"{addresses[3]} service.test")
            running.proxy.wait_event(
                "resolved", proxy=f"proxy{_PROXIES_MAX - 1}", endpoint=f"{addresses[3]}:53"
            )
    if answer == "reloaded":
        wait_for(addresses[3])
    else:
        assert "version" in running.proxy.all_events("reload_failed")[0]["reason"]
    assert served_by_each(1) == _PROXIES_MAX
    assert running.proxy.stop().drops() == {}
