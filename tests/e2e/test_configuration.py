"""What docs/configuration.md promises of keys, as far as no other test is about it.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, .252 not listed
"""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from harness.program import configuration, parse_log_line, table
from harness.service import echo, from_each
from harness.topology import IPV4

_UPSTREAM, _UNLISTED = IPV4.service(254), IPV4.service(252)


def _table(**keys):
    return table(listen=IPV4.listener(), upstream=_UPSTREAM, **keys)


def test_the_log_file_is_appended_to(engine, start_proxy, tmp_path):
    file = tmp_path / "udpproxy.log"
    file.write_text("somebody else's line\n", encoding="ascii")
    text = configuration(_table(), engine=engine, head=f'[log]\nfile = "{file}"\n')
    for starts in (1, 2):
        proxy = start_proxy(text, ready=False)
        proxy.wait_until(
            lambda starts=starts: file.read_text().count(" event=ready ") == starts, what="ready"
        )
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
    lines = file.read_text().splitlines()
    assert lines[0] == "somebody else's line"
    events = [parse_log_line(line)["event"] for line in lines[1:]]
    assert events.count("starting") == events.count("stopped") == 2


@pytest.mark.parametrize("pinned", [True, False])
def test_each_shard_stays_on_a_cpu_of_its_own_where_that_is_asked_for(engine, pinned, start_proxy):
    cpus = sorted(os.sched_getaffinity(0))
    shards = len(cpus)
    proxy = start_proxy(
        configuration(
            _table(), engine=engine, shards=shards, head=f"cpu_pinning = {str(pinned).lower()}\n"
        )
    )
    allowed = {}
    for task in pathlib.Path(f"/proc/{proxy.worker_pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith("shard "):
            allowed[name] = os.sched_getaffinity(int(task.name))
    assert len(allowed) == shards
    if pinned:
        assert sorted(allowed.values(), key=min) == [{cpu} for cpu in cpus]
    else:
        assert all(each == set(cpus) for each in allowed.values())


def test_sockets_towards_the_upstream_get_a_quarter_of_the_receive_buffer(
    engine, network, start_proxy, open_service, open_client
):
    open_service([_UPSTREAM], echo())
    start_proxy(configuration(_table(receive_buffer="1MiB"), engine=engine))
    assert open_client().ask(b"question", IPV4.listener()) is not None
    shown = subprocess.run(
        network.proxy.command("ss", "-uamnH"), capture_output=True, text=True, check=True
    ).stdout
    # Each socket is two lines; `rb` is twice what was asked for (socket(7)).
    granted = {"listener": set(), "member": set()}
    for local, peer, limit in re.findall(
        r"\s(\S+:\d+)\s+(\S+:\S+)\s*\n\s*skmem:\(r\d+,rb(\d+)", shown
    ):
        if local == IPV4.listener():
            granted["listener"].add(int(limit) // 2)
        elif peer == _UPSTREAM:
            granted["member"].add(int(limit) // 2)
    assert granted == {"listener": {1 << 20}, "member": {1 << 18}}, shown


@pytest.mark.parametrize("key, sysctl", [("receive", "rmem_max"), ("send", "wmem_max")])
def test_a_buffer_that_the_kernel_does_not_grant_is_told_with_the_sysctl_to_set(
    engine, key, sysctl, start_proxy
):
    proxy = start_proxy(
        configuration(_table(**{f"{key}_buffer": "1GiB"}), engine=engine),
        prefix=("setpriv", "--bounding-set", "-net_admin", "--"),
    )
    event = proxy.wait_event("advice", subject="buffers", where=f'proxy "echo": {key}_buffer')
    assert event["level"] == "warn" and f"net.core.{sysctl} is " in event["found"]
    assert event["fix"] == f"sysctl -w net.core.{sysctl}={1 << 30}"


def test_an_unlisted_source_has_a_log_line_once_a_minute(
    engine, start_proxy, open_service, open_client
):
    open_service([_UPSTREAM, _UNLISTED], from_each([_UPSTREAM, _UNLISTED]))
    proxy = start_proxy(configuration(_table(unlisted_replies="all"), engine=engine))
    client = open_client()
    for number in range(50):
        assert client.ask(b"%d" % number, IPV4.listener()) is not None
    proxy.wait_event("unlisted_reply")
    for number in range(50):
        assert client.ask(b"%d" % number, IPV4.listener()) is not None
    counters = proxy.stop()
    assert counters["drop_unlisted_source"] > 50
    (event,) = proxy.all_events("unlisted_reply")
    assert _UNLISTED.split(":")[0] in event["source"]


def test_a_service_that_answers_from_changing_ports_is_to_be_listed_with_any_port(
    engine, admin, start_proxy, open_service, open_client
):
    host = _UNLISTED.split(":")[0]
    ports = [f"{host}:{port}" for port in (1001, 1002)]
    open_service([_UPSTREAM, *ports], from_each([_UPSTREAM, *ports]))
    proxy = start_proxy(
        configuration(_table(unlisted_replies="all"), engine=engine, head=admin.section())
    )
    assert open_client().ask(b"question", IPV4.listener()) is not None
    proxy.wait_until(lambda: len(proxy.all_events("unlisted_reply")) == 2, what="two lines")
    line = f'reply_aliases = ["{host}:*"]'
    assert proxy.all_events("unlisted_reply")[-1]["add"] == line
    assert [each["add"] for each in admin.json("unlisted")["unlisted"]] == [line, line]
