"""A listener goes while datagrams that it received still wait, and another proxy's takes its place.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service of "left", .253 that of "right"

A new client's group has eighteen sockets, so a burst of new clients waits for a while. Two reloads
follow within a tenth of a second: "left" loses its listener :5300, "right" gets one more, :5302.
"""

import time

import pytest

from harness.kernel import queued_bytes
from harness.program import table
from harness.reloading import Reloading
from harness.service import echo

LEAVING, LEFT, RIGHT, COMING = (f"10.1.0.1:{port}" for port in (5300, 5301, 5303, 5302))
LEFT_UPSTREAM, RIGHT_UPSTREAM = "10.0.0.254:53", "10.0.0.253:53"
_CLIENTS = 900
_DROPS = "drop_"


def left(*listen):
    # Sixteen connected aliases, and one open socket that watches for sources that are not listed.
    aliases = [f"10.0.0.{last}:53" for last in range(230, 246)]
    return table(
        name="left",
        listen=list(listen),
        upstream=LEFT_UPSTREAM,
        reply_aliases=aliases,
        alias_filter="connected",
        unlisted_replies="all",
    )


def right(*listen):
    return table(name="right", listen=list(listen), upstream=RIGHT_UPSTREAM)


def unaccounted(counters):
    """Datagrams that arrived at a proxy and neither left it nor were dropped, or the reverse."""
    sums = {key: int(value) for key, value in counters.items() if value.isdigit()}
    drops = sum(count for name, count in sums.items() if name.startswith(_DROPS))
    return (
        sums["arrivals_request"]
        + sums["arrivals_reply"]
        - sums["departures_request"]
        - sums["departures_reply"]
        - drops
    )


@pytest.mark.parametrize("milliseconds", [20, 60, 100, 130])
def test_what_waits_for_a_listener_that_goes_never_reaches_the_proxy_that_takes_its_place(
    engine, milliseconds, network, start_proxy, open_service, open_crowd
):
    """A waiting datagram was known by its listener's number alone. When the number was given to
    another proxy's listener, the datagram went to that proxy's upstream, the client got the answer,
    and neither proxy's counters were right."""
    open_service([LEFT_UPSTREAM], echo())
    of_right = open_service([RIGHT_UPSTREAM], echo())
    running = Reloading(
        lambda text: start_proxy(text, arguments=["--drain-timeout", "0s"]),
        engine,
        left(LEAVING, LEFT),
        right(RIGHT),
    )
    crowd = open_crowd(_CLIENTS)
    for client in range(_CLIENTS):
        crowd.send(client, b"for left", LEAVING)
    while queued_bytes(network.proxy, 5300) > 0:
        time.sleep(0.001)  # what is not read when the socket closes is the kernel's to drop
    running.reload(left(LEFT), right(RIGHT))
    time.sleep(milliseconds / 1000)
    running.reload(left(LEFT), right(RIGHT, COMING))

    new_client = open_crowd(1)
    ((_, answer),) = new_client.ask_all(COMING, lambda _: b"for right")
    assert answer.source == COMING
    again = crowd.ask_all(LEFT, lambda _: b"again", clients=[0])
    sources = {datagram.source for _, datagram in again}
    while arrived := crowd.arrived(0.3):
        sources |= {datagram.source for _, datagram in arrived}
    crossed = [request.payload for request in of_right.requests if request.payload != b"for right"]
    assert crossed == [] and COMING not in sources
    running.proxy.stop()
    lines = {line["proxy"]: line for line in running.proxy.all_events("counters")}
    assert {name: unaccounted(line) for name, line in lines.items()} == {"left": 0, "right": 0}
    assert lines["right"]["arrivals_request"] == "1"
    assert "drop_send_failed" not in lines["left"], "a session began on a listener that had gone"
