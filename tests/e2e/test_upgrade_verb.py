"""`udpproxyctl upgrade`: asks the keeper to put the installed program in place of the running one,
and tells what came of it.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service
                              admin.sock
"""

import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import signal

import pytest

from harness import program
from harness.admin import parse_metrics
from harness.program import configuration, install, table
from harness.service import echo
from harness.topology import IPV4
from harness.users import several_users

_LISTENER, _SERVICE = IPV4.listener(), IPV4.service(254)
_VERSION = program.run_once("--version").stdout.split()[1]


def _text(engine, admin, **keys):
    return configuration(
        table(listen=_LISTENER, upstream=_SERVICE, **keys),
        engine=engine,
        head=admin.section(listen=True),
    )


def _sessions(admin):
    """{client: the local endpoint of its session}"""
    found = admin.json("sessions")["sessions"]
    return {session["client"]: session["local_endpoint"] for session in found}


def _put(text, file, make=pathlib.Path.write_text):
    other = file.with_name("other")
    make(other, *([text] if text is not None else []))
    os.rename(other, file)


@pytest.fixture
def ask_from_a_pipe(admin):
    """ask_from_a_pipe(proxy) begins `udpproxyctl upgrade`, and returns its outcome-to-be and a
    pipe: the program that is asked reads its configuration from there. All others find the file as
    it was."""
    ends = []
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def ask(proxy):
            file = proxy.configuration_file
            text = file.read_text()

            def write_end():
                try:
                    return os.open(file, os.O_WRONLY | os.O_NONBLOCK)
                except OSError as caught:
                    assert caught.errno == errno.ENXIO, "nobody reads"

            _put(None, file, make=os.mkfifo)
            asking = pool.submit(admin.ctl, "upgrade")
            ends.append(os.fdopen(proxy.wait_until(write_end, what="the question"), "w"))
            _put(text, file)
            return asking, ends[-1]

        yield ask
        for end in ends:
            with contextlib.suppress(BrokenPipeError):
                end.close()


def _refused(done):
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr


def test_an_upgrade_keeps_the_sessions_and_tells_from_which_version_to_which(
    engine, admin, start_installed, installed, open_service, open_crowd
):
    open_service([_SERVICE], echo())
    proxy = start_installed(_text(engine, admin))
    worker = admin.json("status")["worker"]
    assert worker["reason"] == "first" and worker["starts"]["first"] == 1
    assert worker["text"] is worker["from_version"] is worker["pause_ms"] is None
    crowd = open_crowd(20)
    crowd.ask_all(_LISTENER, lambda client: b"%d before" % client)
    sessions, executed = _sessions(admin), os.stat(f"/proc/{proxy.pid}/exe").st_ino
    assert len(sessions) == 20

    install(program.path(), installed)
    done = admin.ctl("upgrade")
    assert done.returncode == 0 and not done.stderr, done
    told = f"upgraded: {_VERSION} -> {_VERSION}, 20 sessions adopted, 0 closed, pause "
    assert done.stdout.startswith(told) and done.stdout.endswith(" ms\n")
    assert float(done.stdout.split()[-2]) > 0
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino == os.stat(installed).st_ino != executed
    assert _sessions(admin) == sessions
    crowd.ask_all(_LISTENER, lambda client: b"%d after" % client)
    assert _sessions(admin) == sessions

    install(program.path(), installed)
    outcome = admin.json("upgrade")
    assert outcome["outcome"] == "upgraded" and outcome["reason"] is None
    assert outcome["from_version"] == outcome["version"] == _VERSION
    assert outcome["sessions_adopted"] == 20 and outcome["sessions_closed"] == 0

    status = admin.json("status")
    worker = status["worker"]
    assert status["pid"] == proxy.pid and worker["reason"] == "upgrade"
    assert worker["starts"]["upgrade"] == 2 and worker["sessions_adopted"] == 20
    assert worker["pause_ms"] == outcome["pause_ms"]
    assert f"replaced by an upgrade from {_VERSION}, 20 sessions adopted" in admin.shown("status")
    metrics = parse_metrics(admin.shown("metrics"))
    assert metrics[("udpproxy_worker_starts_total", (("reason", "upgrade"),))] == 2
    assert metrics[("udpproxy_worker_starts_total", (("reason", "first"),))] == 1
    assert metrics[("udpproxy_sessions_adopted", ())] == 20
    seconds = metrics[("udpproxy_last_pause_seconds", ())]
    assert seconds == pytest.approx(worker["pause_ms"] / 1000, rel=1e-3)
    assert len(proxy.all_events("admin", verb="upgrade")) == 2
    proxy.stop()


def test_a_program_that_says_no_changes_nothing_and_its_reason_is_told(
    engine, admin, start_installed, installed, open_service, open_client
):
    open_service([_SERVICE], echo())
    proxy = start_installed(_text(engine, admin))
    client = open_client()
    assert client.ask(b"before", _LISTENER).payload == b"before"
    sessions, worker = _sessions(admin), proxy.worker_pid
    file, text = proxy.configuration_file, proxy.configuration_file.read_text()
    file.write_text(f"what = 1\n{text}")
    said = _refused(admin.ctl("upgrade"))
    begin = f"udpproxyctl: not upgraded, {_VERSION} goes on: "
    assert said.startswith(f"{begin}{installed}: {file}:1:1: ")
    why = said[len(begin) :].rstrip("\n")
    assert _refused(admin.ctl("upgrade")) == said
    status = admin.json("status")["worker"]
    assert (status["upgrades_refused"], status["last_refusal"]) == (2, why)
    done = admin.ctl("--json", "upgrade")
    outcome = json.loads(done.stdout)
    assert done.returncode == 1 and (outcome["outcome"], outcome["reason"]) == ("refused", why)
    told = proxy.all_events("upgrade_refused")
    assert [(event["level"], event["reason"]) for event in told] == [("error", why)] * 3
    metrics = parse_metrics(admin.shown("metrics"))
    assert metrics[("udpproxy_upgrades_refused_total", ())] == 3
    assert f"upgrade refused   {why}" in admin.shown("status")
    install("/bin/false", installed)
    assert _refused(admin.ctl("upgrade")) == f"{begin}{installed}: its exit code is 1\n"
    assert proxy.worker_pid == worker and _sessions(admin) == sessions
    assert client.ask(b"after", _LISTENER).payload == b"after"
    install(program.path(), installed)
    file.write_text(text)
    assert admin.ctl("upgrade").returncode == 0
    assert _sessions(admin) == sessions
    proxy.stop()


@pytest.mark.slow
def test_what_takes_long_is_told_meanwhile(admin, start_installed, installed, ask_from_a_pipe):
    proxy = start_installed(_text("epoll", admin))
    asking, _ = ask_from_a_pipe(proxy)
    said = _refused(asking.result()).splitlines()
    assert said == [
        "the program in place of this one is asked whether it can go on",
        f"udpproxyctl: not upgraded, {_VERSION} goes on: {installed}: it was ended by signal 9: "
        "no answer within 5 s",
    ]
    proxy.stop()


def test_a_program_that_has_much_to_say_is_heard_to_its_last_line(
    admin, start_installed, ask_from_a_pipe
):
    """The keeper read a thousand bytes when the program had ended, and took a summary of the
    configuration for a no: the yes stands behind it."""
    proxy = start_installed(_text("epoll", admin))
    worker = proxy.worker_pid
    asking, pipe = ask_from_a_pipe(proxy)
    children = pathlib.Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    (asked,) = {int(child) for child in children} - {worker}
    state = pathlib.Path(f"/proc/{asked}/stat")
    proxy.signal(signal.SIGSTOP)
    many = [
        table(name=f"p{number}", listen=IPV4.listener(6000 + number), upstream=_SERVICE)
        for number in range(20)
    ]
    pipe.write(configuration(*many, engine="epoll", head=admin.section()))
    pipe.close()
    proxy.wait_until(lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "Z", what="a yes")
    proxy.signal(signal.SIGCONT)
    done = asking.result()
    assert done.returncode == 0, done
    proxy.stop()


@pytest.mark.slow
def test_a_program_that_does_not_come_up_is_undone_and_that_is_told(
    engine, admin, start_installed, installed, open_service, open_client
):
    open_service([_SERVICE], echo())
    proxy = start_installed(_text(engine, admin))
    client = open_client()
    assert client.ask(b"before", _LISTENER).payload == b"before"
    sessions = _sessions(admin)
    install(pathlib.Path(program.path()).parent / "tests" / "udpproxy_hostile", installed)
    said = _refused(admin.ctl("upgrade")).splitlines()[-1]
    assert said.startswith(
        "udpproxyctl: not upgraded: the new program did not come up (signal 9 (Killed)), "
        f"{_VERSION} goes on: 1 session adopted, 0 closed, pause "
    )
    worker = admin.json("status")["worker"]
    assert worker["reason"] == "undone" and worker["starts"]["undone"] == 1
    assert worker["last_end"] == "signal 9 (Killed)"
    assert _sessions(admin) == sessions
    assert client.ask(b"after", _LISTENER).payload == b"after"
    proxy.stop()


def test_a_worker_that_dies_while_the_program_is_asked_does_not_stop_the_upgrade(
    admin, start_installed, ask_from_a_pipe
):
    proxy = start_installed(_text("epoll", admin))
    asking, pipe = ask_from_a_pipe(proxy)
    os.kill(proxy.worker_pid, signal.SIGKILL)
    proxy.wait_until(lambda: len(proxy.all_events("ready")) == 2, what="another worker")
    assert "replaced after a crash (signal 9 (Killed))" in admin.shown("status")
    pipe.write(proxy.configuration_file.read_text())
    pipe.close()
    done = asking.result()
    assert done.returncode == 0 and done.stdout.startswith("upgraded: "), done
    starts = admin.json("status")["worker"]["starts"]
    assert (starts["first"], starts["crash"], starts["upgrade"]) == (1, 1, 1)
    proxy.stop()


def test_without_a_keeper_an_upgrade_is_refused(engine, admin, start_proxy):
    proxy = start_proxy(_text(engine, admin), arguments=["--single-process"])
    said = _refused(admin.ctl("upgrade"))
    assert "there is no keeper (--single-process)" in said and "restart instead" in said
    status, _, body = admin.http("/v1/upgrade", method="POST")
    assert status == 409 and "no keeper" in json.loads(body)["error"]
    worker = admin.json("status")["worker"]
    assert worker["reason"] == "first" and set(worker["starts"].values()) == {0}
    proxy.stop()


@several_users
def test_an_upgrade_is_a_change(engine, admin, start_proxy):
    """Over TCP nobody may ask for one, on the socket those that may change things."""
    proxy = start_proxy(_text(engine, admin))
    assert admin.http("/v1/upgrade", method="POST", tcp=True)[0] == 403
    os.chmod(admin.directory, 0o755)
    os.chmod(admin.socket, 0o666)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    assert admin.ctl("status", prefix=nobody).returncode == 0
    assert "only root, the user" in _refused(admin.ctl("upgrade", prefix=nobody))
    assert not proxy.all_events("admin", verb="upgrade")
    proxy.stop()


def test_while_the_program_drains_and_ends_an_upgrade_is_refused(admin, start_proxy, open_client):
    proxy = start_proxy(_text("epoll", admin))
    open_client().send(b"1", _LISTENER)
    proxy.wait_until(lambda: admin.json("status")["sessions"] == 1, what="a session")
    proxy.signal(signal.SIGQUIT)
    proxy.wait_event("draining")
    assert "all proxies drain" in _refused(admin.ctl("upgrade"))
    proxy.stop()
