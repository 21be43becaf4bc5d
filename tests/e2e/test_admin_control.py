"""What udpproxyctl changes in a running proxy through its control thread: reload, drain, resume;
and the doctor, asked from inside.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias, 10.0.0.252:53 not listed
                              admin.sock
"""

import signal
import time

import pytest

from harness.program import configuration, table
from harness.service import echo, from_each
from harness.topology import IPV4

_UPSTREAM, _ALIAS, _UNLISTED = IPV4.service(254), IPV4.service(253), IPV4.service(252)


def proxy_table(name="echo", **keys):
    return table(
        **{
            "name": name,
            "listen": IPV4.listener(),
            "upstream": _UPSTREAM,
            "reply_aliases": [_ALIAS],
            **keys,
        }
    )


@pytest.fixture
def running(engine, admin, start_proxy):
    """running(tables...) -> the proxy; .write(tables...) replaces its file."""

    class Running:
        proxy = None

        def __call__(self, *tables, **options):
            self.proxy = start_proxy(
                configuration(*tables, engine=engine, head=admin.section()), **options
            )
            return self.proxy

        def write(self, *tables, shards=2):
            self.proxy.configuration_file.write_text(
                configuration(*tables, engine=engine, shards=shards, head=admin.section()),
                encoding="utf-8",
            )

    return Running()


def refusal(done):
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr


def test_a_reload_tells_what_it_has_changed_and_what_needs_a_restart(
    admin, running, open_service, open_client
):
    open_service([_UPSTREAM, _ALIAS, _UNLISTED], from_each([_UNLISTED]))
    proxy = running(proxy_table())
    client = open_client()
    client.send(b"1", IPV4.listener())
    assert client.receive(0.3) is None, "the source of the reply is not listed"
    assert admin.shown("reload") == "reloaded; nothing has changed\n"
    running.write(proxy_table(reply_aliases=[_ALIAS, _UNLISTED]), shards=3)
    assert admin.shown("reload") == (
        f'reloaded:\nproxy "echo": reply_aliases {_ALIAS} -> {_ALIAS}, {_UNLISTED}\n'
        "runtime.shards 2 -> 3: needs a restart\n"
    )
    assert [event["change"] for event in proxy.all_events("reload_change")] == [
        f'proxy "echo": reply_aliases {_ALIAS} -> {_ALIAS}, {_UNLISTED}',
        "runtime.shards 2 -> 3: needs a restart",
    ]
    assert client.ask(b"2", IPV4.listener()).payload == f"2 via {_UNLISTED}".encode()
    answer = admin.json("reload")
    assert answer["reloads"] == 3
    assert answer["changes"] == ["runtime.shards 2 -> 3: needs a restart"]
    assert answer["keys"] == [
        {"proxy": "", "key": "runtime.shards", "old": "2", "new": "3", "needs_restart": True}
    ]
    assert len(proxy.all_events("admin", verb="reload")) == 3
    assert proxy.stop()["sessions_admitted"] == 1


def test_a_reload_that_changes_thousands_of_keys_is_told_in_bounds(admin, running):
    def tables(**keys):
        return [
            proxy_table(name=f"n{number}", listen=IPV4.listener(6000 + number), **keys)
            for number in range(102)
        ]

    proxy = running(*tables())
    values = {
        **{key: 7 for key in ("sessions_max", "sessions_per_client_max", "replies_max")},
        **{key: 7 for key in ("new_sessions_per_second", "new_sessions_burst")},
        **{key: "7s" for key in ("idle_timeout", "unassured_timeout", "port_cooldown")},
        "amplification_limit": 7,
        "dscp": "clear",
    }
    running.write(*tables(**values))
    answer = admin.json("reload")
    assert len(answer["keys"]) == 1000 and len(answer["changes"]) == 1001
    assert answer["changes"][-1] == "20 more keys changed"
    assert proxy.wait_event("reloaded")["changes"] == "1001"
    proxy.stop()


def test_a_reload_of_a_wrong_file_names_the_place_and_changes_nothing(
    admin, running, open_service, open_client
):
    open_service([_UPSTREAM], echo())
    proxy = running(proxy_table())
    client = open_client()
    assert client.ask(b"1", IPV4.listener()) is not None
    running.write(proxy_table(idle_timeuot="1m"))
    said = refusal(admin.ctl("reload"))
    assert said.startswith("udpproxyctl: not reloaded, everything stays as it was:\n")
    assert f"{proxy.configuration_file}:" in said and "idle_timeuot" in said
    assert client.ask(b"2", IPV4.listener()) is not None
    assert proxy.stop()["sessions_admitted"] == 1


def test_an_alias_keeps_its_count_whatever_comes_goes_or_moves_before_it(
    admin, running, open_service, open_client
):
    aliases = [IPV4.service(253), IPV4.service(252)]
    open_service([_UPSTREAM, *aliases], from_each(aliases))
    proxy = running(proxy_table(reply_aliases=aliases))
    client = open_client()
    counts = lambda: {
        each["source"]: each["datagrams"]
        for each in admin.json("proxies")["proxies"][0]["replies"]
        if each["kind"] == "alias"
    }

    def ask(times):
        for _ in range(times):
            client.send(b"x", IPV4.listener())
            assert client.receive(1) is not None and client.receive(1) is not None

    ask(3)
    assert counts() == {aliases[0]: 3, aliases[1]: 3}
    added_alias = IPV4.service(251)
    running.write(proxy_table(reply_aliases=[added_alias, aliases[1], aliases[0]]))
    admin.shown("reload")
    ask(2)
    assert counts() == {added_alias: 0, aliases[1]: 5, aliases[0]: 5}
    running.write(proxy_table(reply_aliases=[added_alias]))
    admin.shown("reload")
    running.write(proxy_table(reply_aliases=[aliases[0], aliases[1]]))
    admin.shown("reload")
    assert counts() == {aliases[0]: 5, aliases[1]: 5}
    proxy.stop()


def test_one_proxy_is_drained_and_resumed(admin, running, open_service, open_client):
    open_service([_UPSTREAM], echo())
    other = IPV4.listener(5354)
    proxy = running(proxy_table("one"), proxy_table("two", listen=other))
    known, new_client = open_client(), open_client()
    assert known.ask(b"known", IPV4.listener()) is not None
    assert admin.shown("drain", "one") == "one accepts no new sessions; 1 session continues\n"
    assert {each["name"]: each["draining"] for each in admin.json("proxies")["proxies"]} == {
        "one": True,
        "two": False,
    }
    assert "one (accepts no new sessions)\n" in admin.shown("proxies")
    assert admin.json("status")["ready"], "the other one takes new clients"
    assert new_client.ask(b"refused", IPV4.listener(), timeout=0.3) is None
    assert known.ask(b"still known", IPV4.listener()) is not None
    assert new_client.ask(b"welcome", other) is not None
    assert admin.shown("resume", "one") == "one accepts new sessions\n"
    assert new_client.ask(b"welcome", IPV4.listener()) is not None
    for verb in ("drain", "resume"):
        assert (
            refusal(admin.ctl(verb, "three"))
            == 'udpproxyctl: there is no proxy "three"; there are one and two\n'
        )
    assert proxy.stop().drops() == {"drop_draining": 1}


def test_a_drain_of_all_ends_the_program_and_readiness_goes_at_once(
    admin, running, open_service, open_client
):
    open_service([_UPSTREAM], echo())
    proxy = running(proxy_table(), arguments=["--drain-timeout", "2s"])
    client = open_client()
    assert client.ask(b"known", IPV4.listener()) is not None
    assert admin.shown("drain").startswith(
        "no new sessions are accepted; 1 session continues, the program stops within "
    )
    assert admin.http("/ready")[0] == 503 and admin.http("/live")[0] == 200
    assert "all proxies drain" in refusal(admin.ctl("resume", "echo"))
    assert client.ask(b"still known", IPV4.listener()) is not None
    proxy.stopped()
    assert proxy.all_events("stopping")[0]["signal"] == "SIGQUIT"


def test_a_stop_does_not_wait_for_who_asks(admin, running, open_service):
    """The admin thread may be waiting for the control thread that ends it."""
    open_service([_UPSTREAM], echo())
    proxy = running(proxy_table())
    proxy.stand_still()
    with admin.connected() as opened:
        opened.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        proxy.signal(signal.SIGTERM)
        began = time.monotonic()
        proxy.go_on()
        proxy.stopped()
        assert time.monotonic() - began < 4, "less than the time limit of the question"


def test_the_doctor_looks_from_inside_at_what_is_in_force(admin, running, open_service):
    open_service([_UPSTREAM, _ALIAS, _UNLISTED], from_each([_UNLISTED]))
    running(proxy_table())
    healthy = admin.json("doctor")
    assert healthy["problems"] == 0 and {"route", "listen_port", "descriptors"} <= {
        each["finding"] for each in healthy["findings"]
    }
    assert not [
        each
        for each in healthy["findings"]
        if each["finding"] == "listen_port" and each["severity"] != "ok"
    ], "its own port"
    probed = admin.ctl("doctor", "--probe", "abcd", timeout=15)
    assert probed.returncode == 1 and not probed.stderr
    assert f'"{_UNLISTED}"' in next(
        line for line in probed.stdout.splitlines() if " probe: " in line
    ), "the line to add"
    assert probed.stdout.splitlines()[-1].startswith("1 problem, ")
    assert refusal(admin.ctl("doctor", "--probe", "xyz0")).startswith(
        "udpproxyctl: --probe: digit 1 is not hexadecimal"
    )
    assert admin.ctl("doctor", "--probe-proxy", "echo").returncode == 2
    # It is the file's successor that is wrong, not what runs.
    running.write("[[proxy]]\n")
    assert admin.json("doctor")["problems"] == 0


@pytest.mark.parametrize(
    "path", ["/v1/reload", "/v1/drain", "/v1/resume", "/v1/upgrade", "/v1/doctor"]
)
def test_what_changes_or_sends_wants_the_right_to(engine, admin, start_proxy, path):
    start_proxy(configuration(proxy_table(), engine=engine, head=admin.section(listen=True)))
    assert admin.http(path, "POST", tcp=True)[0] == 403
    assert admin.http(path)[0] == 405
