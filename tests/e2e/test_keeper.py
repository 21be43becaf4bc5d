"""The keeper: what happens to the program when its worker dies, is told nothing more, or turns
against it; and how another program takes its place.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service
"""

import os
import pathlib
import shutil
import signal
import time

import pytest

from harness import program
from harness.process import Process, faulty_children
from harness.program import configuration, install, table
from harness.sd_notify import Manager
from harness.service import echo
from harness.topology import IPV4

_LISTENER, _SERVICE = IPV4.listener(), IPV4.service(254)


def _text(engine="auto", **options):
    return configuration(table(listen=_LISTENER, upstream=_SERVICE), engine=engine, **options)


def _wait(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not {what} after {timeout} s"
        time.sleep(0.01)
    return found


def _wait_for_ready(proxy, count):
    """The count-th worker serves."""
    proxy.wait_until(lambda: len(proxy.all_events("ready")) >= count, what=f"ready {count}")


def _has_gone(pid):
    """It has ended; a zombie does not count as one that is there."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _descriptors(proxy):
    return len(os.listdir(f"/proc/{proxy.pid}/fd"))


def _ledger_in_force(proxy):
    """Which file it is. Its number is the lowest; that of a worker's own may be another file."""
    descriptors = sorted(
        pathlib.Path(f"/proc/{proxy.pid}/fd").iterdir(), key=lambda fd: int(fd.name)
    )
    links = {fd: os.readlink(fd) for fd in descriptors}
    return os.stat(next(fd for fd in links if "udpproxy-ledger" in links[fd])).st_ino


def _sessions(admin):
    """{client: the local endpoint of its session}"""
    found = admin.json("sessions")["sessions"]
    return {session["client"]: session["local_endpoint"] for session in found}


def _answers(client):
    for _ in range(50):  # what the dead worker had in hand is lost
        if (got := client.ask(b"question", _LISTENER)) is not None:
            return got.payload == b"question"
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_is_followed_by_another(
    number, engine, start_proxy, open_service, open_client
):
    open_service([_SERVICE], echo())
    client = open_client()
    proxy = start_proxy(_text(engine))
    assert _answers(client)
    first, descriptors = proxy.worker_pid, _descriptors(proxy)
    os.kill(first, number)
    _wait_for_ready(proxy, 2)
    assert _answers(client)
    assert proxy.worker_pid != first
    _wait(lambda: _children(proxy.pid) == [str(proxy.worker_pid)], "waited for the dead worker")
    _wait(lambda: _descriptors(proxy) <= descriptors, "closed what the dead worker had")
    proxy.stop()


def test_keeper_and_worker_are_told_apart(start_proxy):
    proxy = start_proxy(_text())
    of = lambda pid, file: pathlib.Path(f"/proc/{pid}/{file}").read_text().strip()
    assert (of(proxy.pid, "comm"), of(proxy.worker_pid, "comm")) == ("udpproxy", "udpproxy worker")
    scores = [int(of(pid, "oom_score_adj")) for pid in (proxy.pid, proxy.worker_pid)]
    assert scores[1] == min(scores[0] + 100, 1000), "short memory takes the worker first"
    if not program.is_sanitised():
        assert os.listdir(f"/proc/{proxy.pid}/task") == [str(proxy.pid)], "a keeper has no threads"


def test_a_single_process_has_no_worker_and_does_not_outlive_its_death(start_proxy):
    proxy = start_proxy(_text(), arguments=["--single-process"])
    assert _children(proxy.pid) == []
    proxy.signal(signal.SIGKILL)
    assert proxy.wait() == -signal.SIGKILL


def test_five_deaths_within_ten_seconds_end_the_program(start_proxy):
    proxy = start_proxy(_text())
    for death in range(5):
        _wait_for_ready(proxy, death + 1)
        os.kill(proxy.worker_pid, signal.SIGKILL)
    assert proxy.wait() == 1
    how = "the last one died of signal 9 (Killed)"
    assert f"udpproxy: 5 workers have ended within 10 s, {how}; the program ends" in proxy.lines
    assert len(proxy.all_events("ready")) == 5


def test_after_three_short_lives_a_worker_starts_without_sessions(start_proxy):
    proxy = start_proxy(_text())
    for death in range(3):
        _wait_for_ready(proxy, death + 1)
        os.kill(proxy.worker_pid, signal.SIGKILL)
    _wait_for_ready(proxy, 4)
    short = [line for line in proxy.lines if "; the next one starts without sessions" in line]
    # On a slow machine a life of a worker may take longer than a second.
    lives = [
        float(end["time"].split(":")[-1].rstrip("Z")) - float(begin["time"].split(":")[-1][:-1])
        for begin, end in zip(proxy.all_events("starting"), proxy.all_events("starting")[1:])
    ]
    assert short or max(lives) > 0.9, lives
    _wait(lambda: len(_children(proxy.pid)) == 1, "waited for the dead workers")
    proxy.stop()


@pytest.mark.slow
def test_a_worker_that_aborts_at_every_start_with_sessions_is_followed_by_one_without(
    engine, start_installed, installed, open_service, open_crowd, admin
):
    """getpeername(2) is asked of the sockets of sessions alone."""
    open_service([_SERVICE], echo())
    crowd = open_crowd(20)
    proxy = start_installed(_text(engine, head=admin.section()))
    crowd.ask_all(_LISTENER, lambda client: b"%d before" % client)
    descriptors = _descriptors(proxy)
    time.sleep(1.1)  # so the first death is none of a short life
    with faulty_children(proxy, "getpeername:signal=SIGABRT"):
        os.kill(proxy.worker_pid, signal.SIGKILL)
        _wait_for_ready(proxy, 2)
    # Those that aborted had come to no log line.
    assert [end["by"] for end in proxy.all_events("worker_ended")] == ["signal 6 (Aborted)"]
    starts = admin.json("status")["worker"]["starts"]
    assert (starts["first"], starts["crash"]) == (1, 4)
    assert (
        "udpproxy: 3 workers have ended within a second of their start, the last one died of "
        "signal 6 (Aborted); the next one starts without sessions"
    ) in proxy.lines
    (left,) = proxy.all_events("sessions_left")
    assert left["reason"] == "workers died soon after they had adopted them"
    assert _sessions(admin) == {} and not proxy.all_events("adopted")
    # All is as after a first start: others come, and are adopted.
    crowd.ask_all(_LISTENER, lambda client: b"%d after" % client)
    sessions = _sessions(admin)
    assert len(sessions) == 20
    _wait(lambda: _descriptors(proxy) <= descriptors, "closed what the sessions before had")
    install(program.path(), installed)
    assert "20 sessions adopted, 0 closed" in admin.shown("upgrade")
    assert _sessions(admin) == sessions
    crowd.ask_all(_LISTENER, lambda client: b"%d again" % client)
    proxy.stop()


@pytest.mark.slow
def test_a_worker_that_fails_late_in_its_start_leaves_the_sessions_to_the_next(
    engine, start_proxy, open_service, open_crowd, admin
):
    """It has adopted everything, and then its admin server cannot start. To end in order would be
    to wait for its shards, in vain: five seconds."""
    open_service([_SERVICE], echo())
    crowd = open_crowd(20)
    proxy = start_proxy(_text(engine, head=admin.section()))
    crowd.ask_all(_LISTENER, lambda client: b"%d before" % client)
    sessions = _sessions(admin)
    time.sleep(1.1)  # so the first death is none of a short life
    sets_of_shards = {"epoll": 2, "io_uring": 0}[engine]
    with faulty_children(
        proxy,
        f"epoll_create1:error=EMFILE:when={sets_of_shards + 1}+",
        "exit_group:delay_enter=10000000",  # no other one comes before the faults are over
    ):
        os.kill(proxy.worker_pid, signal.SIGKILL)
        failed = proxy.wait_event("failed")
    assert failed["reason"] == "admin: libmicrohttpd could not start"
    _wait_for_ready(proxy, 2)
    (adopted,) = proxy.all_events("adopted")
    assert len(proxy.all_events("failed")) == 1 and float(adopted["pause_ms"]) < 5000
    assert _sessions(admin) == sessions
    crowd.ask_all(_LISTENER, lambda client: b"%d after" % client)
    assert _sessions(admin) == sessions
    proxy.stop()


@pytest.mark.long
@pytest.mark.bound(300)
def test_fifty_deaths_leave_nothing_behind(engine, start_proxy, open_service, open_client):
    """No descriptor, no zombie, no memory; at a pace that the keeper bears."""
    open_service([_SERVICE], echo())
    client = open_client()
    proxy = start_proxy(_text(engine))
    kept = _descriptors(proxy)
    for death in range(50):
        began = time.monotonic()
        os.kill(proxy.worker_pid, signal.SIGKILL)
        _wait_for_ready(proxy, death + 2)
        _wait(lambda: _descriptors(proxy) <= kept, "without leftovers")
        assert len(_children(proxy.pid)) == 1
        time.sleep(max(0.0, began + 2.6 - time.monotonic()))
    assert _answers(client)
    proxy.stop()


def test_a_terminal_s_interrupt_stops_it_in_order(engine, start_proxy):
    """It reaches keeper and worker; the worker took it for the second one, or took none at all."""
    proxy = start_proxy(_text(engine), prefix=["setsid"])
    os.killpg(proxy.pid, signal.SIGINT)
    assert proxy.wait() == 0
    assert proxy.wait_event("stopping")["signal"] == "SIGINT"
    assert len(proxy.all_events("stopped")) == 1


def test_a_worker_obeys_its_keeper_alone(engine, start_proxy, open_service, open_client):
    open_service([_SERVICE], echo())
    client = open_client()
    proxy = start_proxy(_text(engine))
    worker = proxy.worker_pid
    for number in ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2"):
        os.kill(worker, signal.Signals[f"SIG{number}"])
    proxy.signal(signal.SIGUSR1)
    proxy.wait_event("log_reopened")
    assert _answers(client) and proxy.worker_pid == worker
    assert not proxy.all_events("reloading") and not proxy.all_events("draining")
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    proxy.stop()
    assert len(proxy.all_events("log_reopened")) == 1


def test_no_signal_to_stop_is_lost_behind_others_that_the_worker_does_not_take(start_proxy):
    """The channel to the worker is full: SIGTERM waits for room."""
    proxy = start_proxy(_text())
    proxy.stand_still()
    # Each is passed on as a message. A few hundred fill the channel.
    ignored = pathlib.Path(f"/proc/{proxy.pid}/status")
    for _ in range(600):
        proxy.signal(signal.SIGUSR1)
        _wait(
            lambda: int(_field(ignored, "ShdPnd"), 16) & (1 << signal.SIGUSR1 - 1) == 0,
            "taken by the keeper",
        )
    proxy.signal(signal.SIGTERM)
    time.sleep(0.3)
    proxy.go_on()
    assert proxy.wait() == 0
    assert proxy.all_events("stopped")


def _field(file, name):
    (line,) = [line for line in file.read_text().splitlines() if line.startswith(f"{name}:")]
    return line.split()[1]


def test_a_worker_ends_with_its_keeper(engine, start_proxy):
    proxy = start_proxy(_text(engine))
    worker = proxy.worker_pid
    proxy.signal(signal.SIGKILL)
    assert proxy.wait() == -signal.SIGKILL
    _wait(lambda: _has_gone(worker), "gone", timeout=10)
    start_proxy(_text(engine))  # nobody holds its address


def test_a_worker_that_stands_still_is_replaced_at_half_of_the_watchdog_s_limit(
    engine, start_proxy, open_service, open_client, tmp_path, closing
):
    open_service([_SERVICE], echo())
    client = open_client()
    manager = closing(Manager(tmp_path / "notify"))
    proxy = start_proxy(_text(engine), prefix=manager.environment(WATCHDOG_USEC=4_000_000))
    manager.wait(WATCHDOG="1")
    proxy.stand_still()
    _wait_for_ready(proxy, 2)
    assert _answers(client)
    manager.wait(READY="1", count=2)
    fed = len(manager.all(WATCHDOG="1"))
    assert manager.wait(WATCHDOG="1", count=fed + 1)["pid"] == proxy.pid


@pytest.mark.slow
def test_a_pause_of_both_is_no_hang(start_proxy, tmp_path, closing):
    """As of a container or a virtual machine: the keeper took its own pause for the worker's."""
    manager = closing(Manager(tmp_path / "notify"))
    proxy = start_proxy(_text(), prefix=manager.environment(WATCHDOG_USEC=8_000_000))
    worker = proxy.worker_pid
    manager.wait(WATCHDOG="1")
    proxy.stand_still()
    proxy.signal(signal.SIGSTOP)
    time.sleep(6)
    proxy.signal(signal.SIGCONT)
    time.sleep(0.2)  # the keeper has the word first
    proxy.go_on()
    fed = len(manager.all(WATCHDOG="1"))
    manager.wait(WATCHDOG="1", count=fed + 2)
    assert proxy.worker_pid == worker
    proxy.stop()


def test_a_keeper_outlives_the_reader_of_its_standard_error(engine, start_proxy, admin, tmp_path):
    """What it says of short lives ended it, by SIGPIPE."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    proxy = start_proxy(
        _text(engine, head=admin.section()),
        prefix=["sh", "-c", f'exec "$@" >{pipe} 2>&1', "sh"],
        ready=False,
    )
    _wait(lambda: admin.ctl("status").returncode == 0, "ready")
    proxy.wait_until_idle()  # the keeper has been told so too
    os.close(reader)
    for _ in range(3):
        worker = proxy.worker_pid
        os.kill(worker, signal.SIGKILL)
        _wait(lambda: _has_gone(worker), "gone")
        _wait(lambda: admin.ctl("status").returncode == 0 or not proxy.running(), "ready again")
    proxy.signal(signal.SIGTERM)
    assert proxy.wait() == 0


# Workers that turn against their keeper.


@pytest.fixture
def start_hostile(closing, network):
    """start_hostile(*words): a keeper whose worker does that."""

    def start(*words, prefix=(), path=None):
        path = path or pathlib.Path(program.path()).parent / "tests" / "udpproxy_hostile"
        started = Process([*prefix, str(path), *map(str, words)], network.proxy)
        started.close = started.kill
        closing(started)
        started.wait_until(lambda: "start first" in started.lines, what="a worker")
        return started

    return start


def _ends_in_order(hostile):
    hostile.signal(signal.SIGTERM)
    assert hostile.wait() == 0, hostile.text()


def test_of_the_manager_s_protocol_only_the_state_is_passed_on(start_hostile, tmp_path, closing):
    """For MAINPID= a manager would take another process for the main one, FDSTORE= leaves it
    descriptors for the next start."""
    manager = closing(Manager(tmp_path / "notify"))
    words = (
        "MAINPID=1\nREADY=1\nFDSTORE=1\nNOTIFYACCESS=all\nWATCHDOG=trigger\nWATCHDOG_USEC=1\n"
        "EXTEND_TIMEOUT_USEC=1\nREADY=10\n\nSTATUS=well\nBARRIER=1\nSTOPPING"
    )
    hostile = start_hostile("says", words, prefix=manager.environment())
    heard = manager.wait(STATUS="well")
    assert {key for key in heard if key.isupper()} == {"READY", "STATUS"}
    assert heard["READY"] == "1" and heard["pid"] == hostile.pid
    _ends_in_order(hostile)
    assert len(manager.messages) == 1


def test_a_flood_of_messages_keeps_the_keeper_from_nothing(start_hostile, tmp_path, closing):
    manager = closing(Manager(tmp_path / "notify"))
    hostile = start_hostile("floods", prefix=manager.environment())
    manager.wait(STATUS=None, count=3)
    used = int(_field(pathlib.Path(f"/proc/{hostile.pid}/status"), "VmRSS"))
    time.sleep(1)
    assert int(_field(pathlib.Path(f"/proc/{hostile.pid}/status"), "VmRSS")) <= used + 1024
    _ends_in_order(hostile)


@pytest.mark.parametrize(
    "deed", [("closes",), ("replaces", "/dev/zero"), ("replaces", "/dev/null")]
)
def test_a_worker_without_its_keeper_s_descriptors_is_replaced(deed, start_hostile):
    hostile = start_hostile(*deed)
    hostile.wait_until(lambda: {"done", "start crash"} & set(hostile.lines), what="the deed")
    hostile.signal(signal.SIGHUP)  # the keeper waits for what the descriptors were before
    hostile.wait_until(lambda: "start crash" in hostile.lines, what="the next worker")
    _ends_in_order(hostile)


def test_a_worker_that_does_not_come_up_ends_the_program_with_its_exit_code(start_hostile):
    assert start_hostile("fails").wait() == 3
    hostile = start_hostile("never-ready")
    (child,) = _children(hostile.pid)
    os.kill(int(child), signal.SIGABRT)
    assert hostile.wait() == 128 + signal.SIGABRT
    assert "udpproxy: the worker died of signal 6 (Aborted)" in hostile.lines


# Another program.


def test_sigusr2_puts_the_installed_program_in_its_place(
    engine, start_installed, installed, open_service, open_client, tmp_path, closing
):
    open_service([_SERVICE], echo())
    client = open_client()
    manager = closing(Manager(tmp_path / "notify"))
    proxy = start_installed(_text(engine), prefix=manager.environment())
    assert _answers(client)
    descriptors = _descriptors(proxy)
    executed = os.stat(f"/proc/{proxy.pid}/exe").st_ino
    for upgrade in range(3):
        install(program.path(), installed)
        proxy.signal(signal.SIGUSR2)
        _wait_for_ready(proxy, upgrade + 2)
        now = os.stat(f"/proc/{proxy.pid}/exe").st_ino
        assert now == os.stat(installed).st_ino != executed
        executed = now
        assert pathlib.Path(f"/proc/{proxy.pid}/comm").read_text() == "udpproxy\n"
        assert _answers(client)
        _wait(lambda: _descriptors(proxy) <= descriptors, "without leftovers")
    assert {message["pid"] for message in manager.all()} == {proxy.pid}
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    os.kill(proxy.worker_pid, signal.SIGKILL)
    _wait_for_ready(proxy, 5)
    environment = pathlib.Path(f"/proc/{proxy.worker_pid}/environ").read_bytes()
    assert b"UDPPROXY_KEEPER" in environment, "as it was executed; in its memory it is taken out"
    proxy.stop()


def _is_refused(proxy, reason):
    worker = proxy.worker_pid
    before = len(proxy.all_events("upgrade_refused"))
    proxy.signal(signal.SIGUSR2)
    proxy.wait_until(lambda: len(proxy.all_events("upgrade_refused")) > before, what="a no")
    assert reason in proxy.all_events("upgrade_refused")[-1]["reason"]
    assert proxy.worker_pid == worker and len(proxy.all_events("ready")) == 1


def test_a_program_that_cannot_go_on_is_refused_and_why_is_told(start_installed, installed):
    proxy = start_installed(_text())
    for source, reason in {
        "/bin/false": f"{installed}: its exit code is 1",
        "/bin/true": f"{installed}: it is no udpproxy",
        __file__: f"{installed}: exec: ",
    }.items():
        install(source, installed)
        _is_refused(proxy, reason)
    installed.unlink()
    _is_refused(proxy, f"{installed}: open: No such file or directory")
    installed.mkdir()
    _is_refused(proxy, f"{installed} is no file")
    installed.rmdir()
    install(program.path(), installed)
    for mode in (0o775, 0o757):
        installed.chmod(mode)
        _is_refused(proxy, f"{installed} can be written by other users than root")
    installed.chmod(0o755)
    text = proxy.configuration_file.read_text()
    proxy.configuration_file.write_text(f"what = 1\n{text}")
    _is_refused(proxy, f"{installed}: {proxy.configuration_file}:1:1: ")
    proxy.configuration_file.write_text(text)
    proxy.signal(signal.SIGUSR2)
    _wait_for_ready(proxy, 2)
    proxy.stop()


def test_the_program_is_asked_what_it_reads(installed, tmp_path):
    file = tmp_path / "udpproxy.toml"
    file.write_text(_text())
    asked = lambda form: program.run_once("--check-upgrade", form, "--config", file)
    done = asked(1)
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("udpproxy ")
    done = asked(4_000_000_000)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("does not read sessions of form 4000000000")


@pytest.mark.slow
def test_a_program_that_fails_after_it_has_adopted_is_undone_without_a_loss(
    engine, start_installed, installed, open_service, open_crowd, admin
):
    """Its ledger was in force by then, which another version need not be able to read."""
    open_service([_SERVICE], echo())
    crowd = open_crowd(20)
    # The program that is asked cannot look for leaks under strace.
    proxy = start_installed(
        _text(engine, head=admin.section()), prefix=["env", "ASAN_OPTIONS=detect_leaks=0"]
    )
    crowd.ask_all(_LISTENER, lambda client: b"%d before" % client)
    sessions, executed = _sessions(admin), os.stat(f"/proc/{proxy.pid}/exe").st_ino
    ledger = _ledger_in_force(proxy)
    install(program.path(), installed)
    sets_of_shards = {"epoll": 2, "io_uring": 0}[engine]
    with faulty_children(
        proxy,
        f"epoll_create1:error=EMFILE:when={sets_of_shards + 1}+",
        "exit_group:delay_enter=2000000",  # the old one does not start before the faults are over
    ):
        proxy.signal(signal.SIGUSR2)
        proxy.wait_event("failed", reason="admin: libmicrohttpd could not start")
        assert _ledger_in_force(proxy) == ledger
    _wait_for_ready(proxy, 2)
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino == executed
    assert proxy.all_events("adopted")[-1]["reason"] == "undone"
    assert _sessions(admin) == sessions
    crowd.ask_all(_LISTENER, lambda client: b"%d after" % client)
    assert _sessions(admin) == sessions
    proxy.stop()


@pytest.mark.slow
def test_a_program_whose_worker_does_not_come_up_is_undone(
    engine, start_installed, installed, open_service, open_client
):
    open_service([_SERVICE], echo())
    client = open_client()
    proxy = start_installed(_text(engine))
    executed = os.stat(f"/proc/{proxy.pid}/exe").st_ino
    install(pathlib.Path(program.path()).parent / "tests" / "udpproxy_hostile", installed)
    proxy.signal(signal.SIGUSR2)
    proxy.wait_until(lambda: "start upgrade" in proxy.lines, what="the new program's worker")
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino == os.stat(installed).st_ino
    _wait_for_ready(proxy, 2)
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino == executed
    told = "udpproxy: the worker of the new program died of signal 9 (Killed); back to the old one"
    assert told in proxy.lines
    assert _answers(client)
    install(program.path(), installed)  # and the next one may be good
    proxy.signal(signal.SIGUSR2)
    _wait_for_ready(proxy, 3)
    proxy.stop()


def test_a_worker_cannot_choose_what_is_executed(start_hostile, tmp_path, closing):
    """It put another file over the kept descriptor, and the keeper executed that."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "udpproxy_hostile"
    install(pathlib.Path(program.path()).parent / "tests" / "udpproxy_hostile", path)
    other = tmp_path / "other"
    shutil.copy("/bin/echo", other)
    hostile = start_hostile("replaces-program", other, path=path)
    hostile.signal(signal.SIGUSR2)
    hostile.wait_until(lambda: "replaced" in hostile.lines, what="the deed")
    hostile.wait_until(lambda: "start undone" in hostile.lines, what="the next worker")
    hostile.wait_until(
        lambda: "refused the descriptor of the program was tampered with" in hostile.lines
    )
    assert "replaces-program" not in hostile.text()
    _ends_in_order(hostile)
