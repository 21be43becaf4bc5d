"""The service is killed again and again under load: for every client that has a session, the first
datagram after its return is answered (F1 to F3).

    client                          proxy                              service
    10.1.0.2  40 clients ask ── 10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53 asked; answers from it and from .253 in turn; killed, started
    fd01::2                     fd01::1       │ fd00::1         fd00::254
"""

import time

import pytest

from harness.kernel import Watch
from harness.load import NEVER, lost_between
from harness.program import configuration, table
from harness.topology import BOTH, IPV4

_CLIENTS = 40
# What is under way when the service is killed is lost with it.
_UNDER_WAY_S = 0.1
_CASES = [pytest.param(IPV4, 10, id="short")] + [
    pytest.param(family, 200, id=f"long-{family}", marks=[pytest.mark.long, pytest.mark.bound(400)])
    for family in BOTH
]


@pytest.mark.slow
@pytest.mark.parametrize("family, kills", _CASES)
def test_the_first_datagram_of_every_client_after_each_return_is_answered_in_its_session(
    engine, family, kills, network, start_proxy, start_asking, start_load, figures
):
    sources = [family.service(254), family.service(253)]

    def start_service():
        return start_load("serve", at=sources, answer_from="turn")

    service = start_service()
    proxy = start_proxy(
        configuration(
            table(listen=family.listener(), upstream=sources[0], reply_aliases=sources[1:]),
            engine=engine,
        )
    )
    asking = start_asking(family, clients=_CLIENTS, rate=2000)
    watch = Watch(network)
    there = [(time.monotonic(), None)]
    for _ in range(kills):
        time.sleep(0.25)
        there[-1] = (there[-1][0], time.monotonic() - _UNDER_WAY_S)
        service.kill()
        time.sleep(0.1)
        service = start_service()
        there.append((time.monotonic(), None))
    time.sleep(0.25)
    there[-1] = (there[-1][0], time.monotonic() - _UNDER_WAY_S)
    result = asking.stop()
    served = service.stop()
    counters = proxy.stop()
    lost = sum(lost_between(result, first, last) for first, last in there)
    figures.count(result)
    figures.tell(
        f"service killed {kills} times under load: what is asked while it is there is answered",
        f"{family}: {lost} lost, of {result['sent']} asked {result['lost']} were asked while it "
        "was gone",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert lost == 0, f"{there} {result} {counters}"
    assert result["lost"] > 100 * kills, "the kills were felt"
    assert (
        counters["sessions_admitted"] == _CLIENTS
        and counters["sessions_expired"] == counters["sessions_evicted"] == 0
    )
    assert served["senders"] == _CLIENTS, "the sessions that were there before"
    assert set(counters.drops()) <= {"drop_send_refused"}
    assert watch.losses() == {}
