"""Reload under load: the clients that are there lose nothing, and the service sees none of them on
another port.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 .253 .252 .251 service
"""

import os
import random
import signal
import time

import pytest

from harness.program import configuration, table
from harness.reloading import Reloading
from harness.service import Reply

MAIN = "10.1.0.1:5300"
OTHER = "10.1.0.1:5301"
MORE = "10.1.0.1:5302"
ADDRESSES = ["10.0.0.254", "10.0.0.253", "10.0.0.252", "10.0.0.251"]
ALIASES = ["10.0.0.253:53", "10.0.0.252:53"]


def echo(request):
    return [Reply(request.payload)]


class Echoes:
    """A service that remembers from which port each client's payloads came, and answers from the
    address it is told to."""

    def __init__(self, open_service):
        self.via = None
        self.ports = {}
        self.service = open_service(
            [f"{address}:53" for address in ADDRESSES], self._answer, keep_requests=False
        )

    def _answer(self, request):
        client = request.payload.split(b":")[0]
        self.ports.setdefault(client, set()).add((request.asked_on, request.sender))
        return [Reply(request.payload, via=self.via)]


def descriptors_of(proxy):
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


def descriptors_at_rest(proxy):
    """The control thread reads files now and then, for its advice for example."""
    seen = []
    proxy.wait_until(
        lambda: seen.append(descriptors_of(proxy)) or (seen[-5:] == seen[-1:] * 5),
        what="descriptors that stay",
    )
    return seen[-1]


def wait_for_descriptors(proxy, count):
    """Groups are brought to a command some in each turn, and a busy machine has few turns."""
    proxy.wait_until(
        lambda: descriptors_of(proxy) == count,
        timeout=15,
        what=f"{count} descriptors, but {descriptors_of(proxy)}",
    )


def main_table(**keys):
    keys.setdefault("reply_aliases", ALIASES)
    keys.setdefault("upstream", "10.0.0.254:53")
    return table(name="main", listen=MAIN, idle_timeout="10m", unassured_timeout="10m", **keys)


def ask_everybody(crowd, to, round_, clients=None):
    """Each client once; all must have their own answer."""
    wanted = list(clients if clients is not None else range(len(crowd)))
    got = crowd.ask_all(
        to, lambda client: b"%d:%d" % (client, round_), clients=wanted, patience=2.0
    )
    assert sorted((client, datagram.payload) for client, datagram in got) == sorted(
        (client, b"%d:%d" % (client, round_)) for client in wanted
    )


def test_nothing_happens_to_anybody_at_a_reload_of_the_same_file(
    engine, start_proxy, open_crowd, open_service
):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(100)
    ask_everybody(crowd, MAIN, 0)
    before = descriptors_at_rest(running.proxy)
    for round_ in range(1, 6):
        assert running.reload(main_table())["changes"] == "0"
        ask_everybody(crowd, MAIN, round_)
    assert descriptors_at_rest(running.proxy) == before
    assert all(len(ports) == 1 for ports in echoes.ports.values())
    counters = running.proxy.stop()
    assert (
        counters.drops() == {}
        and counters["sessions_admitted"] == 100
        and counters["groups_opened"] == 100
    )


def test_a_broken_file_changes_nothing_and_the_log_says_where_it_is_broken(
    engine, start_proxy, open_client, open_service
):
    Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    client = open_client()
    assert client.ask(b"0:0", MAIN).payload == b"0:0"
    for text, complaint in [
        ("[[proxy]\n", ":1:"),
        (configuration(main_table(idle_timeuot="1m")), "idle_timeout"),
        ("", "no proxy"),
    ]:
        running.break_file(text)
        reasons = [event["reason"] for event in running.proxy.all_events("reload_failed")]
        assert "udpproxy.toml" in reasons[-1]
        assert complaint in reasons[-1] or complaint == "no proxy"
        assert client.ask(b"0:1", MAIN).payload == b"0:1"
    running.proxy.configuration_file.unlink()
    running.proxy.signal(signal.SIGHUP)
    running.proxy.wait_event("not_reloaded", failures="4")
    assert client.ask(b"0:2", MAIN).payload == b"0:2"
    assert running.proxy.stop()["sessions_admitted"] == 1


@pytest.mark.parametrize(
    "files", [50, pytest.param(2000, marks=[pytest.mark.long, pytest.mark.bound(400)])]
)
def test_damaged_files_change_nothing_for_the_clients_that_are_there(
    engine, files, start_proxy, open_crowd, open_service
):
    """Files that were cut, spliced or overwritten somewhere, and then made wrong for certain."""
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(20)
    ask_everybody(crowd, MAIN, 0)
    whole = running.proxy.configuration_file.read_bytes()
    before = descriptors_at_rest(running.proxy)
    draw = random.Random(44)
    for round_ in range(1, files + 1):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        cut = draw.randrange(len(damaged))
        damaged = (
            damaged[:cut] + damaged[draw.randrange(len(damaged)) :]
            if draw.random() < 0.5
            else damaged
        )
        running.proxy.configuration_file.write_bytes(bytes(damaged) + b"\n[[proxy]]\nname = 1\n")
        running.proxy.signal(signal.SIGHUP)
        running.failures += 1
        ask_everybody(crowd, MAIN, round_)
        running.settle()
    assert descriptors_at_rest(running.proxy) == before
    assert running.proxy.all_events("reloaded") == []
    assert all(len(ports) == 1 for ports in echoes.ports.values())
    counters = running.proxy.stop()
    assert counters["sessions_admitted"] == 20 and counters.drops() == {}


def test_aliases_come_and_go_for_the_sessions_that_are_there(
    engine, start_proxy, open_crowd, open_service
):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(60)
    ask_everybody(crowd, MAIN, 0)
    before = descriptors_at_rest(running.proxy) + 60
    running.reload(main_table(reply_aliases=ALIASES + ["10.0.0.251:53"]))
    wait_for_descriptors(running.proxy, before)
    echoes.via = "10.0.0.251:53"
    ask_everybody(crowd, MAIN, 1)
    echoes.via = "10.0.0.253:53"
    ask_everybody(crowd, MAIN, 2)
    running.reload(main_table(reply_aliases=["10.0.0.251:53"]))
    wait_for_descriptors(running.proxy, before - 2 * 60)
    assert crowd.ask_all(MAIN, lambda client: b"%d:3" % client, patience=0.5) == []
    echoes.via = None
    # Prefixes need the open filter: one open member for all.
    running.reload(main_table(reply_aliases=["10.0.0.248/29:53"]))
    wait_for_descriptors(running.proxy, before - 3 * 60)
    echoes.via = "10.0.0.252:53"
    ask_everybody(crowd, MAIN, 4)
    assert all(len(ports) == 1 for ports in echoes.ports.values()), "a session keeps its port"
    counters = running.proxy.stop()
    assert counters["sessions_admitted"] == 60
    assert counters["joins_failed"] == 0
    assert set(counters.drops()) <= {"drop_unlisted_source"}


@pytest.mark.parametrize("on_change", ["keep", "close"])
def test_a_changed_upstream_takes_new_clients_and_old_sessions_as_on_change_says(
    engine, on_change, start_proxy, open_crowd, open_service
):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table(on_change=on_change))
    crowd = open_crowd(40)
    ask_everybody(crowd, MAIN, 0, range(20))
    running.reload(main_table(on_change=on_change, upstream="10.0.0.251:53"))
    running.proxy.wait_until_idle()
    ask_everybody(crowd, MAIN, 1)
    asked_on = {
        client: {endpoint for endpoint, _ in ports} for client, ports in echoes.ports.items()
    }
    for client in range(20, 40):
        assert asked_on[b"%d" % client] == {"10.0.0.251:53"}
    for client in range(20):
        assert asked_on[b"%d" % client] == (
            {"10.0.0.254:53"} if on_change == "keep" else {"10.0.0.254:53", "10.0.0.251:53"}
        )
    counters = running.proxy.stop()
    assert counters["sessions_closed"] == (0 if on_change == "keep" else 20)


def test_a_proxy_comes_serves_goes_and_its_clients_are_told_by_the_kernel(
    engine, start_proxy, open_client, open_crowd, open_service
):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(20)
    ask_everybody(crowd, MAIN, 0)
    added = table(name="added", listen=[OTHER, MORE], upstream="10.0.0.253:53", ports="40000-40999")
    before = descriptors_at_rest(running.proxy)
    for round_ in range(3):
        running.reload(main_table(), added)
        client = open_client()
        assert client.ask(b"90:0", OTHER).payload == b"90:0"
        assert client.ask(b"91:0", MORE).payload == b"91:0"
        running.reload(main_table())
        # Retired: who is known goes on, who is not is refused and counted.
        assert client.ask(b"90:1", OTHER).payload == b"90:1"
        assert open_client().ask(b"92:0", OTHER, timeout=0.3) is None
        if round_ == 2:
            break
        # Back again while it drains: the same listeners, the same session.
        running.reload(main_table(), added)
        assert client.ask(b"90:2", OTHER).payload == b"90:2"
        running.reload(
            main_table(),
            table(
                name="added",
                listen=[OTHER, MORE],
                upstream="10.0.0.253:53",
                ports="40000-40999",
                idle_timeout="100ms",
                unassured_timeout="100ms",
            ),
        )
        running.reload(main_table())
        running.proxy.wait_until(
            lambda n=round_ + 1: len(running.proxy.all_events("proxy_gone", proxy="added")) >= n,
            what="proxy_gone",
        )
        assert descriptors_of(running.proxy) <= before + 1
    ask_everybody(crowd, MAIN, 1)
    assert all(
        40000 <= int(port.rsplit(":", 1)[1]) <= 40999
        for client in (b"90", b"91")
        for _, port in echoes.ports[client]
    )
    assert all(len(echoes.ports[b"%d" % client]) == 1 for client in range(20))
    counters = running.proxy.stop()
    assert set(counters.drops()) == {"drop_draining"}


def test_a_listener_moves_to_another_proxy_without_being_opened_anew(
    engine, start_proxy, open_crowd, open_service
):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(40)
    ask_everybody(crowd, MAIN, 0, range(20))
    running.reload(table(name="renamed", listen=MAIN, upstream="10.0.0.252:53"))
    ask_everybody(crowd, MAIN, 1)
    asked_on = {
        client: {endpoint for endpoint, _ in ports} for client, ports in echoes.ports.items()
    }
    for client in range(40):
        assert asked_on[b"%d" % client] == ({"10.0.0.254:53"} if client < 20 else {"10.0.0.252:53"})
    assert all(len(ports) == 1 for ports in echoes.ports.values())
    assert len(running.proxy.all_events("listening")) == 1
    assert running.proxy.stop().drops() == {}


def test_settings_limits_and_log_change_in_place_and_what_cannot_is_named(
    engine, start_proxy, open_client, open_service, tmp_path
):
    Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    client = open_client()
    assert client.ask(b"0:0", MAIN).payload == b"0:0"
    log = tmp_path / "log"
    table_now = main_table().replace('"10m"', '"300ms"')
    running.write(
        configuration(
            table_now,
            engine=engine,
            shards=3,
            head=f'[log]\nsessions = true\nfile = "{log}"\n[limits]\nsessions_max = 100\n',
        )
    )
    running.proxy.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not (log.exists() and "session_ended" in log.read_text()):
        time.sleep(0.1)
    text = log.read_text()
    assert "event=needs_restart key=runtime.shards" in text
    assert (
        "event=session_ended" in text and "reason=idle" in text
    ), "the new time-out holds for the session that was there"
    # The file is moved away and opened anew.
    log.rename(tmp_path / "log.1")
    running.proxy.signal(signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not (log.exists() and "log_reopened" in log.read_text()):
        time.sleep(0.05)
    assert "log_reopened" in log.read_text()
    running.proxy.signal(signal.SIGTERM)
    assert running.proxy.wait() == 0
    assert "event=stopped" in log.read_text()


def test_a_storm_of_signals_harms_nobody(engine, start_proxy, open_crowd, open_service):
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(200)
    ask_everybody(crowd, MAIN, 0)
    before = descriptors_at_rest(running.proxy)
    end = time.monotonic() + 4
    round_ = 1
    while time.monotonic() < end:
        for _ in range(100):
            running.proxy.signal(signal.SIGHUP)
            running.proxy.signal(signal.SIGUSR1)
        ask_everybody(crowd, MAIN, round_)
        round_ += 1
    running.proxy.wait_until_idle()
    assert descriptors_at_rest(running.proxy) == before
    assert all(len(ports) == 1 for ports in echoes.ports.values())
    counters = running.proxy.stop()
    assert counters.drops() == {} and counters["sessions_admitted"] == 200
    assert len(running.proxy.all_events("reloaded")) > 3


def test_a_drain_lets_known_clients_go_on_and_ends_by_itself(
    engine, start_proxy, open_client, open_service
):
    Echoes(open_service)
    proxy = start_proxy(
        configuration(
            table(
                name="main",
                listen=MAIN,
                upstream="10.0.0.254:53",
                idle_timeout="3s",
                unassured_timeout="3s",
            ),
            engine=engine,
        )
    )
    known = open_client()
    assert known.ask(b"0:0", MAIN).payload == b"0:0"
    proxy.signal(signal.SIGQUIT)
    proxy.wait_event("draining")
    for round_ in range(1, 8):
        assert known.ask(b"0:%d" % round_, MAIN).payload == b"0:%d" % round_
        time.sleep(0.5)
    assert open_client().ask(b"1:0", MAIN, timeout=0.3) is None
    counters = proxy.stopped()  # the last session has ended
    assert counters.drops() == {"drop_draining": 1}
    assert proxy.all_events("stopping")[0]["signal"] == "SIGQUIT"


def test_a_drain_ends_at_its_deadline_and_a_signal_to_stop_does_not_wait_for_it(
    engine, start_proxy, open_client, open_service, tmp_path
):
    from harness import program

    Echoes(open_service)
    for stop in (False, True):
        proxy = start_proxy(
            configuration(main_table(), engine=engine),
            arguments=["--drain-timeout", "1500ms" if not stop else "1h"],
        )
        known = open_client()
        assert known.ask(b"0:0", MAIN).payload == b"0:0"
        began = time.monotonic()
        proxy.signal(signal.SIGQUIT)
        proxy.wait_event("draining")
        if stop:
            proxy.signal(signal.SIGTERM)
        proxy.stopped()
        assert stop or time.monotonic() - began > 1.4
    assert (
        program.run_once("--config", proxy.configuration_file, "--drain-timeout", "soon").returncode
        == 2
    )


def ask_for_one_of_each_kind(running, round_):
    main = main_table()
    with_third = main_table(reply_aliases=ALIASES + ["10.0.0.251:53"])
    added = table(
        name=f"added{round_ % 3}",
        listen=OTHER,
        upstream="10.0.0.253:53",
        ports="40000-40999",
        unassured_timeout="100ms",
        idle_timeout="100ms",
    )
    kind = round_ % 6
    if kind == 0:
        running.ask(main)
    elif kind == 1:
        running.ask(with_third)
    elif kind == 2:
        running.ask(with_third, added)
    elif kind == 3:
        running.ask_with_broken("[[proxy]]\nname = 7\n")
    elif kind == 4:
        running.ask(main.replace('"10m"', '"9m"'), added)
    else:
        running.ask(main)


@pytest.mark.parametrize(
    "clients,reloads", [(300, 24), pytest.param(3000, 200, marks=pytest.mark.slow)]
)
def test_under_load_no_datagram_no_session_and_no_port_is_lost(
    engine, clients, reloads, start_proxy, open_crowd, open_service
):
    """Unchanged, aliases added and removed, proxies added and removed, time-outs changed, broken
    files. Of 20 000 descriptors 3000 sessions leave enough for the sockets of new aliases and
    listeners; 5000 do not."""
    echoes = Echoes(open_service)
    running = Reloading(start_proxy, engine, main_table())
    crowd = open_crowd(clients)
    # Twice each, in halves: who has written again after a reply is assured, and no longer counted
    # as a crowd of one address.
    for half in (range(clients // 2), range(clients // 2, clients)):
        for _ in range(2):
            ask_everybody(crowd, MAIN, 0, half)
    before = descriptors_at_rest(running.proxy)
    part = max(1, clients // 8)
    for round_ in range(1, reloads + 1):
        ask_for_one_of_each_kind(running, round_)  # answered while the clients ask
        first = (round_ * part) % clients
        ask_everybody(crowd, MAIN, round_, range(first, min(first + part, clients)))
        running.settle()
    running.reload(main_table())
    ask_everybody(crowd, MAIN, reloads + 1)
    deadline = time.monotonic() + 15
    while descriptors_of(running.proxy) > before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert descriptors_of(running.proxy) <= before, "no descriptor is left behind"
    assert all(
        len(echoes.ports[b"%d" % client]) == 1 for client in range(clients)
    ), "a session keeps its port"
    counters = running.proxy.stop(timeout=20)
    assert counters.drops() == {}
    assert (
        counters["sessions_admitted"] == clients
        and counters["sessions_expired"] == 0
        and counters["sessions_closed"] == 0
    )
