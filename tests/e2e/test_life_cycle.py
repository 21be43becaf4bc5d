"""Start, a second start, and the end.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias
"""

import signal

import pytest

from harness.process import slow_thread
from harness.program import configuration, table
from harness.service import echo, in_turn
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253)]


def one_proxy(engine, **keys):
    return configuration(
        table(listen=IPV4.listener(), upstream=_SOURCES[0], reply_aliases=[_SOURCES[1]]),
        engine=engine,
        **keys,
    )


def test_the_log_tells_the_start_in_order(engine, start_proxy):
    proxy = start_proxy(one_proxy(engine))
    names = [event["event"] for event in proxy.events]
    assert names == ["starting", "capacity", "admin_off", "listening", "engine", "ready"]
    capacity = proxy.wait_event("capacity", proxy="echo")
    assert int(capacity["sessions"]) > 1000 and capacity["limit"]
    assert proxy.wait_event("ready")["shards"] == "2"
    proxy.stop()
    names = [event["event"] for event in proxy.events]
    assert names[-1] == "stopped"
    assert proxy.wait_event("stopping")["signal"] == "SIGTERM"


def test_the_log_in_json_says_the_same(engine, start_proxy):
    proxy = start_proxy(one_proxy(engine, head='[log]\nformat = "json"'))
    proxy.stop()
    assert all(line.startswith("{") for line in proxy.lines)
    names = {event["event"] for event in proxy.events}
    assert {
        "starting",
        "engine",
        "listening",
        "capacity",
        "ready",
        "stopping",
        "counters",
        "stopped",
    } <= names


def test_the_log_goes_to_a_file_and_sessions_are_summed_up_in_it(
    engine, tmp_path, start_proxy, open_service, open_client
):
    open_service(_SOURCES, in_turn(_SOURCES))
    file = tmp_path / "the.log"
    text = configuration(
        table(
            listen=IPV4.listener(),
            upstream=_SOURCES[0],
            reply_aliases=[_SOURCES[1]],
            unassured_timeout="300ms",
        ),
        engine=engine,
        head=f'[log]\nfile = "{file}"\nsessions = true',
    )
    proxy = start_proxy(text, ready=False)
    proxy.wait_until(
        lambda: file.exists() and "event=ready" in file.read_text() or proxy.catch_up(),
        what="event=ready in the file",
    )
    client = open_client()
    assert client.ask(b"question", IPV4.listener()) is not None
    proxy.wait_until(
        lambda: "event=session_ended" in file.read_text(), what="event=session_ended in the file"
    )
    (line,) = [line for line in file.read_text().splitlines() if "event=session_ended" in line]
    assert "proxy=echo" in line and f":{client.socket.getsockname()[1]} " in line + " "
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    assert "event=counters" in file.read_text()


def test_every_session_that_is_there_at_the_end_is_summed_up_in_the_log(
    engine, start_proxy, open_service, open_crowd
):
    """More than a shard's queue of events holds (4096)."""
    sessions = 5000
    open_service(_SOURCES, echo())
    proxy = start_proxy(
        configuration(
            table(listen=IPV4.listener(), upstream=_SOURCES[0], unassured_timeout="5m"),
            engine=engine,
            shards=1,
            head="[log]\nsessions = true",
        )
    )
    got = open_crowd(sessions).ask_all(IPV4.listener(), lambda client: b"%d" % client)
    assert len(got) == sessions
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0
    ended = proxy.all_events("session_ended")
    assert len({event["client"] for event in ended}) == sessions
    assert {event["reason"] for event in ended} == {"stopped"}


def test_a_second_start_on_the_same_address_fails_clearly_and_moves_no_client(
    engine, start_proxy, open_service, open_crowd
):
    service = open_service(_SOURCES, in_turn(_SOURCES))
    first = start_proxy(one_proxy(engine))
    crowd = open_crowd(200)
    assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d before" % client)) == 200

    second = start_proxy(one_proxy(engine), ready=False)
    assert second.wait() == 1
    assert (
        second.wait_event("failed")["reason"]
        == 'listener "echo" 10.1.0.1:5353: bind: Address already in use '
        f"(held by udpproxy (process {first.pid}))"
    )

    assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d after" % client)) == 200
    for client in range(200):
        assert service.sender_of(b"%d before" % client) == service.sender_of(b"%d after" % client)
    assert first.stop().drops() == {}


def test_clients_are_spread_over_the_shards(engine, start_proxy, open_service, open_crowd):
    """SO_REUSEPORT stays on at the listeners: without it the last one gets everybody (K32)."""
    open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(one_proxy(engine))
    assert (
        len(open_crowd(200).ask_all(IPV4.listener(), lambda client: b"%d" % client, window=1))
        == 200
    )
    proxy.stop()
    turns = [int(event["turns"]) for event in proxy.all_events("shard_counters")]
    assert len(turns) == 2 and min(turns) > 50, turns  # one turn at least for each client's request


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_traffic_ends_it_with_exit_code_0_and_final_counters(
    engine, number, start_proxy, open_service, open_crowd
):
    open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(one_proxy(engine))
    crowd = open_crowd(50)
    crowd.ask_all(IPV4.listener(), lambda client: b"session %d" % client)
    for turn in range(40):
        for client in range(len(crowd)):
            try:
                crowd.send(client, b"%d" % turn, IPV4.listener())
            except ConnectionRefusedError:
                pass
        crowd.arrived()
        if turn == 20:
            proxy.signal(number)
    counters = proxy.stopped()
    assert proxy.wait_event("stopping")["signal"] == number.name
    assert counters["departures_request"] >= 50 * 20 and counters["departures_reply"] >= 50


def test_what_is_queued_when_the_signal_comes_is_still_forwarded(
    engine, start_proxy, open_service, open_client
):
    """The program is stopped (SIGSTOP) while datagrams queue up, and told to end before it may go
    on."""
    service = open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(one_proxy(engine))
    client = open_client()
    assert client.ask(b"session", IPV4.listener()) is not None
    proxy.stand_still()
    for number in range(100):
        client.send(b"%d" % number, IPV4.listener())
    proxy.signal(signal.SIGTERM)
    proxy.go_on()
    counters = proxy.stopped()
    assert counters["departures_request"] == 101
    assert [request.payload for request in service.requests][1:] == [
        b"%d" % number for number in range(100)
    ]


def test_a_second_signal_ends_it_at_once(engine, start_proxy):
    # A listener of its own: who exits at once leaves io_uring's sockets to the kernel, which closes
    # them a moment later.
    port = {"io_uring": 5398, "epoll": 5399}[engine]
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(port), upstream=_SOURCES[0]), engine=engine)
    )
    proxy.stand_still()  # both signals are there when it goes on
    proxy.signal(signal.SIGTERM)
    proxy.signal(signal.SIGINT)
    proxy.go_on()
    assert proxy.wait() is not None


def test_its_addresses_are_free_the_moment_it_has_ended(
    engine, start_proxy, open_service, open_crowd
):
    """io_uring's files outlive the process unless it gives them back itself: a restart would find
    its own address in use."""
    open_service(_SOURCES, in_turn(_SOURCES))
    crowd = open_crowd(20)
    for turn in range(15):
        proxy = start_proxy(one_proxy(engine))
        assert crowd.ask_all(
            IPV4.listener(), lambda client, turn=turn: b"%d in turn %d" % (client, turn)
        )
        proxy.stop()


def test_it_starts_again_at_once_after_it_was_killed(engine, start_proxy, open_service, open_crowd):
    """Killed, it gives nothing back itself: the kernel takes a ring's sockets some hundred
    milliseconds later. The next start waits for that."""
    open_service(_SOURCES, in_turn(_SOURCES))
    crowd = open_crowd(20)
    for turn in range(3):
        proxy = start_proxy(one_proxy(engine))
        assert crowd.ask_all(
            IPV4.listener(), lambda client, turn=turn: b"%d in life %d" % (client, turn)
        )
        proxy.kill()


def test_the_first_clients_after_a_restart_are_all_served(
    engine, start_proxy, open_service, open_crowd
):
    """The same for the ports of sessions: what the instance before has used must not stand in the
    way of the next one."""
    open_service(_SOURCES, in_turn(_SOURCES))
    crowd = open_crowd(200)
    for turn in range(5):
        proxy = start_proxy(one_proxy(engine))
        assert len(
            crowd.ask_all(
                IPV4.listener(), lambda client, turn=turn: b"%d in turn %d" % (client, turn)
            )
        ) == len(crowd)
        assert proxy.stop().drops() == {}


def test_a_shard_that_does_not_stop_keeps_the_program_for_seconds_only(
    start_proxy, open_service, open_crowd
):
    """The end of the program waited for it for ever, or for a second signal."""
    open_service(_SOURCES, in_turn(_SOURCES))
    proxy = start_proxy(one_proxy("epoll"))
    with slow_thread(proxy, "shard 1", 60):
        proxy.signal(signal.SIGTERM)
        assert proxy.wait_event("not_ended")["thread"] == "shard"
    assert proxy.wait() == 1  # the tracer lets nobody go while it is there
