"""Ten million replies, each held against its client: not one may be another's (K1 to K6).

    client                                       proxy                             service
    10.1.0.2  300 clients that stay, and new ── 10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53 asked; answers from it, .253 and .252 by chance
              ones that take ports which others had a second ago
"""

import pytest

from harness.kernel import Watch
from harness.load import NEVER
from harness.program import configuration, table
from harness.topology import BOTH

_DELIVERIES = {"ipv4": 3_500_000, "ipv6": 1_500_000}  # on each engine


@pytest.mark.long
@pytest.mark.bound(600)
@pytest.mark.parametrize("family", BOTH, ids=str)
def test_each_of_many_replies_reaches_its_own_client(
    engine, family, network, start_proxy, start_asking, start_load, figures
):
    sources = [family.service(last) for last in (254, 253, 252)]
    service = start_load("serve", at=sources, answer_from="random")
    # 2000 ports for 300 that stay and 200 a second that come: ports are used again all the time.
    proxy = start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=sources[0],
                reply_aliases=sources[1:],
                ports="20000-21999",
                port_cooldown="2s",
                unassured_timeout="2s",
            ),
            engine=engine,
        )
    )
    watch = Watch(network)
    asking = start_asking(
        family,
        clients=300,
        rate=0,
        window=4,
        count=_DELIVERIES[family.name],
        seconds=550,
        bytes=[48, 64, 200, 1200],
    )
    churning = start_load("churn", family=family, rate=200, seconds=590, patience=2)
    result = asking.result(580)
    churned = churning.stop()
    served = service.stop()
    counters = proxy.stop()
    for each in (result, churned):
        figures.count(each)
    figures.tell(
        "ten million deliveries, none to a wrong client",
        f"{family}: {result['replies'] + churned['replies']} in {result['seconds']:.0f} s, "
        f"{result['foreign'] + churned['foreign']} foreign, "
        f"{result['lost'] + churned['lost']} lost, {served['switched']} ports used again, kernel "
        f"{watch.losses()}",
    )
    for each in (result, churned):
        assert [each[name] for name in NEVER] == [0] * len(NEVER)
    assert result["replies"] > 0.99 * _DELIVERIES[family.name]
    if not watch.losses():
        assert result["lost"] == churned["lost"] == 0, f"{result} {churned} {counters}"
