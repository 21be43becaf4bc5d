"""A link that is slower than what the service sends: the listener's send buffer is full for a
moment, and nothing is lost (F19).

    client                        proxy                         service
    10.1.0.2  ──── 10 Mbit/s ──── 10.1.0.1:5353 │ 10.0.0.1 ──── 10.0.0.254:53

A queue in front of the link (tbf) keeps each datagram charged to the listener until it has left;
beyond the send buffer a send fails with EAGAIN. Such datagrams wait in the shard and go out as room
comes back. One burst takes some 40 ms at this rate, less than a datagram may wait.
"""

import contextlib
import itertools
import time

from harness.client import Client
from harness.namespaces import run
from harness.program import configuration, table
from harness.service import Reply
from harness.topology import IPV4


@contextlib.contextmanager
def slow_link(namespace, link, rate):
    run(
        "tc",
        "-n",
        namespace.name,
        "qdisc",
        "add",
        "dev",
        link,
        "root",
        "tbf",
        "rate",
        rate,
        "burst",
        "3000",
        "limit",
        "1000000",
    )
    try:
        yield
    finally:
        run("tc", "-n", namespace.name, "qdisc", "del", "dev", link, "root")


def test_a_burst_larger_than_the_send_buffer_arrives_whole_and_in_order(
    network, open_service, start_one, open_client
):
    replies = [b"%04d" % number + bytes(1000) for number in range(40)]
    open_service([IPV4.service(254)], lambda request: [Reply(reply) for reply in replies])
    proxy = start_one(send_buffer="8KiB", offload="off", shards=1)
    client = open_client()
    with slow_link(network.proxy, "to-client", "10mbit"):
        client.send(b"all", IPV4.listener())
        got = [datagram.payload for datagram in client.drain(0.5)]
    assert got == replies
    counters = proxy.stop()
    assert counters["sends_deferred"] > 0, "the link was not slow enough to show anything"
    assert counters.get("drop_send_would_block", 0) == 0


def test_what_a_dead_slow_link_cannot_take_is_dropped_and_counted_and_others_are_served(
    engine, network, open_service, start_proxy, open_client, closing
):
    open_service(
        [IPV4.service(254)],
        lambda request: [Reply(bytes(1200))] * 600
        if request.payload == b"flood"
        else [Reply(request.payload)],
    )
    proxy = start_proxy(
        configuration(
            table(
                listen=[IPV4.listener(), "127.0.0.1:5353"],
                upstream=IPV4.service(254),
                send_buffer="8KiB",
            ),
            engine=engine,
            shards=1,
        )
    )
    local = closing(Client(network.proxy, "127.0.0.1:0"))
    assert local.ask(b"before", "127.0.0.1:5353").payload == b"before"
    client = open_client()
    with slow_link(network.proxy, "to-client", "1mbit"):
        client.send(b"flood", IPV4.listener())
        end = time.monotonic() + 0.6
        for number in itertools.count():
            if time.monotonic() > end:
                break
            payload = b"%d" % number
            assert local.ask(payload, "127.0.0.1:5353", 1.0).payload == payload
    counters = proxy.stop()
    assert counters["drop_send_would_block"] > 100
    assert (
        counters["arrivals_reply"]
        == counters["departures_reply"] + counters["drop_send_would_block"]
    )
