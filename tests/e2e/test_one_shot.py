"""Services where each answer is the end of it: sessions that end with their last reply or after so
many requests, and datagrams that are too long.

    client                        proxy                              service
    10.1.0.2  ────────────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53
"""

import os
import signal

import pytest

from harness.program import configuration, table
from harness.service import Reply, echo
from harness.topology import BOTH, IPV4

_RATE = 300
_CASES = [
    pytest.param(4, 14, marks=pytest.mark.bound(60), id="short"),
    pytest.param(10, 120, marks=[pytest.mark.long, pytest.mark.bound(240)], id="long"),
]


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_a_session_ends_with_its_answer_and_a_late_one_meets_nobody(
    family, start_one, open_service, open_client
):
    def twice(request):
        return [Reply(request.payload), Reply(b"late " + request.payload, delay=0.3)]

    service = open_service([family.service(254)], twice)
    proxy = start_one(family, end_after_replies=1)
    client = open_client(family.client_port(0))
    ports = []
    for number in range(3):
        assert client.ask(b"%d" % number, family.listener()).payload == b"%d" % number
        ports.append(service.sender_of(b"%d" % number))
    assert client.drain(1) == []
    assert len(set(ports)) == 3
    counters = proxy.stop()
    assert counters["sessions_finished"] == 3 and counters["sessions_stopped"] == 0
    assert counters.drops() == {"drop_late_reply": 3}


def test_two_questions_at_once_have_both_their_answers(start_one, open_service, open_client):
    service = open_service([IPV4.service(254)], echo())
    proxy = start_one(end_after_replies=1)
    client = open_client()
    for number in range(20):
        client.send(b"a %d" % number, IPV4.listener())
        client.send(b"aaaa %d" % number, IPV4.listener())
        got = {client.receive().payload, client.receive().payload}
        assert got == {b"a %d" % number, b"aaaa %d" % number}
    assert len(service.requests) == 40
    counters = proxy.stop()
    assert counters.drops() == {} and counters["sessions_stopped"] == 0


def test_each_request_has_a_port_of_its_own_and_its_answer_though_the_next_was_asked_before(
    start_one, open_service, open_client
):
    service = open_service([IPV4.service(254)], lambda request: [Reply(request.payload, delay=0.5)])
    proxy = start_one(end_after_requests=1)
    client = open_client()
    asked = [b"%d" % number for number in range(20)]
    for payload in asked:
        client.send(payload, IPV4.listener())
    assert {client.receive().payload for _ in asked} == set(asked)
    assert len({service.sender_of(payload) for payload in asked}) == len(asked)
    counters = proxy.stop()
    # The youngest one has no successor, and stays until its time-out.
    assert (counters["sessions_finished"], counters["sessions_stopped"]) == (len(asked) - 1, 1)
    assert counters.drops() == {}


@pytest.mark.parametrize("end", ["upgrade", "death"])
def test_answers_that_come_after_an_upgrade_or_a_death_belong_to_their_questions(
    end, start_one, open_service, open_client
):
    """A session with a successor goes on as one, beside it. The successor has the group of the very
    first, and comes first in the ledger."""
    delays = {b"first": 0.3, b"second": 4, b"third": 4, b"last": 0}
    service = open_service(
        [IPV4.service(254)], lambda request: [Reply(request.payload, delay=delays[request.payload])]
    )
    proxy = start_one(end_after_requests=1, port_cooldown="0s")
    client = open_client()
    client.send(b"first", IPV4.listener())
    client.send(b"second", IPV4.listener())
    assert client.receive().payload == b"first"
    client.send(b"third", IPV4.listener())
    proxy.wait_until(lambda: len(service.requests) == 3, what="asked")
    assert service.sender_of(b"third") == service.sender_of(b"first")
    if end == "upgrade":
        proxy.signal(signal.SIGUSR2)
    else:
        os.kill(proxy.worker_pid, signal.SIGKILL)
    proxy.wait_until(lambda: len(proxy.all_events("ready")) == 2, what="ready again")
    assert {client.receive().payload for _ in range(2)} == {b"second", b"third"}
    assert client.ask(b"last", IPV4.listener()).payload == b"last"
    counters = proxy.stop()
    assert proxy.all_events("adopted")[0]["closed"] == "0" and counters.drops() == {}


@pytest.mark.parametrize("cooldown, seconds", _CASES)
def test_clients_that_ask_once_hold_no_more_groups_than_cool_down(
    cooldown, seconds, engine, start_proxy, start_load, figures
):
    """A tenth more than what the rate and the cool-down come to; with time-outs alone it is four
    times that."""
    service = start_load("serve", at=[IPV4.service(254)])
    keys = {"port_cooldown": f"{cooldown}s", "end_after_replies": 1}
    proxy = start_proxy(
        configuration(
            table(listen=IPV4.listener(), upstream=IPV4.service(254), **keys), engine=engine
        )
    )
    churned = start_load(
        "churn", family=IPV4, rate=_RATE, seconds=seconds, first_port=10000
    ).result(seconds + 30)
    counters = proxy.stop()
    service.stop()
    groups_max = _RATE * cooldown * 1.1
    figures.tell(
        f"{_RATE} one-question clients a second for {seconds} s, cool-down {cooldown} s: groups",
        f"{counters['groups_opened']} (at most {groups_max:.0f})",
    )
    figures.count(churned)
    assert churned["lost"] == 0 and counters.drops() == {}
    assert counters["groups_opened"] <= groups_max


def test_what_is_too_long_is_dropped_either_way_and_begins_no_session(
    start_one, open_service, open_client
):
    answers = {b"short": b"x" * 100, b"long": b"x" * 101}
    open_service([IPV4.service(254)], lambda request: [Reply(answers[request.payload])])
    proxy = start_one(datagram_max=100)
    client = open_client()
    client.send(b"x" * 101, IPV4.listener())
    assert client.drain(0.5) == []
    assert client.ask(b"short", IPV4.listener()).payload == b"x" * 100
    client.send(b"long", IPV4.listener())
    assert client.drain(0.5) == []
    counters = proxy.stop()
    assert counters["sessions_admitted"] == 1
    assert counters.drops() == {"drop_datagram_limit": 2}
