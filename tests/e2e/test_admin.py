"""What an operator sees of a running proxy and changes in it: udpproxyctl, the admin socket, the
admin address, metrics.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias, 10.0.0.252:53 not listed
                          127.0.0.1:9090, admin.sock
"""

import json
import os
import pathlib
import signal
import stat
import subprocess
import time

import pytest

from harness.admin import parse_metrics
from harness.process import slow_thread
from harness.program import configuration, table
from harness.service import Reply, echo, from_each, silence
from harness.topology import IPV4
from harness.users import several_users

_SOURCES = [IPV4.service(254), IPV4.service(253)]
_UNLISTED = IPV4.service(252)


def one_proxy(engine, admin, listen=False, head="", **keys):
    keys = {
        "listen": IPV4.listener(),
        "upstream": _SOURCES[0],
        "reply_aliases": [_SOURCES[1]],
        "unlisted_replies": "all",
        **keys,
    }
    return configuration(table(**keys), engine=engine, head=admin.section(listen=listen) + head)


@pytest.fixture
def talk(engine, admin, start_proxy, open_service, open_crowd):
    """A proxy through which 10 clients have talked: each asked twice and got three replies, one of
    them from an unlisted source."""

    def begin(**keys):
        open_service([*_SOURCES, _UNLISTED], from_each([*_SOURCES, _UNLISTED]))
        proxy = start_proxy(one_proxy(engine, admin, **keys))
        crowd = open_crowd(10)
        for turn in range(2):
            assert (
                len(
                    crowd.ask_all(
                        IPV4.listener(),
                        lambda client, turn=turn: b"%d in %d" % (client, turn),
                        replies=2,
                    )
                )
                == 20
            )
        proxy.wait_until(
            lambda: admin.json("status")["counters"]["arrivals_reply"] == 60, what="60 replies"
        )
        return proxy, crowd

    return begin


def test_status_says_what_runs_and_what_it_has_done(engine, admin, talk):
    proxy, _ = talk()
    status = admin.json("status")
    assert (
        status["engine"] == engine
        and status["shards"] == 2
        and status["pid"] == proxy.pid
        and status["ready"]
    )
    assert status["sessions"] == 10 and status["sessions_max"] > 1000
    assert (
        status["descriptors"] == 30
        and status["counters"]["departures_request"] == 20
        and status["drops"] == 20
    )
    shown = admin.shown("status")
    assert (
        f"pid {proxy.pid}" in shown
        and f"engine            {engine}, 2 shards" in shown
        and "10 of " in shown
    )


def test_proxies_tell_where_replies_came_from(admin, talk):
    talk()
    (proxy,) = admin.json("proxies")["proxies"]
    assert (
        proxy["name"] == "echo" and proxy["listen"] == [IPV4.listener()] and proxy["sessions"] == 10
    )
    assert [
        (source["kind"], source["source"], source["datagrams"]) for source in proxy["replies"]
    ] == [("upstream", _SOURCES[0], 20), ("alias", _SOURCES[1], 20), ("unlisted", "", 20)]
    assert proxy["counters"]["sessions_assured"] == 10 and proxy["drops"] == {"unlisted_source": 20}
    shown = admin.shown("proxies")
    assert (
        f"20 from upstream {_SOURCES[0]}" in shown
        and f"20 from alias {_SOURCES[1]}" in shown
        and "20 unlisted_source" in shown
    )


def test_drops_are_shown_with_their_meaning(admin, talk):
    talk()
    (drop,) = admin.json("drops")["drops"]
    assert (drop["proxy"], drop["reason"], drop["datagrams"]) == (
        "echo",
        "unlisted_source",
        20,
    ) and "neither" in drop["meaning"]
    assert "unlisted_source" in admin.shown("drops")


def test_unlisted_sources_are_named_with_the_line_to_add(admin, talk):
    talk()
    (source,) = admin.json("unlisted")["unlisted"]
    assert (source["proxy"], source["source"], source["datagrams"]) == ("echo", _UNLISTED, 20)
    assert source["add"] == f'reply_aliases = ["{_SOURCES[1]}", "{_UNLISTED}"]'
    assert source["add"] in admin.shown("unlisted")


def test_sessions_are_listed_filtered_sorted_and_limited(admin, talk, open_client):
    _, crowd = talk()
    alone = open_client("10.1.0.2:0")
    for number in range(20):
        assert alone.ask(b"%d" % number, IPV4.listener()) is not None
    answer = admin.json("sessions")
    assert answer["found"] == 11 and len({session["id"] for session in answer["sessions"]}) == 11
    ports = {opened.getsockname()[1] for opened in [*crowd.sockets, alone.socket]}
    assert {int(session["client"].rsplit(":", 1)[1]) for session in answer["sessions"]} == ports
    assert all(
        session["assured"] and session["local"] == IPV4.listener() for session in answer["sessions"]
    )

    most = admin.json("sessions", "--sort", "bytes", "--limit", "1")
    assert most["found"] == 11 and [session["client"] for session in most["sessions"]] == [
        alone.endpoint
    ]
    oldest = admin.json("sessions", "--sort", "age")["sessions"]
    assert [s["age_seconds"] for s in oldest] == sorted(
        (s["age_seconds"] for s in oldest), reverse=True
    )
    assert oldest[-1]["client"] == alone.endpoint
    assert admin.json("sessions", "--sort", "idle")["sessions"][-1]["client"] == alone.endpoint
    assert admin.json("sessions", "--client", alone.endpoint)["found"] == 1
    assert admin.json("sessions", "--client", "10.1.0.0/24")["found"] == 11
    assert admin.json("sessions", "--client", "10.2.0.0/16")["found"] == 0
    assert admin.json("sessions", "--proxy", "echo")["found"] == 11
    assert (
        admin.ctl("sessions", "--proxy", "none").stderr
        == 'udpproxyctl: there is no proxy "none"; there is echo\n'
    )
    assert (
        admin.ctl("sessions", "--client", "10.1").stderr
        == 'udpproxyctl: client: "10.1" is no address, address:port or prefix\n'
    )
    assert alone.endpoint in admin.shown("sessions")


def test_a_killed_session_is_gone_and_its_client_begins_a_new_one(
    engine, admin, start_proxy, open_service, open_client
):
    service = open_service(_SOURCES, echo())
    proxy = start_proxy(one_proxy(engine, admin))
    clients = [open_client("10.1.0.2:0") for _ in range(8)]
    for client in clients:
        assert client.ask(b"before", IPV4.listener()) is not None
    ended, *others = clients
    (session,) = admin.json("sessions", "--client", ended.endpoint)["sessions"]
    assert session["local_endpoint"] in {request.sender for request in service.requests}
    assert (
        admin.shown("session", "kill", session["id"])
        == f"ended session {session['id']} of {ended.endpoint} on echo\n"
    )
    assert admin.json("sessions")["found"] == 7
    again = admin.ctl("session", "kill", session["id"])
    assert (
        again.returncode == 1
        and again.stderr == f"udpproxyctl: there is no session {session['id']}\n"
    )
    assert ended.ask(b"after", IPV4.listener()) is not None
    for client in others:
        assert client.ask(b"other", IPV4.listener()) is not None
    (new,) = admin.json("sessions", "--client", ended.endpoint)["sessions"]
    assert (
        new["id"] != session["id"] and new["local_endpoint"] != session["local_endpoint"]
    )  # the killed one's group cools down
    event = proxy.wait_event("admin", verb="session kill")
    assert event["client"] == ended.endpoint and event["uid"] == "0"
    counters = proxy.stop()
    assert counters["sessions_killed"] == 1 and counters["sessions_admitted"] == 9


def test_the_log_level_can_be_changed(engine, admin, start_proxy, open_service, open_client):
    open_service([*_SOURCES, _UNLISTED], lambda request: [Reply(b"x", _UNLISTED)])
    proxy = start_proxy(one_proxy(engine, admin))
    assert admin.shown("log", "level") == "info\n"
    assert (
        admin.shown("log", "level", "error") == "error\n"
        and admin.shown("log", "level") == "error\n"
    )
    assert proxy.wait_event("admin", verb="log level")["level"] == "error"
    open_client().ask(b"x", IPV4.listener(), timeout=0.3)
    assert proxy.all_events("unlisted_reply") == []
    assert admin.ctl("log", "level", "loud").returncode == 2
    admin.shown("log", "level", "info")
    assert proxy.wait_event("admin", verb="log level", level="info")


def test_metrics_are_what_promtool_accepts_and_say_what_happened(engine, admin, talk, open_client):
    proxy, crowd = talk(listen=True, unassured_timeout="1s")
    open_client().ask(b"soon over", IPV4.listener())
    proxy.wait_until(
        lambda: admin.json("status")["counters"]["sessions_expired"] == 1,
        what="one expired session",
    )
    status, headers, body = admin.http("/metrics", tcp=True)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = body.decode()
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30
    )
    assert lint.returncode == 0 and not lint.stdout + lint.stderr, lint.stdout + lint.stderr
    values = parse_metrics(text)

    def value(name, **labels):
        return values[(name, tuple(sorted(labels.items())))]

    assert value("udpproxy_departures_total", proxy="echo", direction="request") == 21
    assert value("udpproxy_drops_total", proxy="echo", reason="unlisted_source") == 21
    assert value("udpproxy_replies_total", proxy="echo", source="alias", alias=_SOURCES[1]) == 21
    assert value("udpproxy_sessions", proxy="echo") == 10
    assert value("udpproxy_session_duration_seconds_bucket", proxy="echo", le="15") == 1
    assert value("udpproxy_session_duration_seconds_count", proxy="echo") == 1
    assert 1 <= value("udpproxy_session_duration_seconds_sum", proxy="echo") < 15
    assert sum(value("udpproxy_shard_sessions", shard=shard) for shard in "01") == 10
    assert sum(value("udpproxy_shard_groups_cooling", shard=shard) for shard in "01") == 1
    assert any(
        name == "udpproxy_build_info" and ("engine", engine) in labels for name, labels in values
    )
    clients = [opened.getsockname()[1] for opened in crowd.sockets]
    assert "10.1.0.2" not in text and not any(
        f":{port}" in text for port in clients
    ), "a client's address is no label"
    assert admin.shown("metrics").splitlines()[0] == text.splitlines()[0]


def test_what_the_kernel_drops_before_it_is_read_is_told(
    engine, admin, start_proxy, open_service, open_client
):
    """The program is stopped (SIGSTOP) while more datagrams come than the listener's receive buffer
    holds."""
    open_service(_SOURCES, silence())
    proxy = start_proxy(one_proxy(engine, admin, receive_buffer="4KiB"))
    client = open_client()
    client.send(b"session", IPV4.listener())
    proxy.stand_still()
    for _ in range(200):
        client.send(b"x" * 500, IPV4.listener())
    proxy.go_on()
    proxy.wait_until(lambda: admin.json("status")["queue_drops"] > 100, what="queue drops")
    status = admin.json("status")
    assert status["queue_drops"] + status["counters"]["arrivals_request"] == 201
    (queue,) = admin.json("drops")["queue_drops"]
    assert queue["listen"] == IPV4.listener() and queue["datagrams"] == status["queue_drops"]


def test_probes_answer(engine, admin, start_proxy):
    start_proxy(one_proxy(engine, admin, listen=True))
    for tcp in (False, True):
        assert admin.http("/live", tcp=tcp)[::2] == (200, b"live\n")
        assert admin.http("/ready", tcp=tcp)[::2] == (200, b"ready\n")
        assert admin.http("/ready", method="HEAD", tcp=tcp)[::2] == (200, b"")
    assert admin.http("/nothing")[0] == 404 and admin.http("/live", method="POST")[0] == 405


def test_over_tcp_nothing_can_be_changed(engine, admin, start_proxy):
    start_proxy(one_proxy(engine, admin, listen=True))
    status, _, body = admin.http("/v1/log?level=debug", method="POST", tcp=True)
    assert status == 403 and "Unix socket" in json.loads(body)["error"]
    assert admin.http("/v1/sessions/kill?id=2", method="POST", tcp=True)[0] == 403
    assert admin.json("log", "level") == {"level": "info"}


def test_a_page_of_another_site_is_not_answered_under_its_own_name(engine, admin, start_proxy):
    start_proxy(one_proxy(engine, admin, listen=True))
    for host in ("127.0.0.1:9090", "localhost:9090", "[::1]:9090"):
        assert admin.http("/v1/status", tcp=True, headers={"Host": host})[0] == 200
    for host in ("evil.example", "evil.example:9090", "127.0.0.1.evil.example", ""):
        assert admin.http("/v1/status", tcp=True, headers={"Host": host})[0] in (400, 421)


def test_the_socket_is_for_the_owner_and_the_group_and_goes_with_the_program(
    engine, admin, start_proxy
):
    proxy = start_proxy(one_proxy(engine, admin))
    found = os.stat(admin.socket)
    assert stat.S_IMODE(found.st_mode) == 0o660 and found.st_gid == os.getegid()
    proxy.stop()
    assert not os.path.exists(admin.socket)


def _as_nobody(*groups):
    return [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        *(["--groups", ",".join(groups)] if groups else ["--clear-groups"]),
    ]


@several_users
def test_only_root_the_own_user_and_the_group_may_change_things(engine, admin, start_proxy):
    text = configuration(
        table(listen=IPV4.listener(), upstream=_SOURCES[0]),
        engine=engine,
        head=admin.section(group="games"),
    )
    start_proxy(text)
    os.chmod(admin.directory, 0o755)
    assert os.stat(admin.socket).st_gid == 60
    other = admin.ctl("status", prefix=_as_nobody())
    assert other.returncode == 1 and "permission denied; use it as root" in other.stderr
    member = _as_nobody("60")
    assert admin.ctl("status", prefix=member).returncode == 0
    assert admin.ctl("log", "level", "warn", prefix=member).returncode == 0
    os.chmod(admin.socket, 0o666)  # now others reach it: to look only
    assert admin.ctl("status", prefix=_as_nobody()).returncode == 0
    refused = admin.ctl("log", "level", "error", prefix=_as_nobody())
    assert refused.returncode == 1 and "only root, the user" in refused.stderr
    assert admin.json("log", "level") == {"level": "warn"}
    assert admin.ctl("log", "level", "info", prefix=member).returncode == 0


def test_a_dead_predecessors_socket_is_replaced_a_living_ones_is_refused(
    engine, admin, start_proxy
):
    first = start_proxy(one_proxy(engine, admin))
    second = start_proxy(one_proxy(engine, admin), ready=False)
    assert second.wait() == 1
    assert (
        second.wait_event("failed")["reason"]
        == f'admin.socket "{admin.socket}": another program listens on it'
    )
    assert admin.json("status")["pid"] == first.pid
    first.signal(signal.SIGKILL)
    first.wait()
    assert os.path.exists(admin.socket)
    dead = admin.ctl("status")
    assert dead.returncode == 1 and "nobody listens on it; udpproxy is not running" in dead.stderr
    third = start_proxy(one_proxy(engine, admin))
    assert admin.json("status")["pid"] == third.pid


def test_of_two_starts_at_the_same_time_neither_takes_the_others_socket_for_a_dead_one(
    engine, admin, start_proxy
):
    """The first is held between bind and listen; its file looks like one of a program that died."""
    first = start_proxy(
        one_proxy(engine, admin),
        ready=False,
        prefix=("strace", "-D", "-f", "-q", "-o", "/dev/null", "-e", "trace=listen")
        + ("-e", "inject=listen:delay_enter=900000"),
    )
    first.wait_until(lambda: os.path.exists(admin.socket), what="the file")
    second = start_proxy(one_proxy(engine, admin), ready=False)
    assert second.wait() == 1
    assert "another program listens on it" in second.text()
    first.wait_event("ready")
    assert admin.json("status")["pid"] == first.pid


def test_a_removed_socket_comes_back(engine, admin, start_proxy):
    proxy = start_proxy(one_proxy(engine, admin))
    for _ in range(2):
        os.unlink(admin.socket)
        proxy.wait_until(lambda: admin.ctl("status").returncode == 0, what="the socket")
        found = os.stat(admin.socket)
        assert stat.S_IMODE(found.st_mode) == 0o660 and found.st_gid == os.getegid()
    assert len(proxy.all_events("admin_restored")) == 2
    os.unlink(admin.socket)
    pathlib.Path(admin.socket).write_text("somebody else's file")
    proxy.stop()
    assert os.path.exists(admin.socket)


def test_a_missing_socket_is_named(admin):
    missing = admin.ctl("status")
    assert missing.returncode == 1 and missing.stderr.startswith(
        f"udpproxyctl: {admin.socket}: there is no such socket"
    )


def test_without_the_default_directory_it_serves_and_says_what_is_off(
    engine, start_proxy, open_service, open_client
):
    open_service(_SOURCES, echo())
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=_SOURCES[0]), engine=engine)
    )
    warning = proxy.wait_event("admin_off")
    assert (
        warning["level"] == "warn"
        and warning["reason"]
        == 'admin.socket "/run/udpproxy/admin.sock": bind: No such file or directory'
    )
    assert open_client().ask(b"served", IPV4.listener()) is not None


@pytest.mark.parametrize(
    "keys, reason",
    [
        (
            {"socket": "/nowhere/at/all"},
            'admin.socket "/nowhere/at/all": bind: No such file or directory',
        ),
        (
            {"socket": "/etc/passwd"},
            'admin.socket "/etc/passwd": is no socket; take it away, or name another path',
        ),
        ({"group": "no-such-group"}, 'admin.group "no-such-group": there is no such group'),
        (
            {"listen": "127.0.0.1:9090"},
            "admin.listen 127.0.0.1:9090: bind: Address already in use "
            "(held by {name} (process {pid}))",
        ),
    ],
)
def test_what_is_asked_for_and_cannot_be_opened_ends_the_start(
    keys, reason, network, admin, start_proxy
):
    reason = reason.format(
        name=pathlib.Path("/proc/self/comm").read_text().strip(), pid=os.getpid()
    )
    with network.proxy.inside():
        import socket

        taken = socket.create_server(("127.0.0.1", 9090))
    with taken:
        head = admin.section(**keys)
        proxy = start_proxy(
            configuration(table(listen=IPV4.listener(), upstream=_SOURCES[0]), head=head),
            ready=False,
        )
        assert proxy.wait() == 1
        assert proxy.wait_event("failed")["reason"] == reason


def _half_open(admin, count, tcp):
    """Connections that begin a request and never end it. Those that were ended meanwhile stay in
    the list."""
    opened = []
    for number in range(count):
        with admin.connected(tcp) as connection:
            kept = connection.dup()
        kept.setblocking(False)
        try:
            kept.send(
                (
                    b"GET /v1/status HTTP/1.1\r\nX: ",
                    b"",
                    b"POST /v1/log HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx",
                )[number % 3]
            )
        except OSError:
            pass  # it has made way already
        opened.append(kept)
    return opened


_NONSENSE = (
    b"\0" * 1000,
    b"GET " + b"/x" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50000,
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n" * 100000,
    b"POST /v1/log?level=debug HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/log HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
    + b"x" * 100000,
    b"GET /v1/sessions?limit=-1&client=%00%ff&" + b"a=b&" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
)


@pytest.mark.slow
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_thousand_half_open_connections_and_nonsense_keep_nobody_out(
    engine, tcp, admin, start_proxy, open_service, open_crowd
):
    """Whoever has done nothing complete for longest makes way; the data path does not notice."""
    open_service(_SOURCES, echo())
    proxy = start_proxy(one_proxy(engine, admin, listen=True))
    crowd = open_crowd(50)
    opened = []
    asked = 0
    try:
        for turn in range(5):
            opened += _half_open(admin, 200, tcp)
            for nonsense in _NONSENSE:
                with admin.connected(tcp) as connection:
                    try:
                        connection.sendall(nonsense)
                    except OSError:
                        pass  # refused before its end
            assert admin.json("status", timeout=8)["ready"], "before any connection is given up"
            assert admin.http("/ready", tcp=True)[0] == 200
            assert (
                len(
                    crowd.ask_all(
                        IPV4.listener(), lambda client, turn=turn: b"%d in %d" % (client, turn)
                    )
                )
                == 50
            )
            asked += 50
        assert (
            len(os.listdir(f"/proc/{proxy.pid}/fd")) < 400
        )  # 50 sessions of 3, and 32 connections
        assert admin.json("log", "level") == {"level": "info"}
    finally:
        for connection in opened:
            connection.close()
    counters = proxy.stop()
    assert (
        counters["departures_request"] == counters["departures_reply"] == asked
        and counters.drops() == {}
    )


@pytest.mark.slow
def test_a_slow_speaker_is_ended_though_it_never_falls_silent(engine, admin, start_proxy):
    start_proxy(one_proxy(engine, admin))
    with admin.connected(timeout=1) as connection:
        begun = time.monotonic()
        connection.send(b"GET /live HTTP/1.1\r\nX: ")
        while time.monotonic() - begun < 30:
            time.sleep(1)
            try:
                connection.send(b"x")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert 10 < time.monotonic() - begun < 25


def test_a_shard_that_does_not_turn_is_reported_not_waited_for(engine, admin, start_proxy):
    """A shard's thread is held (SIGSTOP would stop them all): /live and listings say so long before
    it goes on, status answers all the same."""
    proxy = start_proxy(one_proxy(engine, admin))
    with slow_thread(proxy, "shard 1", 60):
        admin.ctl("sessions")  # wakes it: it now stands in a system call
        begun = time.monotonic()
        status, _, body = admin.http("/live")
        assert status == 503 and json.loads(body)["error"] == "shard 1 did not answer within 1 s"
        assert admin.ctl("sessions").stderr == "udpproxyctl: shard 1 did not answer within 1 s\n"
        assert admin.json("status")["ready"]
        assert time.monotonic() - begun < 20
    proxy.wait_until(lambda: admin.http("/live")[0] == 200, what="life again")
