"""Sessions outlive the program: its worker is killed, or another program takes its place, and no
client notices.

    client 10.1.0.2 ── 10.1.0.1:5353 proxy 10.0.0.1 ── 10.0.0.254:53 upstream, .253 .252 aliases

A session with two aliases holds three sockets: 5000 of them are 15 000 of 20 000 descriptors.
"""

import os
import random
import signal
import time

import pytest

from harness import program
from harness.kernel import Watch
from harness.load import NEVER
from harness.program import configuration, table
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253), IPV4.service(252)]
# A keeper gives up after five deaths within ten seconds.
_BETWEEN_DEATHS_S = 2.6


def _main_table(**keys):
    return table(
        name="main",
        listen=IPV4.listener(),
        upstream=_SOURCES[0],
        reply_aliases=_SOURCES[1:],
        unlisted_replies="off",
        **{"idle_timeout": "10m", "unassured_timeout": "10m", **keys},
    )


def _group_ports(network):
    """The local ports towards the upstream."""
    with network.proxy.inside(), open("/proc/thread-self/net/udp", encoding="ascii") as file:
        sockets = [line.split()[1] for line in file.readlines()[1:]]
    return {
        port for address, port in (each.split(":") for each in sockets) if address == "0100000A"
    }


class Running:
    """A proxy that is replaced again and again, under load."""

    def __init__(self, engine, network, start_installed, start_load, clients):
        self._network = network
        self.clients = clients
        self._service = start_load("serve", at=_SOURCES, answer_from="random")
        self.proxy = start_installed(configuration(_main_table(), engine=engine))
        self._everybody = {"from_": IPV4.client_host, "to": IPV4.listener(), "patience": 5}
        self._start_load = start_load
        self._adoptions = 0

    def capacity(self):
        """Answers a second."""
        most = self._start_load(
            "ask", clients=64, window=1, rate=0, seconds=2, warm=True, **self._everybody
        )
        return most.result()["answered"] / 2

    def begin(self, rate, seconds):
        self.asking = self._start_load(
            *("ask",),
            clients=self.clients,
            rate=rate,
            seconds=seconds,
            warm=True,
            **self._everybody,
        )
        self.asking.wait_event("asking", timeout=60)
        self.watch = Watch(self._network)
        self.ports = _group_ports(self._network)

    def adopted(self):
        """What the next worker tells."""
        self._adoptions += 1
        self.proxy.wait_until(
            lambda: len(self.proxy.all_events("adopted")) >= self._adoptions,
            what=f"adoption {self._adoptions}",
        )
        return self.proxy.all_events("adopted")[-1]

    def upgrade(self):
        self.proxy.signal(signal.SIGUSR2)
        return self.adopted()

    def kill(self):
        os.kill(self.proxy.worker_pid, signal.SIGKILL)
        return self.adopted()

    def end(self):
        """What the load tool has counted; nobody's port has changed."""
        result = self.asking.result(120)
        assert [result[name] for name in NEVER] == [0] * len(NEVER)
        assert self.ports <= _group_ports(self._network)
        self._service.stop()
        return result


def _p99(values):
    return sorted(values)[(len(values) * 99 - 1) // 100]


def _replace(running, times, rate, figures, what, replace, between):
    """Replaces the worker so often; the result, and the pauses in ms."""
    running.begin(rate, times * (between + 0.3) + 2)
    told = []
    for _ in range(times):
        time.sleep(between * random.uniform(0.95, 1.05))
        told.append(replace())
    result = running.end()
    pauses = [float(each["pause_ms"]) for each in told]
    figures.count(result)
    figures.tell(
        f"{what} at half of the capacity: every session is kept, at its port",
        f"{times} times, {running.clients} sessions: {result['lost']} of {result['sent']} lost at "
        f"{rate:.0f}/s, pause p50 {sorted(pauses)[len(pauses) // 2]:.1f} ms, "
        f"p99 {_p99(pauses):.1f} ms",
    )
    for each in told:
        assert int(each["sessions"]) >= running.clients, each
        assert (each["closed"], each["not_believed"]) == ("0", "0"), each
    return result, pauses


@pytest.fixture(name="start_running")
def _start_running(engine, network, start_installed, start_load):
    return lambda clients: Running(engine, network, start_installed, start_load, clients)


def test_a_few_upgrades_under_load(start_running, figures):
    running = start_running(500)
    result, _ = _replace(running, 5, 4000, figures, "upgrades", running.upgrade, 0.5)
    assert result["lost"] == 0 and running.watch.losses() == {}, f"{result}"
    counters = running.proxy.stop()
    assert counters["sessions_admitted"] == 500 and counters.drops() == {}


def test_a_few_deaths_under_load(start_running, figures):
    running = start_running(500)
    result, _ = _replace(running, 3, 4000, figures, "deaths", running.kill, _BETWEEN_DEATHS_S)
    # What a dead worker held in its hands: at most what arrived in a turn.
    assert result["lost"] <= 3 * 64, f"{result}"
    assert running.watch.losses() == {}


@pytest.mark.long
@pytest.mark.bound(500)
def test_200_upgrades_at_half_of_the_capacity(start_running, figures):
    running = start_running(5000)
    rate = running.capacity() / 2
    result, pauses = _replace(running, 200, rate, figures, "upgrades", running.upgrade, 0.4)
    assert result["lost"] == 0 and running.watch.losses() == {}, f"{result}"
    assert program.is_sanitised() or _p99(pauses) <= 50


@pytest.mark.long
@pytest.mark.bound(900)
def test_200_deaths_at_half_of_the_capacity(start_running, figures):
    running = start_running(5000)
    rate = running.capacity() / 2
    result, pauses = _replace(
        running, 200, rate, figures, "deaths", running.kill, _BETWEEN_DEATHS_S
    )
    assert result["lost"] <= 200 * 64, f"{result}"
    assert program.is_sanitised() or _p99(pauses) <= 150
