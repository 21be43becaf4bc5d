"""Data goes through whole while empty datagrams and forged ICMP messages rain between it;
afterwards the processor is idle (F1, F2, F15, K19, K28).

    client                              proxy                                     service
    10.1.0.2  asks, with empties,  ── 10.1.0.1:5353 │ 10.0.0.1:20000-20099 ── 10.0.0.254:53 asked; answers
              forges ICMP about its   fd01::1       │ fd00::1                 fd00::254     forges ICMP about the sessions
"""

import pytest

from harness.kernel import Cost, Watch
from harness.load import NEVER
from harness.topology import BOTH, IPV4

_CLIENTS = 20
_FIRST_PORT, _PORTS = 20000, 100
_IDLE_SHARE_MAX = 0.02


@pytest.fixture
def stage(start_one, start_load):
    """stage(family) -> (proxy, service), with session ports of a known range."""

    def make(family):
        service = start_load("serve", at=family.service(254))
        return (start_one(family, ports=f"{_FIRST_PORT}-{_FIRST_PORT + _PORTS - 1}"), service)

    return make


def check(figures, promise, result, proxy, service, watch):
    """Nothing was lost, and the program is idle. The final counters."""
    losses = watch.losses()
    proxy.wait_until_idle()
    share = Cost(proxy.worker_pid).share()
    counters = proxy.stop()
    service.stop()
    figures.count(result)
    figures.tell(
        promise,
        f"{result['lost']} of {result['sent']} lost, then {share * 100:.1f} % of a processor",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert result["lost"] == 0, f"{result} {counters} {losses}"
    assert losses == {}
    assert share < _IDLE_SHARE_MAX
    return counters


_EMPTIES = [pytest.param(IPV4, 40_000, id="short", marks=pytest.mark.slow)] + [
    pytest.param(
        family, 1_000_000, id=f"long-{family}", marks=[pytest.mark.long, pytest.mark.bound(300)]
    )
    for family in BOTH
]


@pytest.mark.parametrize("family, empties", _EMPTIES)
def test_empty_datagrams_between_data_cost_no_data_and_are_answered_themselves(
    engine, family, empties, network, stage, start_load, figures
):
    proxy, service = stage(family)
    watch = Watch(network)
    between = 8
    result = start_load(
        "ask",
        family=family,
        clients=_CLIENTS,
        rate=1000,
        count=empties // between,
        empties=between,
        seconds=250,
        warm=True,
    ).result(280)
    counters = check(
        figures,
        f"{empties} empty datagrams between data: none of either is lost, then idle",
        result,
        proxy,
        service,
        watch,
    )
    assert result["empties"] >= empties and result["empties_answered"] >= result["empties"]
    assert counters.drops() == {}


_FORGED = [
    pytest.param(family, 5_000, id=f"short-{family}", marks=pytest.mark.slow) for family in BOTH
] + [
    pytest.param(
        family, 100_000, id=f"long-{family}", marks=[pytest.mark.long, pytest.mark.bound(300)]
    )
    for family in BOTH
]


@pytest.mark.parametrize("family, messages", _FORGED)
def test_forged_icmp_of_every_type_and_code_costs_no_data(
    engine, family, messages, network, stage, start_asking, start_load, figures
):
    """From both sides: about the sessions towards the service, and about replies towards the
    clients."""
    proxy, service = stage(family)
    seconds = messages / 4000
    asking = start_asking(family, clients=_CLIENTS, rate=2000, seconds=seconds + 1, bytes=200)
    watch = Watch(network)
    local_endpoint = start_load(
        "icmp",
        namespace=network.service,
        about_from=family.session_port(_FIRST_PORT),
        from_ports=_PORTS,
        about_to=family.service(254),
        rate=2000,
        seconds=600,
        count=messages // 2,
    )
    client_side = start_load(
        "icmp",
        about_from=family.listener(),
        about_to=family.client_port(1024),
        to_ports=60000,
        rate=2000,
        seconds=600,
        count=messages // 2,
    )
    sent = local_endpoint.result(200)["sent"] + client_side.result(200)["sent"]
    result = asking.result(60)
    counters = check(
        figures,
        f"{messages} forged ICMP messages of every type and code: no data is lost, then idle",
        result,
        proxy,
        service,
        watch,
    )
    assert sent == messages
    assert counters["receive_errors"] + counters["send_retries"] > 0, "they reached the sockets"
    assert counters.drops() == {}


_SIZES = [
    pytest.param(family, 48, 4000, 997, 300, id=f"short-{family}", marks=pytest.mark.slow)
    for family in BOTH
] + [
    pytest.param(
        family,
        48,
        family.size_max,
        1,
        500,
        id=f"long-{family}",
        marks=[pytest.mark.long, pytest.mark.bound(300)],
    )
    for family in BOTH
]


@pytest.mark.parametrize("family, first, last, step, rate", _SIZES)
def test_all_sizes_arrive_whole_both_ways_under_load(
    engine, family, first, last, step, rate, network, stage, start_load, figures
):
    """Sizes in a row, each several times; the largest travel as dozens of fragments."""
    proxy, service = stage(family)
    sizes = sorted(
        {*range(first, last, step), 511, 512, 1200, 1472, 1473, 2047, 2048, 2049, 65507, last}
    )
    watch = Watch(network)
    result = start_load(
        "ask",
        family=family,
        clients=4,
        rate=rate,
        count=max(600, len(sizes)),
        bytes=sizes,
        seconds=250,
        warm=True,
    ).result(280)
    counters = check(
        figures,
        "all sizes under load: each arrives whole, both ways",
        result,
        proxy,
        service,
        watch,
    )
    assert counters.drops() == {}
