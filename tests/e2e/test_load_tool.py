"""The load tool itself, without a proxy between: it must notice what the other tests rely on it to
notice.

    client: asks ──── (proxy: forwards at the IP layer, no program runs) ──── service: answers, now and then wrongly on purpose
"""

import socket
import time

import pytest

from harness import address
from harness.client import open_socket
from harness.kernel import Watch
from harness.load import NEVER, lost_between

_ASKED = "10.1.0.1:9000"


@pytest.fixture
def ask(network, start_load):
    """ask(faults, **options) -> the sums of clients whose service is one hop away."""

    def run(faults=None, **options):
        serving = start_load("serve", namespace=network.proxy, at=_ASKED, **(faults or {}))
        options = {
            "clients": 20,
            "rate": 2000,
            "count": 1000,
            "seconds": 20,
            "patience": 2,
            "warm": True,
            **options,
        }
        result = start_load("ask", from_="10.1.0.2", to=_ASKED, **options).result()
        return result, serving.stop()

    return run


def test_a_service_without_faults_loses_nothing_and_answers_each_by_his_own(network, ask):
    watch = Watch(network)
    result, served = ask()
    assert watch.losses() == {}
    assert result["sent"] == result["answered"] == 1000 and result["lost"] == 0
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert served["senders"] == 20 and served["switched"] == 0
    assert 0 < result["latency_p50_us"] <= result["latency_max_us"]


@pytest.mark.parametrize(
    "fault, name",
    [("misdeliver_every", "foreign"), ("corrupt_every", "corrupt"), ("repeat_every", "duplicate")],
)
def test_each_fault_of_a_service_is_noticed(ask, fault, name):
    result, _ = ask({fault: 50})
    assert 10 <= result[name] <= 25
    assert [result[other] for other in NEVER if other != name] == [0] * (len(NEVER) - 1)
    assert result["lost"] == (0 if fault == "repeat_every" else result[name])


def test_a_reply_from_another_address_than_the_one_asked_is_noticed(network, start_load):
    start_load("serve", namespace=network.proxy, at=[_ASKED, "10.1.0.1:9001"], answer_from="turn")
    result = start_load(
        "ask", from_="10.1.0.2", to=_ASKED, clients=10, rate=1000, count=500, seconds=20, patience=2
    ).result()
    assert result["wrong_source"] == result["lost"] == 250


def test_lost_questions_are_told_with_their_time(network, start_load):
    serving = start_load("serve", namespace=network.proxy, at=_ASKED)
    asking = start_load(
        "ask",
        from_="10.1.0.2",
        to=_ASKED,
        clients=10,
        rate=1000,
        seconds=2.5,
        patience=2,
        warm=True,
    )
    asking.wait_event("asking")
    begin = time.monotonic()
    time.sleep(1)
    gone = time.monotonic()
    serving.kill()
    time.sleep(0.3)
    start_load("serve", namespace=network.proxy, at=_ASKED)
    back = time.monotonic()
    result = asking.result()
    assert result["lost"] > 100
    assert (
        lost_between(result, begin, gone - 0.5) == 0 and lost_between(result, back, back + 10) == 0
    )


def test_all_sizes_and_empty_datagrams_between_them_are_answered(network, ask):
    result, served = ask(bytes=[48, 49, 1400, 9000, 65507], empties=3, rate=500, clients=5)
    assert result["lost"] == 0 and result["corrupt"] == 0
    assert (
        result["empties"]
        == result["empties_answered"]
        == 3 * result["sent"]
        == served["empties"] - 3 * 10
    )


def test_clients_that_ask_once_come_from_a_port_each(network, start_load):
    serving = start_load("serve", namespace=network.proxy, at=_ASKED)
    result = start_load("churn", from_="10.1.0.2", to=_ASKED, rate=500, seconds=1).result()
    assert result["answered"] == result["sent"] == serving.stop()["senders"] > 100


@pytest.mark.parametrize("to, prefix", [(_ASKED, "10.1.0.64/26"), ("[fd01::1]:9000", "fd01::/64")])
def test_forged_sources_are_many_and_their_checksums_right(network, start_load, to, prefix):
    serving = start_load("serve", namespace=network.proxy, at=to, replies=0)
    watch = Watch(network)
    spoofed = start_load("spoof", to=to, prefix=prefix, rate=20000, count=5000, bytes=64).result()
    served = serving.stop()
    assert spoofed["sent"] == served["requests"] == served["marked"] == 5000
    assert served["senders"] > 4900
    assert watch.losses() == {}


@pytest.mark.parametrize("host, teller", [("10.1.0.1", "10.1.0.2"), ("[fd01::1]", "fd01::2")])
def test_forged_errors_reach_the_socket_that_they_are_about(network, start_load, host, teller):
    """A connected socket gets ECONNREFUSED by ICMP alone."""
    told = open_socket(network.proxy, f"{host}:7000")
    with told, network.proxy.inside():
        about = address.join(teller, 7001)
        told.connect(address.to_socket(about))
        start_load(
            "icmp", about_from=f"{host}:7000", about_to=about, count=2000, rate=20000
        ).result()
        assert told.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
