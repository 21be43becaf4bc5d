"""The whole program stands still for a while (a debugger, a frozen container, a suspended machine)
and goes on (F36).

    client                                  proxy                             service
    10.1.0.2  50 clients that are silent, ── 10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53, answers
              10 that go on asking
"""

import time

import pytest

from harness.kernel import Cost
from harness.load import NEVER
from harness.topology import IPV4

_SILENT, _ASKING = 50, 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [3, pytest.param(60, marks=[pytest.mark.long, pytest.mark.bound(180)])]
)
def test_after_a_stall_expired_sessions_are_gone_and_the_others_serve(
    seconds, start_one, start_asking, start_load, open_crowd, figures
):
    service = start_load("serve", at=IPV4.service(254))
    # Long enough for the test to get going before the stall, shorter than the stall.
    proxy = start_one(unassured_timeout="2s", idle_timeout="2s")
    silent = open_crowd(_SILENT)
    asking = start_asking(
        IPV4, clients=_ASKING, rate=100, seconds=seconds + 3, patience=seconds + 5
    )
    assert len(silent.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == _SILENT
    proxy.stand_still()
    time.sleep(seconds)
    cost = Cost(proxy.worker_pid)
    before = cost.ran()
    proxy.go_on()
    time.sleep(1)
    used = cost.ran() - before
    again = silent.ask_all(IPV4.listener(), lambda client: b"again %d" % client)
    result = asking.result(seconds + 60)
    counters = proxy.stop()
    service.stop()
    figures.count(result)
    figures.tell(
        f"stopped for {seconds} s: expired sessions gone, others serve, no burst",
        f"{result['lost']} of {result['sent']} lost, {counters['sessions_expired']} expired, "
        f"{used * 1000:.0f} ms of CPU in the second after",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert result["lost"] == 0, "what was queued is served late, not lost"
    assert len(again) == _SILENT, "who had expired is a new client"
    assert counters["sessions_expired"] >= _SILENT
    # Those who asked kept their sessions, whatever the clock says about them.
    assert counters["sessions_admitted"] == 2 * _SILENT + _ASKING
    assert used < 0.3
    assert counters.drops() == {}
