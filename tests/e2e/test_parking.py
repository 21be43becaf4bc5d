"""A restart by a service manager that keeps descriptors: no session, port or datagram is lost.

    client                        proxy                            service
    10.1.0.2  ───────────  10.1.0.1 │ 10.0.0.1, 10.0.0.7  ───────  10.0.0.254 .253 .252 .251
    fd01::2                fd01::1  │ fd00::1                      fd00::254 ::253 ::252
"""

import array
import os
import pathlib
import signal
import socket
import struct
import time

import pytest

from harness import program
from harness.admin import parse_metrics
from harness.client import Client
from harness.friend import Friend
from harness.kernel import Watch
from harness.load import NEVER
from harness.process import Process, slow_thread
from harness.program import configuration, table
from harness.sd_notify import Store
from harness.service import echo
from harness.tables import tables_of_each_kind
from harness.topology import BOTH, IPV4, IPV6
from harness.users import as_its_user, several_users

_AT = [family.service(last) for family in BOTH for last in (254, 253, 252, 251)]
_NAME = "udpproxy-sessions"


@pytest.fixture(name="manager")
def _manager(tmp_path, closing):
    return closing(Store(tmp_path / "notify"))


@pytest.fixture(name="start")
def _start(manager, start_proxy):
    """start(text): the program, with what the manager has kept."""

    def start(text, become=(), variables=None, **options):
        prefix = [*become, *manager.start(**(variables or {}))]
        return start_proxy(text, prefix=prefix, **options)

    return start


def _one(engine, **options):
    """One proxy without aliases; a session of it has two sockets."""
    keys = {"listen": IPV4.listener(), "upstream": IPV4.service(254)}
    return configuration(table(**keys), engine=engine, **options)


def _tracing(inject):
    """Options of start(): strace does that with dup3(2), the call that puts a ledger, or a parcel,
    in the place of another ledger."""
    calls = ["-e", "trace=dup3", "-e", f"inject=dup3:{inject}"]
    return {
        "become": ["strace", "-D", "-f", "-q", "-o", "/dev/null", *calls],
        "variables": {"ASAN_OPTIONS": "detect_leaks=0"},  # cannot be done under strace
    }


def _stored(manager):
    return [name for name, _ in manager.stored]


def _adopted(proxy):
    (event,) = proxy.all_events("adopted")
    told = {key: event[key] for key in ("reason", "sessions", "closed", "not_believed")}
    assert float(event["pause_ms"]) > 0
    return told


def _kept(sessions):
    return {"reason": "restart", "sessions": str(sessions), "closed": "0", "not_believed": "0"}


def _has_forgotten(manager):
    manager.wait(FDSTOREREMOVE="1", count=2)  # before something is stored, and at the next start
    return manager.stored == []


def _serves_all(open_crowd):
    """Nobody else takes datagrams away at the listener's address."""
    crowd = open_crowd(40)
    return len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == len(crowd)


def test_sessions_ports_and_datagrams_are_kept(
    engine, network, start, manager, open_service, admin
):
    network.proxy.ip("addr replace 10.0.0.7/24 dev to-service")
    service = open_service(_AT, echo())
    text = configuration(*tables_of_each_kind(), engine=engine, head=admin.section())
    proxy = start(text)
    friends = [
        Friend(network, service, IPV4.listener()),
        Friend(network, service, "10.1.0.1:6353"),
        Friend(network, service, "[fd01::1]:6353", IPV6),
        Friend(network, service, IPV6.listener(), IPV6),
    ]
    ids = {each["id"] for each in admin.json("sessions")["sessions"]}
    for restart in range(2):
        # One that asks while nobody serves, and an answer that comes then.
        proxy.stop()
        assert proxy.wait_event("parked") and _stored(manager) == [_NAME]
        asking = friends[1 + restart]
        asking.client.send(b"asked %d" % restart, asking.at)
        host, port = friends[0].port.split(":")
        service.socket_of(IPV4.service(253)).sendto(b"answered %d" % restart, (host, int(port)))
        proxy = start(text)
        assert asking.client.receive().payload == b"asked %d" % restart
        assert friends[0].client.receive().payload == b"answered %d" % restart
        assert _adopted(proxy) == _kept(4 + restart)
        assert proxy.all_events("adopted")[0]["from_version"]
        assert [friend.goes_on() for friend in friends] == [True] * 4
        assert ids <= {each["id"] for each in admin.json("sessions")["sessions"]}
        metrics = parse_metrics(admin.shown("metrics"))
        assert metrics[("udpproxy_worker_starts_total", (("reason", "restart"),))] == 1
        manager.wait(FDSTOREREMOVE="1", count=2 * restart + 2)
        assert manager.stored == [], "or the next start would have them again"
        assert Client(network.client).ask(b"new", IPV4.listener()).payload == b"new"


def _restarts_under_load(
    clients, times, rate, network, start, manager, start_load, figures, engine
):
    at = [IPV4.service(254), IPV4.service(253), IPV4.service(252)]
    start_load("serve", at=at, answer_from="random")
    text = configuration(
        table(
            listen=IPV4.listener(),
            upstream=at[0],
            reply_aliases=at[1:],
            unlisted_replies="off",
            idle_timeout="10m",
            unassured_timeout="10m",
        ),
        engine=engine,
    )
    proxy = start(text)
    asking = start_load(
        *("ask",),
        clients=clients,
        rate=rate,
        seconds=2 + 2 * times,
        warm=True,
        patience=5,
        from_=IPV4.client_host,
        to=IPV4.listener(),
    )
    asking.wait_event("asking", timeout=60)
    watch = Watch(network)
    parked, pauses, ends = [], [], []
    for restart in range(times):
        time.sleep(0.5)
        began = time.monotonic()
        proxy.stop()
        ends.append((time.monotonic() - began) * 1000)
        assert _stored(manager) == [_NAME]
        parked.append(proxy.wait_event("parked"))
        proxy = start(text)
        assert _adopted(proxy) == _kept(clients)
        pauses.append(float(proxy.all_events("adopted")[0]["pause_ms"]))
        manager.wait(FDSTOREREMOVE="1", count=2 * restart + 2)
    result = asking.result(120)
    figures.count(result)
    listed = lambda values: ", ".join(f"{value:.1f}" for value in values)
    figures.tell(
        "restarts by a service manager under load: every session is kept, at its port",
        f"{times} times, {clients} sessions, {parked[0]['sockets']} sockets: {result['lost']} of "
        f"{result['sent']} lost at {rate}/s; parked in {listed(float(e['ms']) for e in parked)} "
        f"ms, ended within {listed(ends)} ms, pause {listed(pauses)} ms",
    )
    assert [result[name] for name in NEVER] == [0] * len(NEVER)
    assert result["lost"] == 0 and watch.losses() == {}, f"{result}"


def test_restarts_under_load_lose_nothing(engine, network, start, manager, start_load, figures):
    _restarts_under_load(500, 3, 4000, network, start, manager, start_load, figures, engine)


@pytest.mark.long
@pytest.mark.bound(200)
def test_restarts_with_5000_sessions_lose_nothing(
    engine, network, start, manager, start_load, figures
):
    _restarts_under_load(5000, 10, 20_000, network, start, manager, start_load, figures, engine)


def _kill(proxy):
    os.kill(proxy.worker_pid, signal.SIGKILL)


def _upgrade(proxy):
    proxy.signal(signal.SIGUSR2)


@pytest.mark.parametrize("way", [_kill, _upgrade])
def test_deaths_upgrades_and_restarts_follow_each_other(
    way, engine, network, start_installed, manager, open_service
):
    """What the environment says of descriptors holds for the first worker alone."""
    service = open_service(_AT, echo())
    begin = lambda: start_installed(_one(engine), prefix=manager.start())
    proxy = begin()
    friend = Friend(network, service, IPV4.listener())
    for _ in range(2):
        proxy.stop()
        proxy = begin()
        assert _adopted(proxy) == _kept(1)
        way(proxy)
        proxy.wait_until(lambda: len(proxy.all_events("ready")) == 2, what="the next worker")
        assert proxy.all_events("adopted")[1]["sessions"] == "1"
        assert friend.goes_on()


def test_a_drain_is_over_with_the_restart(
    engine, network, start, manager, open_service, admin, open_crowd
):
    service = open_service(_AT, echo())
    text = _one(engine, head=admin.section())
    proxy = start(text)
    friend = Friend(network, service, IPV4.listener())
    admin.shown("drain", "echo")
    admin.shown("drain")
    proxy.stop()
    start(text)
    assert friend.goes_on() and _serves_all(open_crowd)
    assert admin.json("status")["ready"]


def test_sockets_of_a_socket_unit_are_kept_beside(engine, network, start, manager, open_service):
    service = open_service(_AT, echo())
    with network.proxy.inside(), open("/proc/thread-self/net/udp", encoding="ascii") as bound:
        # A ring's sockets outlive the program of the test before by some milliseconds.
        deadline = time.monotonic() + 30
        while len(bound.readlines()) > 1:
            assert time.monotonic() < deadline, "sockets are left"
            time.sleep(0.01)
            bound.seek(0)
        unit = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with unit:
        unit.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        unit.bind((IPV4.listen_host, 5353))
        manager.of_socket_unit.append(unit.fileno())
        text = _one(engine, shards=1)
        proxy = start(text)
        assert proxy.wait_event("handed_over")["sockets"] == "1"
        friend = Friend(network, service, IPV4.listener())
        for _ in range(2):
            proxy.stop()
            proxy = start(text)
            assert _adopted(proxy) == _kept(1)
            assert friend.goes_on()
            assert not proxy.all_events("handed_over_unused")


def test_another_number_of_shards_begins_anew(
    engine, network, start, manager, open_service, open_crowd
):
    service = open_service(_AT, echo())
    start_with = lambda shards: start(_one(engine, shards=shards))
    proxy = start_with(2)
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    proxy = start_with(1)
    (left,) = proxy.all_events("sessions_left")
    assert left["reason"].endswith("it has 2 shards, and the configuration 1")
    assert not proxy.all_events("adopted")
    assert friend.ask() and _serves_all(open_crowd)
    assert _has_forgotten(manager)
    proxy.stop()
    assert _adopted(start(_one(engine, shards='"auto"')))["sessions"] == "41", "auto takes any"


@pytest.fixture(name="start_kept")
def _start_kept(tmp_path, closing, start_proxy):
    """start(text): with a manager that never closes what it has kept."""
    manager = closing(Store(tmp_path / "keeps", forgets=False))
    return lambda text, **options: start_proxy(text, prefix=manager.start(), **options)


def _bound(network):
    with network.proxy.inside(), open("/proc/thread-self/net/udp", encoding="ascii") as sockets:
        return len(sockets.readlines()) - 1


def test_what_is_closed_is_closed_though_the_manager_has_it(engine, network, start_kept):
    start_kept(_one(engine)).stop()
    proxy = start_kept(_one(engine), arguments=["--drain-timeout", "0s"])
    text = configuration(table(listen=IPV4.listener(6353), upstream=IPV4.service(254)), shards=2)
    proxy.configuration_file.write_text(text, encoding="utf-8")
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("listener_closed")
    proxy.wait_until(lambda: _bound(network) == 2, what="a close of all but the new listener")


def test_what_is_not_gone_on_from_is_closed_though_the_manager_has_it(
    engine, start_kept, open_service, open_crowd
):
    open_service(_AT, echo())
    start_kept(_one(engine, shards=2)).stop()
    proxy = start_kept(_one(engine, shards=1))
    assert proxy.all_events("sessions_left") and _serves_all(open_crowd)


def _ledger_of(manager):
    """The file in the parcel, which stays as it is."""
    with socket.socket(fileno=os.dup(manager.stored[0][1])) as parcel:
        _, control, _, _ = parcel.recvmsg(64, socket.CMSG_SPACE(4 * 253), socket.MSG_PEEK)
    descriptors = array.array("i", control[0][2])
    for descriptor in descriptors[1:]:
        os.close(descriptor)
    return descriptors[0]


def test_a_ledger_of_another_form_begins_anew(
    engine, network, start, manager, open_service, open_crowd
):
    service = open_service(_AT, echo())
    proxy = start(_one(engine))
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    ledger = _ledger_of(manager)
    os.pwrite(ledger, struct.pack("=I", 99), 8)  # docs/ledger.md
    os.close(ledger)
    proxy = start(_one(engine))
    (left,) = proxy.all_events("sessions_left")
    assert "form" in left["reason"], left
    assert friend.ask() and _serves_all(open_crowd) and _has_forgotten(manager)


def _garbage(_manager):
    read, write = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with write:
        write.send(b"x" * 2000)
    return read.detach()


def _empty(_manager):
    read, write = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    write.close()
    return read.detach()


def _pipe(_manager):
    read, write = os.pipe()
    os.close(write)
    return read


_LEFT = {
    "garbage": (_garbage, "it is no parcel of udpproxy"),
    "emptied": (_empty, "it is empty"),
    "tcp": (lambda _: socket.create_server(("127.0.0.1", 0)).detach(), "what holds its sockets: "),
    "directory": (lambda _: os.open("/", os.O_RDONLY), "it is no file in memory"),
    "device": (lambda _: os.open("/dev/zero", os.O_RDWR), "it is no file in memory"),
    "ledger_alone": (_ledger_of, None),
}


@pytest.mark.parametrize("make, reason", _LEFT.values(), ids=_LEFT)
def test_whatever_else_has_been_stored_a_start_serves(
    make, reason, network, start, manager, open_service, open_crowd
):
    service = open_service(_AT, echo())
    proxy = start(_one("auto"))
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    manager.replace_stored(make(manager))
    proxy = start(_one("auto"))
    if reason is None:
        assert _adopted(proxy)["sessions"] == "0"
    else:
        (left,) = proxy.all_events("sessions_left")
        assert reason in left["reason"]
    assert friend.ask() and _serves_all(open_crowd) and _has_forgotten(manager)


def test_without_a_store_a_stop_ends_the_sessions(
    engine, network, start, manager, start_proxy, open_service
):
    service = open_service(_AT, echo())
    for begin in (
        lambda: start_proxy(_one(engine), prefix=manager.environment()),
        lambda: start(_one(engine), variables={"FDSTORE": "0"}),
        lambda: start_proxy(_one(engine), prefix=["env", "FDSTORE=1"]),
        lambda: start(_one(engine), arguments=["--single-process"]),
    ):
        proxy = begin()
        Friend(network, service, IPV4.listener())
        proxy.stop()
        assert not proxy.all_events("parked") and not manager.all(FDSTORE="1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_only_sigterm_leaves_sessions_with_the_manager(number, network, start, manager):
    proxy = start(_one("auto"), arguments=["--drain-timeout", "0s"])
    proxy.signal(number)
    assert proxy.wait() == 0
    assert not proxy.all_events("parked") and manager.stored == []


def test_a_program_without_a_keeper_closes_what_was_stored(
    network, start, open_service, open_crowd
):
    open_service(_AT, echo())
    start(_one("auto")).stop()
    start(_one("auto"), arguments=["--single-process"])
    assert _serves_all(open_crowd)


def test_a_manager_that_does_not_answer_delays_the_end_by_two_seconds(
    engine, network, start_proxy, open_service, tmp_path, closing
):
    manager = closing(Store(tmp_path / "slow", answers_barriers=False))
    service = open_service(_AT, echo())
    proxy = start_proxy(_one(engine), prefix=manager.start())
    friend = Friend(network, service, IPV4.listener())
    began = time.monotonic()
    proxy.stop()
    assert 1.5 < time.monotonic() - began < 20
    reason = "the service manager: no answer within 2 s"
    assert f"udpproxy: the sessions may end with this process: {reason}" in proxy.lines
    start_proxy(_one(engine), prefix=manager.start())
    assert friend.goes_on()


@pytest.mark.slow
def test_a_manager_that_is_gone_delays_nothing(start_proxy, tmp_path):
    manager = Store(tmp_path / "gone")
    proxy = start_proxy(_one("auto"), prefix=manager.start())
    manager.close()
    proxy.stop()
    reason = "the service manager: Connection refused"
    assert f"udpproxy: the sessions may end with this process: {reason}" in proxy.lines


def test_of_a_worker_that_dies_while_it_parks_nothing_is_stored(
    engine, network, start, manager, open_service
):
    service = open_service(_AT, echo())
    proxy = start(_one(engine), **_tracing("signal=SIGKILL:when=2"))
    Friend(network, service, IPV4.listener())
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 128 + signal.SIGKILL
    assert "udpproxy: the sessions end with their worker" in proxy.lines
    assert not proxy.all_events("parked") and manager.stored == []
    start(_one(engine)).stop()


@pytest.mark.slow
@pytest.mark.parametrize("thread, are_kept", [("admin", True), ("shard 0", False)])
def test_a_thread_that_does_not_end_costs_the_sessions_if_it_is_a_shard(
    thread, are_kept, engine, network, start, manager, open_service, admin
):
    service = open_service(_AT, echo())
    text = _one(engine, head=admin.section())
    proxy = start(text)
    friend = Friend(network, service, IPV4.listener())
    with slow_thread(proxy, thread, 60):
        proxy.signal(signal.SIGTERM)
        assert proxy.wait_event("not_ended")["thread"] == thread.split()[0]
    assert proxy.wait() == 1
    said = "udpproxy: the sessions end with their worker" in proxy.lines
    assert (_stored(manager), said) == ([_NAME] * are_kept, not are_kept)
    proxy = start(text)
    if are_kept:
        assert _adopted(proxy) == _kept(1) and friend.goes_on()


def test_a_worker_that_dies_before_it_has_taken_over_takes_nothing_along(
    engine, start, manager, open_service, open_crowd
):
    """What it has opened is closed before the next one opens it again: there are not descriptors
    for both."""
    open_service(_AT, echo())
    limit = ["prlimit", "--nofile=2000"]
    proxy = start(_one(engine), become=limit)
    crowd = open_crowd(400)
    ask = lambda: len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client))
    assert ask() == 400
    proxy.stop()
    tracing = _tracing("delay_enter=10000000")
    tracing["become"] = limit + tracing["become"]
    proxy = start(_one(engine), ready=False, **tracing)
    proxy.wait_event("engine")
    os.kill(proxy.worker_pid, signal.SIGKILL)
    proxy.wait_event("ready")
    assert _adopted(proxy) == {**_kept(400), "reason": "crash"}
    assert not proxy.all_events("sockets_left") and ask() == 400


def test_a_start_that_fails_leaves_the_sessions_to_the_next_one(
    engine, network, start, manager, open_service, admin
):
    service = open_service(_AT, echo())
    text = lambda listen: _one(engine, head=f'[admin]\nsocket = ""\nlisten = "{listen}"\n')
    proxy = start(text(""))
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    with network.proxy.inside():
        held = socket.create_server(("127.0.0.1", 8353))
    with held:
        proxy = start(text("127.0.0.1:8353"), ready=False)
        assert proxy.wait() == 1
        assert _stored(manager) == [_NAME]
    proxy = start(text("127.0.0.1:8353"))
    assert _adopted(proxy) == _kept(1)
    assert friend.goes_on()


def test_a_broken_file_is_no_reason_to_end_sessions(engine, network, start, open_service):
    service = open_service(_AT, echo())
    proxy = start(_one(engine))
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    proxy = start("[[proxy]]\nnonsense")
    proxy.wait_event("not_reloaded")
    assert friend.goes_on()


def test_where_fewer_descriptors_are_allowed_the_rest_begins_anew(
    engine, network, start, manager, open_service, open_crowd
):
    open_service(_AT, echo())
    proxy = start(_one(engine))
    crowd = open_crowd(800)
    ask = lambda: len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client))
    assert ask() == 800
    proxy.stop()
    proxy = start(_one(engine), become=["prlimit", "--nofile=1800"])
    (left,) = proxy.all_events("sockets_left")
    assert int(left["sockets"]) > 0
    told = _adopted(proxy)
    assert 300 < int(told["sessions"]) < 800 and int(told["not_believed"]) > 0
    assert _serves_all(open_crowd)
    assert _has_forgotten(manager)


@several_users
def test_a_user_without_rights_parks_as_root_does(engine, network, start, open_service, tmp_path):
    tmp_path.chmod(0o777)
    for path in tmp_path.glob("notify*"):
        path.chmod(0o777)
    service = open_service(_AT, echo())
    proxy = start(_one(engine), become=as_its_user())
    friend = Friend(network, service, IPV4.listener())
    proxy.stop()
    proxy = start(_one(engine), become=as_its_user())
    assert _adopted(proxy) == _kept(1)
    assert friend.goes_on()


# Workers that turn against their keeper.


@pytest.fixture(name="start_hostile")
def _start_hostile(closing, network, manager):
    def start(*words):
        path = pathlib.Path(program.path()).parent / "tests" / "udpproxy_hostile"
        started = Process([*manager.start(), str(path), *words], network.proxy)
        started.close = started.kill
        closing(started)
        return started

    return start


def _has_line(process, line):
    return process.wait_until(lambda: line in process.lines, what=line)


def test_what_was_stored_and_ends_workers_is_left_after_the_third(start, start_hostile, manager):
    start(_one("auto")).stop()
    hostile = start_hostile("dies-of-sessions")
    _has_line(hostile, "start crash without sessions")
    starts = [line for line in hostile.lines if line.startswith("start ")]
    assert starts == ["start restart", "start crash", "start crash", starts[-1]]
    assert _has_forgotten(manager)
    hostile.signal(signal.SIGTERM)
    assert hostile.wait() == 0


@pytest.mark.parametrize(
    "deed, is_stored", [("leaves-its-keeper-s", True), ("leaves-nothing", False)]
)
def test_what_a_hostile_worker_leaves_costs_the_sessions_at_most(
    deed, is_stored, start, start_hostile, manager, open_service, open_crowd
):
    open_service(_AT, echo())
    hostile = start_hostile(deed)
    _has_line(hostile, "start first")
    hostile.signal(signal.SIGTERM)
    assert hostile.wait() == 0
    assert _stored(manager) == [_NAME] * is_stored
    start(_one("auto"))
    assert _serves_all(open_crowd)
