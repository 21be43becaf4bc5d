"""Clients that are gone must not cost the others anything (K31).

    client                                   proxy                             service
    10.1.0.2   healthy          ──── 10.1.0.1:5353 │ 10.0.0.1  ──── 10.0.0.254:53
    10.1.0.77  asks, then its address is gone

A reply to an on-link address that nobody resolves waits in the kernel for about three seconds and
is charged to the listener's send buffer: the default of `send_buffer` is what keeps the listener
going.
"""

import time

import pytest

from harness.kernel import Watch
from harness.load import NEVER
from harness.service import Reply
from harness.topology import IPV4


def test_replies_to_a_client_that_vanished_do_not_silence_the_listener(
    network, open_service, start_one, open_client
):
    def answer(request):
        return (
            [Reply(b"late", delay=0.5)] * 400
            if request.payload == b"dead"
            else [Reply(request.payload)]
        )

    open_service([IPV4.service(254)], answer)
    start_one(shards=1)
    network.client.ip("addr add 10.1.0.77/24 dev to-proxy")
    try:
        dead = open_client("10.1.0.77:0")
        dead.send(b"dead", IPV4.listener())
        time.sleep(0.2)
    finally:
        network.client.ip("addr del 10.1.0.77/24 dev to-proxy")
    network.proxy.ip("neigh flush dev to-client")
    healthy = open_client()
    assert healthy.ask(b"0", IPV4.listener()).payload == b"0"
    time.sleep(0.4)  # the replies to the dead one are on their way
    for number in range(200):
        assert (
            healthy.ask(b"%d" % number, IPV4.listener()) is not None
        ), f"question {number} was lost"


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds, shards",
    [pytest.param(4, 1, id="short")]
    + [
        pytest.param(
            60, shards, id=f"long-{shards}", marks=[pytest.mark.long, pytest.mark.bound(120)]
        )
        for shards in (1, 2)
    ],
)
def test_30_dead_clients_that_are_answered_at_full_rate_cost_the_others_nothing(
    seconds, shards, network, start_one, start_asking, start_load, figures
):
    """Their questions are forged, from addresses of the client's link that nobody has; each is
    answered, 10 000 a second."""
    service = start_load("serve", at=IPV4.service(254))
    proxy = start_one(shards=shards)
    asking = start_asking(IPV4, clients=100, rate=1000, seconds=seconds + 1)
    watch = Watch(network)
    # 10.1.0.96 to .127: 32 addresses, one port.
    dead = start_load(
        "spoof",
        to=IPV4.listener(),
        prefix="10.1.0.96/27",
        first_port=7000,
        last_port=7000,
        rate=10_000,
        seconds=seconds,
    )
    spoofed = dead.result(seconds + 30)
    result = asking.result(60)
    counters = proxy.stop()
    service.stop()
    figures.count(result)
    figures.tell(
        f"32 dead clients answered at full rate for {seconds} s cost 100 others nothing",
        f"{shards} shard(s): {result['lost']} of {result['sent']} lost, beside {spoofed['sent']} "
        "answers to the dead",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert counters["arrivals_reply"] > 0.9 * spoofed["sent"], "the dead were answered"
    assert result["lost"] == 0, f"{result} {counters} {watch.losses()}"
    # What the dead cost themselves (SndbufErrors) is counted by the proxy as well.
    assert {name for name in watch.losses() if not name.endswith("SndbufErrors")} == set()
    assert counters["sessions_admitted"] == 132
