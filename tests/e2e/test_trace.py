"""Following a client, and the live view.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, 10.0.0.253:53 an alias, 10.0.0.252:53 not listed
"""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from harness.admin import ctl_path
from harness.program import configuration, table
from harness.service import echo, from_each
from harness.topology import BOTH, IPV4


def _sources(family):
    return [family.service(254), family.service(253)]


def _begin(engine, admin, start_proxy, open_service, family=IPV4):
    sources = _sources(family)
    open_service([*sources, family.service(252)], from_each([*sources, family.service(252)]))
    return start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=sources[0],
                reply_aliases=[sources[1]],
                unlisted_replies="all",
            ),
            engine=engine,
            head=admin.section(),
        )
    )


def _trace(proxy, admin, *words):
    """udpproxyctl trace, which has begun when this returns."""
    before = len(proxy.all_events("admin", verb="trace"))
    started = subprocess.Popen(
        [ctl_path(), "--socket", admin.socket, "--json", "trace", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    proxy.wait_until(
        lambda: len(proxy.all_events("admin", verb="trace")) > before, what="the trace's beginning"
    )
    return started


@pytest.mark.parametrize("family", BOTH, ids=str)
def test_a_trace_has_both_legs_of_its_client_alone_and_says_what_was_dropped(
    engine, family, admin, start_proxy, open_service, open_client
):
    proxy = _begin(engine, admin, start_proxy, open_service, family)
    client, other = open_client(family.anywhere), open_client(family.anywhere)
    host = "10.1.0.2" if family is IPV4 else "fd01::2"
    followed = (
        f"{host}:{client.socket.getsockname()[1]}"
        if family is IPV4
        else f"[{host}]:{client.socket.getsockname()[1]}"
    )
    assert client.ask(b"before", family.listener()) is not None
    client.drain()
    tracing = _trace(proxy, admin, "--client", followed, "--datagrams", 4)
    for asked in (other, client):
        asked.send(b"question", family.listener())
    out, err = tracing.communicate(timeout=15)
    assert tracing.returncode == 0 and err == "4 datagrams\n", err
    records = [json.loads(line) for line in out.splitlines()]
    assert {record["client"] for record in records} == {followed} and {
        record["local"] for record in records
    } == {family.listener()}
    (request,) = [record for record in records if record["leg"] == "request"]
    assert (
        bytes.fromhex(request["payload"]) == b"question"
        and request["service"] == family.service(254)
        and request["dropped"] is None
    )
    replies = {record["service"]: record for record in records if record["leg"] == "reply"}
    assert {source: reply["dropped"] for source, reply in replies.items()} == {
        family.service(254): None,
        family.service(253): None,
        family.service(252): "unlisted_source",
    }
    assert all(record["local_endpoint"] == request["local_endpoint"] for record in records)
    assert all(abs(record["at_ns"] / 1e9 - time.time()) < 20 for record in records)


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("tshark", "capinfos")), reason="tshark is not installed"
)
@pytest.mark.parametrize("family", BOTH, ids=str)
def test_a_capture_file_is_read_by_others(
    engine, family, admin, tmp_path, start_proxy, open_service, open_client
):
    proxy = _begin(engine, admin, start_proxy, open_service, family)
    client = open_client(family.anywhere)
    file = tmp_path / "one.pcapng"
    address = "10.1.0.2" if family is IPV4 else "fd01::2"
    tracing = _trace(proxy, admin, "--client", address, "--datagrams", 8, "--write", file)
    client.send(b"short", family.listener(), tos=0x2C)
    client.send(b"x" * 3000, family.listener())
    tracing.communicate(timeout=15)
    assert tracing.returncode == 0
    fields = [
        "frame.interface_name",
        "ip.src" if family is IPV4 else "ipv6.src",
        "udp.srcport",
        "udp.dstport",
        "udp.length",
        "udp.payload",
        "udp.checksum.status",
        "frame.comment",
        "ip.dsfield" if family is IPV4 else "ipv6.tclass",
    ]
    shown = subprocess.run(
        [
            "tshark",
            "-r",
            str(file),
            "-T",
            "fields",
            *[word for field in fields for word in ("-e", field)],
            "-o",
            "udp.check_checksum:TRUE",
            "-d",
            "udp.port==53,data",
            "-d",
            "udp.port==5353,data",
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert shown.returncode == 0, shown.stderr
    lines = [line.split("\t") for line in shown.stdout.splitlines()]
    # Two requests and their four replies on both sides each, two dropped replies on the upstream's
    # alone.
    assert len(lines) == 2 * 6 + 2
    assert [line[0] for line in lines].count("clients") == 6
    first = lines[0]
    assert (
        first[0] == "clients"
        and first[1] == address
        and first[3] == "5353"
        and bytes.fromhex(first[5]) == b"short"
        and int(first[8], 16) == 0x2C
    )
    assert {line[6] for line in lines if line[4] == str(8 + len("short"))} == {
        "1"
    }, "checksums of whole datagrams are good"
    assert [line[7] for line in lines].count("dropped: unlisted_source") == 2
    assert {line[4] for line in lines} >= {"3008"}, "the length is the true one"
    infos = subprocess.run(
        ["capinfos", "-T", "-M", str(file)], capture_output=True, text=True, timeout=30
    )
    assert infos.returncode == 0 and "pcapng" in infos.stdout


def test_a_trace_is_bounded_and_ends_by_itself(admin, start_one, open_service, open_client):
    open_service([IPV4.service(254)], echo())
    start_one(head=admin.section())
    client = open_client()
    assert admin.http("/v1/trace?client=10.1.0.2&seconds=3", method="POST")[0] == 200
    assert admin.http("/v1/trace?client=10.1.0.2", method="POST")[0] == 409, "one at a time"
    for number in range(2000):  # nobody takes them
        client.send(b"%d" % number, IPV4.listener())
        if number % 50 == 0:
            client.drain(0.01)
    client.drain()
    taken = json.loads(admin.http("/v1/trace/take", method="POST")[2])
    assert 0 < len(taken["records"]) <= 512
    assert taken["missed"] > 0
    time.sleep(3)
    client.ask(b"after its time", IPV4.listener())
    assert json.loads(admin.http("/v1/trace/take", method="POST")[2]) == {
        "missed": 0,
        "records": [],
    }
    assert admin.http("/v1/trace?client=10.1.0.2&seconds=1", method="POST")[0] == 200
    for wrong in (
        "client=",
        "client=10.1",
        "client=10.1.0.2&seconds=0",
        "client=10.1.0.2&seconds=601",
        "client=10.1.0.2&seconds=x",
    ):
        assert admin.http(f"/v1/trace?{wrong}", method="POST")[0] == 400


def test_a_trace_that_is_refused_leaves_the_records_of_the_one_that_is_on(
    admin, start_one, open_service, open_client
):
    """The second one threw them away, uncounted, before it was refused."""
    open_service([IPV4.service(254)], echo())
    start_one(head=admin.section())
    assert admin.http("/v1/trace?client=10.1.0.2", method="POST")[0] == 200
    assert open_client().ask(b"question", IPV4.listener()) is not None
    assert admin.http("/v1/trace?client=10.1.0.3", method="POST")[0] == 409
    taken = json.loads(admin.http("/v1/trace/take", method="POST")[2])
    assert (taken["missed"], [record["leg"] for record in taken["records"]]) == (
        0,
        ["request", "reply"],
    )
    assert admin.http("/v1/trace/end", method="POST")[0] == 200
    assert admin.http("/v1/trace?client=10.1.0.3", method="POST")[0] == 200


def test_a_trace_that_is_refused_leaves_an_earlier_capture_as_it_is(
    engine, admin, tmp_path, start_proxy, open_service
):
    """The file was emptied before the program was asked."""
    _begin(engine, admin, start_proxy, open_service)
    file = tmp_path / "x.pcapng"
    file.write_bytes(b"earlier")
    assert admin.http("/v1/trace?client=10.1.0.2", method="POST")[0] == 200
    refused = admin.ctl("trace", "--client", "10.1.0.3", "--write", file)
    assert (refused.returncode, file.read_bytes()) == (1, b"earlier")
    assert "another trace is on" in refused.stderr
    assert admin.http("/v1/trace/end", method="POST")[0] == 200
    # A file that cannot be written ends the trace that was begun for it.
    refused = admin.ctl("trace", "--client", "10.1.0.3", "--write", tmp_path)
    assert refused.returncode == 1 and "Is a directory" in refused.stderr
    assert admin.http("/v1/trace?client=10.1.0.2", method="POST")[0] == 200


def test_an_interrupted_trace_leaves_a_whole_file(
    engine, admin, tmp_path, start_proxy, open_service, open_client
):
    proxy = _begin(engine, admin, start_proxy, open_service)
    file = tmp_path / "x.pcapng"
    tracing = _trace(proxy, admin, "--client", "10.1.0.2", "--write", file)
    open_client().ask(b"question", IPV4.listener())
    time.sleep(1)
    tracing.send_signal(signal.SIGINT)
    assert tracing.wait(20) == 0
    tracing.communicate()
    assert os.path.getsize(file) > 300
    assert (
        admin.http("/v1/trace?client=10.1.0.2&seconds=1", method="POST")[0] == 200
    ), "the trace has ended"
    assert admin.http("/v1/trace/end", method="POST")[0] == 200
    refused = admin.ctl("trace", "--client", "10.1.0.2", "--write", "/nowhere/x.pcapng")
    assert (
        refused.returncode == 1
        and refused.stderr == "udpproxyctl: /nowhere/x.pcapng: open: No such file or directory\n"
    )


def test_top_shows_rates_and_the_busiest_session_first(
    engine, admin, start_one, open_service, open_client
):
    open_service([IPV4.service(254)], echo())
    start_one(head=admin.section())
    quiet, busy = open_client("10.1.0.2:0"), open_client("10.1.0.2:0")
    for client in (quiet, busy):
        assert client.ask(b"x", IPV4.listener()) is not None
    top = subprocess.Popen(
        [ctl_path(), "--socket", admin.socket, "top", "--interval", "0.5", "--frames", "2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    while top.poll() is None:
        assert busy.ask(b"x" * 500, IPV4.listener()) is not None
        time.sleep(0.005)
    assert top.returncode == 0
    frames = top.stdout.read().split("udpproxy ")[1:]
    assert len(frames) == 2
    lines = frames[1].splitlines()
    assert f"{engine}" in lines[0] and "sessions 2 of" in lines[1]
    (heading,) = [index for index, line in enumerate(lines) if line.split()[:2] == ["ID", "CLIENT"]]
    assert busy.endpoint in lines[heading + 1] and quiet.endpoint in lines[heading + 2]
    rates = lines[heading].split().index("DATAGRAMS/S") - 2  # LOCAL (TO UPSTREAM) is three words
    assert int(lines[heading + 1].split()[rates]) > 0 and lines[heading + 2].split()[rates] == "0"
    (sample,) = admin.shown("--json", "top", "--interval", "0.2", "--frames", "1").splitlines()
    assert json.loads(sample)["status"]["sessions"] == 2
