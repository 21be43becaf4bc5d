"""200 reloads while 5000 sessions are served at half of what the machine can do.

    client 10.1.0.2 ── 10.1.0.1:5353 proxy 10.0.0.1 ── 10.0.0.254:53 the upstream, .253 an alias, .252 an alias now and then

A session holds two sockets, and three while there are two aliases: of 20 000 descriptors that
leaves some for the listeners that come and go.
"""

import os
import time

import pytest

from harness.kernel import Watch
from harness.load import NEVER
from harness.program import table
from harness.reloading import Reloading
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253), IPV4.service(252)]
_CLIENTS = 5000
_RELOADS = 200
_KINDS = 6


def main_table(aliases=1, **keys):
    return table(
        name="main",
        listen=IPV4.listener(),
        upstream=_SOURCES[0],
        reply_aliases=_SOURCES[1 : 1 + aliases],
        unlisted_replies="off",
        **{"idle_timeout": "10m", "unassured_timeout": "10m", **keys},
    )


def ask_for_one(running, round_):
    """Unchanged, an alias more, a proxy more, broken, a time-out, all back."""
    added = table(
        name="added",
        listen=IPV4.listener(5354),
        upstream=_SOURCES[1],
        ports="40000-40099",
        idle_timeout="100ms",
        unassured_timeout="100ms",
    )
    kind = round_ % _KINDS
    if kind == 3:
        running.ask_with_broken("[[proxy]]\nname = 7\n")
    else:
        running.ask(
            *(
                [main_table()],
                [main_table(2)],
                [main_table(2), added],
                [],
                [main_table(idle_timeout="11m"), added],
                [main_table()],
            )[kind]
        )


@pytest.mark.long
@pytest.mark.bound(300)
def test_5000_sessions_at_half_of_the_capacity_lose_nothing_and_keep_their_ports(
    engine, network, start_proxy, start_load, figures
):
    service = start_load("serve", at=_SOURCES, answer_from="1")
    running = Reloading(start_proxy, engine, main_table(2))
    running.reload(main_table())
    everybody = {"from_": IPV4.client_host, "to": IPV4.listener(), "patience": 5}
    most = start_load(
        "ask", clients=64, window=1, rate=0, seconds=2, warm=True, **everybody
    ).result()
    capacity = most["answered"] / 2
    asking = start_load(
        "ask",
        clients=_CLIENTS,
        rate=capacity / 2,
        seconds=0.12 * _RELOADS + 2,
        warm=True,
        **everybody,
    )
    asking.wait_event("asking", timeout=60)
    watch = Watch(network)
    descriptors = len(os.listdir(f"/proc/{running.proxy.pid}/fd"))
    for round_ in range(_RELOADS):
        ask_for_one(running, round_)
        time.sleep(0.1)
        running.settle()
    result = asking.result(120)
    running.reload(main_table())
    deadline = time.monotonic() + 15
    while (
        open_now := len(os.listdir(f"/proc/{running.proxy.pid}/fd"))
    ) > descriptors and time.monotonic() < deadline:
        time.sleep(0.2)
    counters = running.proxy.stop(timeout=20)
    service.stop()
    figures.count(result)
    figures.tell(
        f"{_RELOADS} reloads at half of the capacity: {_CLIENTS} sessions lose nothing and keep "
        "their ports",
        f"{result['lost']} of {result['sent']} lost at {capacity / 2:.0f}/s of {capacity:.0f}/s, "
        f"{counters['sessions_admitted']} sessions, "
        f"{counters['members_joined']} members joined",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert result["lost"] == 0 and watch.losses() == {}, f"{result} {watch.losses()} {counters}"
    assert open_now <= descriptors
    # Some of the clients have the ports of those who measured the capacity, and their sessions.
    assert _CLIENTS <= counters["sessions_admitted"] <= _CLIENTS + 64
    assert (
        counters["sessions_expired"]
        == counters["sessions_closed"]
        == counters["sessions_evicted"]
        == counters["joins_failed"]
        == 0
    )
