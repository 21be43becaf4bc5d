"""The benchmark's own programs and its runner: what they count is what was sent, and a relay that
mixes clients up is found out.

    clients ── proxy ── service, see runner/network.py
"""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from harness import program

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_BUILD = pathlib.Path(program.path()).resolve().parent
pytestmark = pytest.mark.skipif(
    not (_BUILD / "bench/bench_clients").exists(), reason="built without the benchmark"
)

# Forwards every datagram by one of two sockets in turn, and each reply to the client that wrote
# last.
_MIXING_RELAY = """
import select, socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(("10.1.0.1", 7000))
upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
upstream.connect(("10.0.0.254", 9000))
client = None
print("ready", flush=True)
while True:
    for ready in select.select([listener, upstream], [], [])[0]:
        if ready is listener:
            payload, client = listener.recvfrom(2048)
            upstream.send(payload)
        else:
            listener.sendto(upstream.recv(2048), client)
"""


def tally(path):
    fields = (
        "sent",
        "unsent",
        "received",
        "foreign",
        "damaged",
        "disordered",
        "checked",
        "idle_ns",
    )
    data = path.read_bytes()
    return {
        name: int.from_bytes(data[8 * i : 8 * i + 8], sys.byteorder)
        for i, name in enumerate(fields)
    }


@pytest.fixture
def traffic(network, tmp_path):
    """traffic(client words, service words) -> the tallies of both, when the clients have ended."""

    def run(client_words, service_words):
        with subprocess.Popen(
            network.service.command(
                str(_BUILD / "bench/bench_service"),
                "--listen",
                "10.0.0.254:9000",
                "--seconds",
                "20",
                "--tally",
                str(tmp_path / "service"),
                *service_words,
            ),
            stdout=subprocess.PIPE,
        ) as service:
            try:
                assert service.stdout.readline() == b"ready\n"
                subprocess.run(
                    network.client.command(
                        str(_BUILD / "bench/bench_clients"),
                        "--tally",
                        str(tmp_path / "clients"),
                        "--target",
                        "10.1.0.1:7000",
                        *client_words,
                    ),
                    check=True,
                    timeout=20,
                    stdout=subprocess.DEVNULL,
                )
            finally:
                service.terminate()
        return tally(tmp_path / "clients"), tally(tmp_path / "service")

    return run


@pytest.fixture
def frames(network):
    """The words that make the clients frames, and the way back to them."""
    mac = subprocess.run(
        network.proxy.command("cat", "/sys/class/net/to-client/address"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    network.proxy.ip("route replace 10.64.0.0/10 via 10.1.0.2")
    return ["--interface", "to-proxy", "--mac", mac.strip()]


def test_a_relay_that_mixes_clients_up_is_found_out(
    network, traffic, frames, closing, start_process
):
    relay = start_process([sys.executable, "-c", _MIXING_RELAY], network.proxy)
    relay.wait_until(lambda: "ready" in relay.text(), 10, "the relay")
    clients, service = traffic(
        [*frames, "--clients", "8", "--rate", "4000", "--burst", "8", "--ms", "500", "--replies"],
        ["--echo", "--owned-ports", "--clients", "8"],
    )
    assert service["foreign"] > 100, f"one port for all clients was not noticed: {service}"
    assert (
        clients["foreign"] > 100
    ), f"replies that went to other clients were not noticed: {clients}"
    assert clients["damaged"] == service["damaged"] == 0


# Without offload: a packet socket sees a train that crosses a veth as one frame, where a network
# card would have cut it.
@pytest.mark.parametrize("kind", ["frames", "sockets", "trains"])
def test_everything_that_clients_send_through_the_program_is_counted_and_is_theirs(
    network, traffic, frames, start_proxy, kind
):
    start_proxy(
        program.configuration(
            program.table(listen="10.1.0.1:7000", upstream="10.0.0.254:9000", offload="off"),
            shards=1,
        )
    )
    words = {"frames": frames, "sockets": [], "trains": ["--segments", "8", "--bytes", "600"]}[kind]
    clients, service = traffic(
        [*words, "--clients", "8", "--rate", "8000", "--burst", "16", "--ms", "500", "--replies"],
        ["--echo", "--owned-ports", "--clients", "8"],
    )
    assert clients["sent"] > 2000 and clients["unsent"] == 0
    assert service["received"] == clients["sent"] == clients["received"]
    for counts in (clients, service):
        assert counts["foreign"] == counts["damaged"] == counts["disordered"] == 0, counts
        assert counts["checked"] == counts["received"]


@pytest.mark.slow
def test_a_short_run_of_the_benchmark_measures_what_it_was_asked_for(tmp_path):
    environment = os.environ | {"UDPPROXY_BUILD": str(_BUILD), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "--net",
            "sh",
            "-c",
            'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"',
            "sh",
            sys.executable,
            str(_REPOSITORY / "bench/runner"),
            "--rounds",
            "1",
            "--seconds",
            "1",
            "--out",
            str(tmp_path),
            "--contender",
            "udpproxy",
            "--contender",
            "floor",
            "--workload",
            "paced-64-1000",
            "--workload",
            "latency",
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    measured = {(each["workload"], each["contender"]) for each in results["measurements"]}
    for contender in ("udpproxy io_uring", "udpproxy epoll", "floor"):
        assert ("paced-64-1000", contender) in measured and ("latency", contender) in measured
    for each in results["measurements"]:
        assert each["foreign"] == each["damaged"] == each["shared_ports"] == 0, each
        if each["contender"] != "nothing":
            assert each["forwarded_per_s"] > 0 and each["own_ns"] >= 0, each
    # The kernel counts in ticks of 10 ms: a light load of a second may have none.
    assert any((each["own_ns"] or 0) > 0 for each in results["measurements"])
    assert (tmp_path / "results.svg").read_text().startswith("<svg")


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(_REPOSITORY / "bench/runner"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return importlib.import_module


@pytest.mark.parametrize(
    "answer, cycles",
    [
        ("12345,,cycles,1000,100.00,,", 12345),
        ("777,,cycles:u,1000,100.00,,", 777),
        ("<not supported>,,cycles,0,100.00,,", None),
    ],
)
def test_cycles_are_counted_where_perf_can_and_said_to_be_missing_where_it_cannot(
    runner, monkeypatch, tmp_path, answer, cycles
):
    perf = tmp_path / "perf"
    perf.write_text(f"#!/bin/sh\necho '{answer}' >&2\n")
    perf.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    counter = runner("cycles").Cycles()
    assert counter.supported == (cycles is not None)
    assert counter.result(counter.start([os.getpid()], 0.1)) == cycles
    if cycles is None:
        assert "not supported" in counter.reason


def test_ratios_are_taken_within_a_round_and_the_clients_cost_is_taken_off_the_core(runner):
    results = runner("results")

    def measured(turn, contender, busy, own):
        return {
            "round": turn,
            "workload": "w",
            "contender": contender,
            "busy": busy,
            "sent_per_s": 1e5,
            "forwarded_per_s": 1e5,
            "own_ns": own,
        }

    found = results.Results(
        {},
        [{"name": "a"}, {"name": "b"}],
        [{"name": "w"}],
        [
            measured(0, "nothing", 0.1, None),
            measured(0, "a", 0.3, 100),
            measured(0, "b", 0.5, 50),
            measured(1, "nothing", 0.2, None),
            measured(1, "a", 0.6, 900),
            measured(1, "b", 0.6, 300),
        ],
    )
    assert found.values("w", "a", "core_ns") == pytest.approx([2000, 4000])
    assert found.ratios("own_ns", "w", "a", "b") == [2, 3]
    assert found.ratios("core_ns", "w", "a", "b") == pytest.approx([0.5, 1])


def test_two_builds_are_compared_round_by_round_in_the_figure_of_the_workload(runner):
    results = runner("results")
    own = {"udpproxy io_uring": (100, 300), "against io_uring": (200, 300)}
    measurements = [
        {"round": turn, "workload": "queued-x", "contender": name, "own_ns": figures[turn]}
        for name, figures in own.items()
        for turn in (0, 1)
    ]
    measurements += [
        {"round": 0, "workload": "flood-x", "contender": name, "forwarded_per_s": rate}
        for name, rate in (("udpproxy epoll", 300), ("against epoll", 200))
    ]
    workloads = [{"name": f"{kind}-x", "kind": kind, "title": kind} for kind in ("queued", "flood")]
    table = runner("tables").against_table(results.Results({}, [], workloads, measurements))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert rows[0] == ["", "figure", "io_uring", "epoll"]
    assert rows[2] == ["queued-x", "own CPU time, ns per datagram", "0.750 (0.500 … 1.000)", "–"]
    assert rows[3] == ["flood-x", "datagrams a second", "–", "1.500"]
    assert runner("tables").against_table(results.Results({}, [], workloads, [])) is None


def test_a_document_gets_the_tables_of_a_run_and_loses_what_the_run_did_not_measure(runner):
    written = runner("write_docs").written
    text = (
        "prose\n<!-- table: one -->\nold\n<!-- end -->\n"
        "more\n<!-- table: two -->\nold\n<!-- end -->\n"
    )
    assert written(text, {"one": "NEW"}) == (
        "prose\n<!-- table: one -->\nNEW\n<!-- end -->\nmore\n"
        "<!-- table: two -->\nNot measured in this run.\n<!-- end -->\n"
    )
