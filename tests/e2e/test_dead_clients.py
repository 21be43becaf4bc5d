"""Clients that are gone must not cost the others anything (K31).

    client                                   proxy                             service
    10.1.0.2   healthy          ──── 10.1.0.1:5353 │ 10.0.0.1  ──── 10.0.0.254:53
    10.1.0.77  asks, then its address is gone

A reply to an on-link address that nobody resolves waits in the kernel for about three seconds and is charged to the listener's send buffer:
the default of `send_buffer` is what keeps the listener going.
"""

import time

from harness.program import configuration, table
from harness.service import Reply
from harness.topology import IPV4


def test_replies_to_a_client_that_vanished_do_not_silence_the_listener(engine, network, open_service, start_proxy, open_client):
    def answer(request):
        return [Reply(b"late", delay=0.5)] * 400 if request.payload == b"dead" else [Reply(request.payload)]
    open_service([IPV4.service(254)], answer)
    start_proxy(configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine=engine, shards=1))
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
        assert healthy.ask(b"%d" % number, IPV4.listener(), 1.0) is not None, f"question {number} was lost"
