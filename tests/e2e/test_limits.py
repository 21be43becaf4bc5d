"""What one client may take, and what it may make the service send to others (F30 to F32).

    client                                proxy                              service
    10.1.0.2, .3  ──────────────────  10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53
    fd01::2, ::3, fd01:0:0:1::2           fd01::1     │ fd00::1         fd00::254
"""

import time

import pytest

from harness.kernel import Cost
from harness.namespaces import run
from harness.program import configuration, table
from harness.reloading import Reloading
from harness.service import Reply, echo
from harness.topology import BOTH, IPV4

_MAX = 10
_NEIGHBOURS = {"ipv4": "10.1.0.3/24", "ipv6": "fd01::3/64"}


@pytest.fixture
def neighbour(network):
    """neighbour(family) -> an endpoint of another client address; in IPv6, of the same /64."""
    added = []

    def add(family):
        added.append(_NEIGHBOURS[family.name])
        network.client.ip(
            f"addr add {added[-1]} dev to-proxy" + (" nodad" if family.name == "ipv6" else "")
        )
        host = added[-1].split("/")[0]
        return f"[{host}]:0" if family.name == "ipv6" else f"{host}:0"

    yield add
    for address in added:
        network.client.ip(f"addr del {address} dev to-proxy")


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_a_client_has_so_many_sessions_and_no_more_until_some_have_ended(
    family, neighbour, start_one, open_service, open_client, open_crowd, figures
):
    open_service([family.service(254)], echo())
    proxy = start_one(family, sessions_per_client_max=_MAX, unassured_timeout="3s")
    crowd = open_crowd(3 * _MAX, family.client_port(0))
    got = crowd.ask_all(
        family.listener(), lambda client: b"%d" % client, window=3 * _MAX, patience=0.5
    )
    assert len(got) == _MAX
    other = open_client(neighbour(family))
    # An IPv6 client is a /64: the neighbour is the same one. An IPv4 client is an address.
    assert (other.ask(b"neighbour", family.listener(), 0.5) is None) == (family.name == "ipv6")
    time.sleep(3.3)
    again = open_crowd(_MAX, family.client_port(0))
    assert len(again.ask_all(family.listener(), lambda client: b"%d" % client)) == _MAX
    drops = proxy.stop().drops()
    figures.tell(
        "sessions_per_client_max: so many and no more, until some have ended",
        f"{family}: {_MAX} of {3 * _MAX}",
    )
    assert drops == {"drop_client_limit": 2 * _MAX + (family.name == "ipv6")}


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_a_client_that_is_not_assured_gets_at_most_three_times_what_it_sent(
    family, start_one, open_service, open_client, figures
):
    """The service answers fifty times the question, in fifty datagrams."""
    open_service([family.service(254)], lambda request: [Reply(request.payload)] * 50)
    proxy = start_one(family, amplification_limit=3)
    client = open_client(family.client_port(0))
    client.send(b"question", family.listener())
    assert len(client.drain()) == 3, "before it has proved that it hears us"
    client.send(b"question", family.listener())
    assert len(client.drain()) == 50, "it wrote again after a reply"
    counters = proxy.stop()
    figures.tell(
        "amplification_limit = 3 against a service that answers 50 times",
        f"{family}: 3.0 times, then all 50",
    )
    assert counters.drops() == {"drop_amplification": 47}


def test_one_large_answer_is_too_much_as_well(start_one, open_service, open_client):
    open_service(
        [IPV4.service(254)],
        lambda request: [Reply(request.payload * 4), Reply(request.payload * 3)],
    )
    proxy = start_one(amplification_limit=3)
    client = open_client()
    client.send(b"question", IPV4.listener())
    assert [len(datagram.payload) for datagram in client.drain()] == [3 * len(b"question")]
    assert proxy.stop().drops() == {"drop_amplification": 1}


def test_a_forged_source_gets_three_times_what_was_sent_in_its_name(start_one, start_load, figures):
    service = start_load("serve", at=IPV4.service(254), replies=50)
    proxy = start_one(amplification_limit=3)
    # Addresses of the client's link that nobody has.
    start_load(
        "spoof",
        to=IPV4.listener(),
        prefix="10.1.0.128/26",
        rate=2000,
        count=500,
        seconds=5,
        bytes=100,
    ).result()
    for each in (proxy, service, proxy):
        each.wait_until_idle()
    counters = proxy.stop()
    service.stop()
    ratio = counters["bytes_reply"] / counters["bytes_request"]
    figures.tell(
        "amplification_limit = 3 against a service that answers 50 times",
        f"forged sources: {ratio:.2f} times",
    )
    assert counters["bytes_request"] == 500 * 100 and ratio <= 3
    assert set(counters.drops()) == {"drop_amplification"}


def test_replies_max_bounds_the_replies_to_each_request_assured_or_not(
    start_one, open_service, open_client, figures
):
    open_service(
        [IPV4.service(254)], lambda request: [Reply(b"%d" % number) for number in range(5)]
    )
    proxy = start_one(replies_max=2)
    client = open_client()
    for _ in range(3):
        client.send(b"question", IPV4.listener())
        assert [datagram.payload for datagram in client.drain()] == [b"0", b"1"]
    figures.tell("replies_max = 2 against five replies", "2 each time")
    assert proxy.stop().drops() == {"drop_reply_limit": 9}


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_sources_that_cannot_be_answered_never_become_sessions(
    family, network, start_one, open_service, start_load, open_client, figures
):
    """Port 0 reaches the program; multicast and broadcast sources are dropped by the kernel or, if
    they come, by the admission checks."""
    service = open_service([family.service(254)], echo())
    proxy = start_one(family)
    forged = {
        "ipv4": ["224.1.1.1/32", "255.255.255.255/32", "0.0.0.0/32", "127.0.0.1/32"],
        "ipv6": ["ff02::1/128", "::/128", "::1/128"],
    }
    for source in forged[family.name]:
        start_load("spoof", to=family.listener(), prefix=source, rate=1000, count=50).result()
    start_load(
        "spoof",
        to=family.listener(),
        prefix=f"{family.client_host}/{family.whole_bits}",
        first_port=0,
        last_port=0,
        rate=1000,
        count=50,
    ).result()
    assert open_client(family.client_port(0)).ask(b"honest", family.listener()) is not None
    counters = proxy.stop()
    figures.tell("bad sources never become sessions", f"{family}: {counters.drops()}")
    assert counters["sessions_admitted"] == 1 and [
        request.payload for request in service.requests
    ] == [b"honest"]
    assert set(counters.drops()) == {"drop_bad_source"} and counters["drop_bad_source"] >= 50


def test_a_broadcast_address_of_a_link_is_never_written_to(
    start_one, open_service, start_load, figures
):
    """The kernel lets it in as a source where rp_filter is off, and refuses it as a destination."""
    open_service([IPV4.service(254)], echo())
    proxy = start_one()
    start_load("spoof", to=IPV4.listener(), prefix="10.1.0.255/32", rate=1000, count=50).result()
    proxy.wait_until_idle()
    counters = proxy.stop()
    figures.tell("a broadcast address of a link is never written to", f"{counters.drops()}")
    assert counters["departures_reply"] == 0
    assert (
        set(counters.drops()) <= {"drop_send_prohibited", "drop_bad_source"}
        and sum(counters.drops().values()) == 50
    )


@pytest.mark.parametrize("bound", ["proxy", "limits"])
def test_a_new_client_takes_the_place_of_an_idle_one_whichever_shard_has_it(
    engine, bound, start_proxy, open_service, open_client
):
    """With sessions_max = 1, four shards and a session that had been silent for 1.5 s, none of six
    new clients was served: each shard evicted its own sessions only."""
    open_service([IPV4.service(254)], echo())
    proxy = start_proxy(
        configuration(
            table(
                listen=IPV4.listener(),
                upstream=IPV4.service(254),
                **({"sessions_max": 1} if bound == "proxy" else {}),
            ),
            engine=engine,
            shards=4,
            head="[limits]\nsessions_max = 1\n" if bound == "limits" else "",
        )
    )
    for number in range(7):
        # The datagrams before the first reply leave the session unassured.
        client = open_client()
        deadline = time.monotonic() + 20
        while client.ask(b"%d" % number, IPV4.listener(), timeout=0.5) is None:
            # A shard that gets no processor for 100 ms is not waited for.
            assert time.monotonic() < deadline
        time.sleep(1.2)
    counters = proxy.stop()
    assert set(counters.drops()) <= {"drop_session_limit"}
    assert counters["sessions_evicted"] == 6


@pytest.mark.parametrize(
    "bound",
    [{"sessions_per_client_max": 20}, {"sessions_max": 200}],
    ids=["client-limit", "capacity"],
)
def test_two_instances_in_a_ring_come_to_rest(
    engine, bound, network, start_proxy, open_client, figures
):
    """Each hop comes from a new port, so each is a new client of the other: the bound on one
    client's sessions, or the capacity, ends it."""
    ports = (5001, 5002)
    ring = [
        start_proxy(
            configuration(
                table(listen=IPV4.listener(here), upstream=IPV4.listener(there), **bound),
                engine=engine,
            )
        )
        for here, there in (ports, reversed(ports))
    ]
    client = open_client()
    for _ in range(20):
        client.send(b"round and round", IPV4.listener(ports[0]))
    for proxy in (*ring, ring[0]):
        proxy.wait_until_idle()
    shares = [Cost(proxy.worker_pid).share() for proxy in ring]
    counters = [proxy.stop() for proxy in ring]
    most = next(iter(bound.values()))
    figures.tell(
        "two instances in a ring come to rest",
        f"{next(iter(bound))} {most}: {[each['sessions_admitted'] for each in counters]} sessions, "
        f"then {max(shares) * 100:.1f} % of a processor",
    )
    # The client's own session beside those of the ring's address.
    assert all(each["sessions_admitted"] <= most + 1 for each in counters), counters
    assert all(
        set(each.drops()) <= {"drop_client_limit", "drop_session_limit"} for each in counters
    ), counters
    assert max(shares) < 0.02


def test_what_a_session_sends_to_the_listener_itself_is_dropped_before_admission(
    network, start_one, open_client, figures
):
    """A rule of the host's own packet filter leads the upstream's address back to the listener,
    which no configuration shows."""
    proxy = start_one()
    nft = network.proxy.command("nft", "-f", "-")
    run(
        *nft,
        stdin="table ip back { chain out { type nat hook output priority -100; "
        "ip daddr 10.0.0.254 udp dport 53 dnat to 10.1.0.1:5353; }; }",
    )
    try:
        client = open_client()
        for number in range(20):
            client.send(b"%d" % number, IPV4.listener())
        proxy.wait_until_idle()
        share = Cost(proxy.worker_pid).share()
    finally:
        run(*nft, stdin="delete table ip back")
    counters = proxy.stop()
    figures.tell(
        "a session's own port is no client",
        f"{counters.drops()}, then {share * 100:.1f} % of a processor",
    )
    assert counters["sessions_admitted"] == 1
    assert counters.drops() == {"drop_forwarding_loop": 20}
    assert share < 0.02


def test_a_raised_rate_of_new_sessions_holds_at_once(
    engine, open_service, start_proxy, open_crowd, figures
):
    """The old rate was met, so its bucket would be full again only after minutes."""
    open_service([IPV4.service(254)], echo())

    def limited(per_second, burst):
        return table(
            listen=IPV4.listener(),
            upstream=IPV4.service(254),
            new_sessions_per_second=per_second,
            new_sessions_burst=burst,
        )

    reloading = Reloading(start_proxy, engine, limited(1, 300))
    crowd = open_crowd(500)
    crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client, window=50, patience=0.5)
    reloading.reload(limited(1000, 1000))
    began = time.monotonic()
    got = []
    while len(got) < len(crowd) and time.monotonic() < began + 20:
        got = crowd.ask_all(
            IPV4.listener(), lambda client: b"again %d" % client, window=50, patience=0.5
        )
    figures.tell(
        "new_sessions_per_second raised from 1 to 1000",
        f"all of {len(crowd)} clients after {time.monotonic() - began:.1f} s",
    )
    assert len({client for client, _ in got}) == len(crowd)
