"""What docs/operating.md promises an operator, as far as no other test is about it.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, .253 an alias, .252 not listed
                              admin.sock
"""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest

from harness import address
from harness.admin import ctl_path
from harness.program import configuration, table
from harness.reloading import Reloading
from harness.service import echo, from_each
from harness.topology import IPV4

_UPSTREAM, _ALIAS, _UNLISTED = IPV4.service(254), IPV4.service(253), IPV4.service(252)


def _table(name="echo", **keys):
    keys = {"listen": IPV4.listener(), "upstream": _UPSTREAM, "reply_aliases": [_ALIAS], **keys}
    return table(name=name, **keys)


@pytest.fixture
def running(engine, admin, start_proxy):
    """running(tables...) -> a proxy with an admin socket that is told of its rewritten file."""
    return lambda *tables: Reloading(start_proxy, engine, *tables, head=admin.section(listen=True))


def test_the_environment_names_the_socket_and_the_option_goes_before_it(admin, running):
    running(_table())

    def status(*words, named):
        done = subprocess.run(
            [ctl_path(), *words, "status"],
            env={**os.environ, "UDPPROXY_SOCKET": named},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done.returncode

    assert status(named=admin.socket) == 0
    assert status(named="/nowhere") == 1
    assert status("--socket", admin.socket, named="/nowhere") == 0


def test_every_verb_but_metrics_takes_json(admin, running, open_service, open_client):
    open_service([_UPSTREAM], echo())
    running(_table())
    assert open_client().ask(b"question", IPV4.listener()) is not None
    (session,) = admin.json("sessions")["sessions"]
    for words in (
        "status",
        "proxies",
        "sessions",
        "unlisted",
        "drops",
        f"session kill {session['id']}",
        "top --frames 1 --interval 0.1",
        "reload",
        "drain echo",
        "resume echo",
        "doctor",
        "upgrade",
        "log level",
        "log level info",
    ):
        assert isinstance(json.loads(admin.ctl("--json", *words.split()).stdout), dict), words
    records = admin.ctl("--json", "trace", "--client", "10.1.0.2", "--seconds", "1").stdout
    assert all(isinstance(json.loads(line), dict) for line in records.splitlines())
    assert admin.shown("--json", "metrics").startswith("# ")


def test_the_limits_of_a_trace_and_of_a_listing_are_what_the_page_says(admin):
    told = admin.ctl("trace", "--help").stdout
    assert re.search(r"--seconds .*=10\n", told) and re.search(r"--datagrams .*=1000 ", told)
    assert "default 100" in admin.ctl("sessions", "--help").stdout


def test_q_quits_top_and_leaves_the_terminal_as_it_was(admin, running):
    running(_table())
    ours, theirs = pty.openpty()
    try:
        before = subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True).stdout
        top = subprocess.Popen(
            [ctl_path(), "--socket", admin.socket, "top", "--interval", "60"],
            stdin=theirs,
            stdout=subprocess.PIPE,
        )
        assert top.stdout.read(1), "the first frame comes after a second"
        os.write(ours, b"xq")  # what is no key of its own is passed over
        assert top.wait(30) == 0
        assert subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True).stdout == before
    finally:
        os.close(ours)
        os.close(theirs)


def _on_terminal(admin, *words, **environment):
    """What udpproxyctl prints on a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    plain = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    shown = subprocess.Popen(
        [ctl_path(), "--socket", admin.socket, *words],
        env={**plain, "TERM": "xterm", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
    )
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 65536):
            text += piece
    except OSError:  # EIO: nobody has the other end any more
        pass
    os.close(ours)
    shown.wait(30)
    return text.decode().replace("\r\n", "\n")


def _widest(text):
    return max(len(line) for line in re.sub("\x1b[^A-Za-z]*[A-Za-z]", "", text).splitlines())


def test_screens_fit_the_terminal_and_are_whole_elsewhere(
    admin, running, open_service, open_client
):
    """top cut its lines where the terminal ended, and the drops stood last."""
    open_service([_UPSTREAM], echo())
    running(_table(name="a-name-that-takes-more-than-half-of-a-line-of-eighty"))
    assert open_client().ask(b"question", IPV4.listener()) is not None
    for words in ("status", "proxies", "sessions", "top --frames 1 --interval 0.1"):
        text = _on_terminal(admin, *words.split())
        assert _widest(text) <= 80, text
    assert "DROPS" in text and "…" in text
    assert _widest(_on_terminal(admin, "sessions", COLUMNS="50")) <= 50
    whole = admin.shown("sessions")
    assert _widest(whole) > 80 and "…" not in whole and "LISTENER" in whole


def test_colours_are_for_terminals_only(admin, running):
    running(_table())
    assert "\x1b[" in _on_terminal(admin, "doctor")
    assert "\x1b" not in _on_terminal(admin, "doctor", NO_COLOR="1")
    assert "\x1b" not in _on_terminal(admin, "doctor", TERM="dumb")
    assert "\x1b" not in admin.ctl("doctor").stdout


def test_each_change_is_logged_with_who_asked_for_it(admin, running, open_service, open_client):
    open_service([_UPSTREAM], echo())
    reloading = running(_table())
    assert open_client().ask(b"question", IPV4.listener()) is not None
    (session,) = admin.json("sessions")["sessions"]
    changes = {
        "session kill": ["session", "kill", session["id"]],
        "log level": ["log", "level", "info"],
        "reload": ["reload"],
        "drain": ["drain", "echo"],
        "resume": ["resume", "echo"],
        "doctor": ["doctor", "--probe", "00"],
        "trace": ["trace", "--client", "10.1.0.2", "--seconds", "1"],
        "upgrade": ["upgrade"],
    }
    for words in changes.values():
        assert admin.ctl(*words).returncode in (0, 1)
    for verb in changes:
        event = reloading.proxy.wait_event("admin", verb=verb)
        assert event["uid"] == str(os.getuid()) and int(event["pid"]) > 0, event
    looks = ("status", "proxies", "sessions", "unlisted", "drops", "metrics")
    count = len(reloading.proxy.all_events("admin"))
    for verb in looks:
        admin.shown(verb)
    assert len(reloading.proxy.all_events("admin")) == count, "looking is no change"


@pytest.mark.parametrize("path", ["?client=10.1.0.2", "/take", "/end"])
def test_a_trace_needs_the_right_to_change(admin, running, path):
    running(_table())
    assert admin.http(f"/v1/trace{path}", "POST", tcp=True)[0] == 403


def test_a_level_that_was_set_holds_until_a_reload_that_changes_the_log(engine, admin, running):
    reloading = running(_table())
    admin.shown("log", "level", "warn")
    admin.shown("reload")
    assert admin.json("log", "level") == {"level": "warn"}
    assert reloading.proxy.all_events("reloaded") == []
    reloading.write(
        configuration(
            _table(), head=admin.section(listen=True) + '[log]\nformat = "json"\n', engine=engine
        )
    )
    admin.shown("reload")
    assert admin.json("log", "level") == {"level": "info"}
    reloading.proxy.wait_event("reload_change", change="log.format text -> json")


@pytest.mark.slow
def test_a_program_that_does_not_answer_is_told_from_one_that_is_not_there(admin, running):
    reloading = running(_table())
    reloading.proxy.stand_still()
    try:
        told = admin.ctl("status", timeout=60)
    finally:
        reloading.proxy.go_on()
    assert told.returncode == 1
    assert told.stderr == "udpproxyctl: udpproxy did not answer within 10 s\n"


def test_reloads_are_twenty_a_second_at_most_and_one_follows_the_last_signal(running):
    reloading = running(_table())
    proxy = reloading.proxy
    begun = time.monotonic()
    while time.monotonic() < begun + 2:
        for _ in range(50):
            proxy.signal(signal.SIGHUP)
        time.sleep(0.001)
    reloading.write(
        proxy.configuration_file.read_text().replace("[[proxy]]", "[[proxy]]\ndscp = 'clear'")
    )
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reload_change", change='proxy "echo": dscp copy -> clear')
    took = time.monotonic() - begun
    assert len(proxy.all_events("reloaded")) <= 20 * took + 1
    proxy.stop()


def test_sources_and_ports_are_for_new_sessions_and_those_that_are_there_keep_theirs(
    running, network, open_service, open_client
):
    network.proxy.ip("addr replace 10.0.0.9/24 dev to-service")
    try:
        service = open_service([_UPSTREAM], echo())
        reloading = running(_table(ports="30000-30009"))
        old = open_client()
        assert old.ask(b"old 1", IPV4.listener()) is not None
        before = service.sender_of(b"old 1")
        reloading.reload(_table(source="10.0.0.9", ports="40000-40009"))
        assert old.ask(b"old 2", IPV4.listener()) is not None
        assert service.sender_of(b"old 2") == before
        assert open_client().ask(b"new", IPV4.listener()) is not None
        host, port = address.split(service.sender_of(b"new"))
        assert host == "10.0.0.9" and 40000 <= port <= 40009
        assert reloading.proxy.stop().drops() == {}
    finally:
        network.proxy.ip("addr del 10.0.0.9/24 dev to-service")


def test_unlisted_replies_are_watched_for_by_sessions_that_begin_after_the_reload(
    admin, running, open_service, open_client
):
    open_service([_UPSTREAM, _UNLISTED], from_each([_UPSTREAM, _UNLISTED]))
    reloading = running(_table(unlisted_replies="off", port_cooldown="1h"))
    old, new = open_client(), open_client()
    assert old.ask(b"before", IPV4.listener()) is not None
    reloading.reload(_table(unlisted_replies="all", port_cooldown="1h"))
    for number in range(5):
        assert old.ask(b"after %d" % number, IPV4.listener()) is not None
    assert admin.json("unlisted")["unlisted"] == []
    assert new.ask(b"new", IPV4.listener()) is not None
    reloading.proxy.wait_until(
        lambda: admin.json("unlisted")["unlisted"], what="the unlisted source"
    )
    (source,) = admin.json("unlisted")["unlisted"]
    assert address.split(source["source"])[0] == address.split(_UNLISTED)[0]


def test_256_proxies_are_the_most_and_those_that_drain_count(running, open_service, open_client):
    open_service([_UPSTREAM], echo())
    tables = [
        _table(name=f"n{number}", listen=IPV4.listener(6000 + number), reply_aliases=[])
        for number in range(256)
    ]
    reloading = running(*tables)
    client = open_client()
    assert client.ask(b"holds the first", IPV4.listener(6000)) is not None
    fresh = _table(name="fresh", listen=IPV4.listener(7000), reply_aliases=[])
    assert reloading.reload_or_refusal(*tables[1:], fresh) == "not_reloaded"
    (reason,) = [event["reason"] for event in reloading.proxy.all_events("reload_failed")]
    assert "256 proxies are there, with those that drain, and that is the most" in reason
    assert client.ask(b"still there", IPV4.listener(6000)) is not None
    reloading.reload(*tables[:255])
    reloading.proxy.wait_event("proxy_gone", proxy="n255")
    assert reloading.reload_or_refusal(*tables[:255], fresh) == "reloaded"
    assert open_client().ask(b"fresh", IPV4.listener(7000)) is not None
    reloading.proxy.stop()


def test_the_doctor_of_a_running_program_waits_for_no_name(admin, running):
    """The name is the one that the program asks for already; its answer is in the log."""
    reloading = running(_table(upstream="no-such-host.invalid:53", reply_aliases=[]))
    begun = time.monotonic()
    report = json.loads(admin.ctl("--json", "doctor").stdout)
    assert time.monotonic() - begun < 20
    (finding,) = [each for each in report["findings"] if each["finding"] == "name"]
    assert finding["severity"] == "problem" and "it has no address yet" in finding["looked_at"]
    reloading.proxy.stop()
