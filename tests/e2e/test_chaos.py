"""Everything at once, at random: reloads (some of them wrong) every 20 to 300 ms, links, addresses
and services that go and come, every kind of admin client, signals, SIGSTOP and SIGKILL, while
clients ask. Nothing is promised meanwhile but an answer of the admin socket, and that no datagram
reaches a wrong client. Afterwards the program works, and its books balance.

    client                        proxy                        service
    10.1.0.2  ───────────  10.1.0.1 │ 10.0.0.1  ───────────  10.0.0.254 .253 .252
    fd01::2                fd01::1  │ fd00::1                fd00::254 ::253 ::252

Services stand still for a moment, so that their replies come when sessions have ended.

The same seed draws the same deeds; what the machine makes of them differs. $UDPPROXY_CHAOS is a
seed. `./dev test --long` runs the long one with the sanitisers.
"""

import collections
import contextlib
import json
import os
import random
import secrets
import signal
import threading
import time

import pytest

from harness.client import open_socket
from harness.load import NEVER
from harness.namespaces import Network
from harness.program import configuration, is_sanitised, table
from harness.topology import BOTH, IPV4, IPV6

_SHORT_S = 15
_LONG_S = 600
_ADMIN_S = (
    20  # within which the admin socket answers, also while the proxy was stopped for a second
)
_EXTRA_PORTS = range(5401, 5407)
_MORE_PORTS = range(5407, 5410)
# Longer than any reply is under way: a service stands still for two seconds, and a neighbour that
# does not answer keeps some datagrams for three.
_COOLDOWNS = ["6s", "8s"]
_CLOSED_PORT = 54  # at the service
_TAKEN = IPV4.listener(5412)  # by another program
_ADDRESSES = [
    ("10.1.0.1/24", "to-client", ""),
    ("10.0.0.1/24", "to-service", ""),
    ("fd01::1/64", "to-client", " nodad"),
    ("fd00::1/64", "to-service", " nodad"),
]
_WRONG = [
    "",
    "[[proxy]]\nname = 7\n",
    "\xff\xfe",
    '[[proxy]]\nname = "a"\nlisten = ":1"\nupstream = "[::1"\n',
    table(name="main", listen=IPV4.listener(), upstream=IPV4.service(254), upstraem=1),
    table(name="twice", listen=[":5410", ":5410"], upstream=IPV4.service(254)),
    table(name="gone", listen="192.0.2.1:5411", upstream=IPV4.service(254), ports="1-1"),
]
_PAGES = [
    "/",
    "/live",
    "/ready",
    "/metrics",
    "/v1/status",
    "/v1/sessions",
    "/v1/proxies",
    "/nothing",
]


@pytest.fixture
def network():
    """One for each test: a failure leaves its links as they are."""
    with Network.of_three() as made:
        # An address that goes takes no other one of its prefix along.
        made.proxy.sysctl("net.ipv4.conf.all.promote_secondaries", 1)
        yield made


class Visitor(threading.Thread):
    """Pays visits one after the other: reloads do not wait until they are over."""

    def __init__(self, visit):
        super().__init__(daemon=True)
        self._visit = visit
        self._leaving = threading.Event()
        self._failure = None
        self.start()

    def run(self):
        try:
            while not self._leaving.wait(0.05):
                self._visit()
        except BaseException as failure:  # told by check(): a thread has nobody to tell
            self._failure = failure

    def check(self):
        if self._failure:
            raise self._failure

    def close(self):
        self._leaving.set()
        self.join(2 * _ADMIN_S)
        self.check()
        assert not self.is_alive(), "a visit does not end"


class Chaos:
    """One proxy and what is done to it."""

    def __init__(self, seed, engine, network, admin, start_proxy):
        self.draw = random.Random(seed)
        self.visitor_draw = random.Random(seed + 1)
        self.present = threading.Lock()  # held by visitors, and while there is no program
        self.engine, self.network, self.admin = engine, network, admin
        self.start_proxy = start_proxy
        self.repairs = {}  # what is broken now: how it is mended
        self.connections = []
        self.counts = collections.Counter()
        self.ended = []  # programs that were killed
        self.proxy = start_proxy(self.calm_configuration())

    # Configurations

    def _file(self, tables, head=""):
        return configuration(
            *tables, engine=self.engine, shards=2, head=head + self.admin.section()
        )

    def calm_configuration(self):
        return self._file(
            [
                table(
                    name=f"main-{family}",
                    listen=family.listener(),
                    upstream=family.service(254),
                    reply_aliases=[family.host(253), family.host(252)],
                    idle_timeout="5s",
                    unassured_timeout="1s",
                    port_cooldown=_COOLDOWNS[0],
                )
                for family in BOTH
            ]
        )

    def _proxy_table(self, name, family, listen):
        draw = self.draw
        keys = {
            "name": name,
            "listen": listen,
            "unassured_timeout": draw.choice(["100ms", "1s"]),
            "upstream": family.service(
                draw.choice([254, 254, 254, 253]), draw.choice([53] * 7 + [_CLOSED_PORT])
            ),
            "reply_aliases": draw.sample(
                [family.host(254), family.host(253), family.host(252)], draw.randint(0, 3)
            ),
        }
        host = keys["upstream"].rpartition(":")[0].strip("[]")
        if host in keys["reply_aliases"]:
            keys["reply_aliases"].remove(host)
        choices = {
            "idle_timeout": ["2s", "5s", "1m"],
            "port_cooldown": _COOLDOWNS,
            "on_change": ["keep", "close"],
            "alias_filter": ["open", "auto"],
            "unlisted_replies": ["auto", "all", "off"],
            "ports": ["20000-20099", "20050-29999"],
            "source": [family.host(1)] * 3 + [family.host(7)],
            "sessions_max": [3, 50, 100],
            "sessions_per_client_max": [0, 5, 400],
            "new_sessions_per_second": [0, 5, 1000],
            "amplification_limit": [0, 1],
            "replies_max": [0, 1],
            "end_after_replies": [0, 0, 1, 3],
            "end_after_requests": [0, 0, 1, 3],
            "datagram_max": [0, 1000],
            "path_mtu": ["want", "probe"],
            "offload": ["auto", "off"],
        }
        for key in draw.sample(sorted(choices), draw.randint(0, 5)):
            keys[key] = draw.choice(choices[key])
        return table(**keys)

    def _random_configuration(self):
        draw = self.draw
        tables = []
        for family in BOTH:
            if draw.random() < 0.95:
                tables.append(self._proxy_table(f"main-{family}", family, self._listeners(family)))
        for number, port in enumerate(draw.sample(_EXTRA_PORTS, draw.randint(0, 3))):
            family = draw.choice(BOTH)
            listen = draw.choice([family.listener(port), f":{port}"])
            tables.append(self._proxy_table(f"extra-{number}", family, listen))
        head = ""
        if draw.random() < 0.5:
            head = (
                "[limits]\n"
                f"sessions_max = {draw.choice([20, 500, 5000])}\n"
                f"pool_min = {draw.choice([0, 0, 8])}\n"
                f"new_sessions_per_second = {draw.choice([0, 20, 2000])}\n"
            )
        return self._file(tables, head)

    def _listeners(self, family):
        more = [family.listener(port) for port in _MORE_PORTS]
        return [family.listener(), *self.draw.sample(more, self.draw.choice([0, 0, 1, 2]))]

    def _refused_configuration(self):
        """The machine refuses it, after some listeners have been opened."""
        more = self.draw.sample(_EXTRA_PORTS, 3)
        listen = [*(IPV4.listener(port) for port in more), _TAKEN]
        return self._file([table(name="refused", listen=listen, upstream=IPV4.service(254))])

    # Deeds

    def reload(self):
        kind = self.draw.random()
        if kind < 0.15:
            text = self.draw.choice(_WRONG)
        elif kind < 0.25:
            text = self._refused_configuration()
        else:
            text = self._random_configuration()
        self.proxy.configuration_file.write_text(text, encoding="latin-1")
        if self.draw.random() < 0.8:
            self.proxy.signal(signal.SIGHUP)
        else:
            self.admin.ctl("reload", timeout=_ADMIN_S)

    def _toggle(self, name, break_, mend):
        """One thing is broken at a time, or nothing would ever be answered."""
        if self.repairs:
            _, mended = self.repairs.popitem()
            mended()
        else:
            break_()
            self.repairs[name] = mend

    def link(self):
        link = self.draw.choice(["to-client", "to-service"])
        set_to = lambda state: self.network.proxy.ip(f"link set {link} {state}")
        self._toggle(link, lambda: set_to("down"), lambda: set_to("up"))

    def address(self):
        self._toggle_address(*self.draw.choice(_ADDRESSES))

    def another_address(self):
        """A second one, which may become the source."""
        self._toggle_address("10.0.0.7/24", "to-service", "", begins_with="add")

    def _toggle_address(self, host, link, end, begins_with="del"):
        def change(deed):
            with contextlib.suppress(RuntimeError):  # IPv6 addresses go with their link
                self.network.proxy.ip(
                    f"addr {deed} {host} dev {link}{end if deed == 'add' else ''}"
                )

        deeds = ["del", "add"] if begins_with == "del" else ["add", "del"]
        self._toggle(host, lambda: change(deeds[0]), lambda: change(deeds[1]))

    def service(self):
        self._toggle("service", self.stop_service, self.start_service)

    def late_replies(self):
        """What the service is asked meanwhile it answers after the end of many sessions."""
        if "service" in self.repairs:
            return
        self.signal_services(signal.SIGSTOP)
        for _ in range(self.draw.randint(3, 6)):
            self._do(self.reload)
            time.sleep(self.draw.uniform(0.02, 0.3))
        self.signal_services(signal.SIGCONT)

    def look(self):
        draw = self.visitor_draw
        words = draw.choice(
            [
                ["status"],
                ["proxies"],
                ["drops"],
                ["unlisted"],
                ["metrics"],
                ["sessions"],
                ["doctor"],
                ["drain", "main-ipv4"],
                ["resume", "main-ipv4"],
                ["log", "level", draw.choice(["error", "warn", "info"])],
                ["trace", "--client", "10.1.0.2", "--seconds", "1", "--datagrams", "20"],
            ]
        )
        done = self.admin.ctl(*words, timeout=_ADMIN_S)
        assert done.returncode in (0, 1), f"{words}: {done.returncode} {done.stderr}"

    def kill_sessions(self):
        status, _, body = self.admin.http("/v1/sessions?limit=100")
        sessions = json.loads(body)["sessions"] if status == 200 else []
        for session in self.visitor_draw.sample(sessions, min(3, len(sessions))):
            self.admin.http(f"/v1/sessions/kill?id={session['id']}", method="POST")

    def visit(self):
        """A request; one that is never finished or never read; one that breaks off."""
        draw = self.visitor_draw
        kind = draw.choice(["whole", "half", "unread", "reset"])
        path = draw.choice(_PAGES)
        if kind == "whole":
            status, _, _ = self.admin.http(path)
            assert status in (200, 404, 503)
            return
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(self.admin.connected(timeout=_ADMIN_S))
            connection.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode())
            if kind == "unread":
                connection.send(b"\r\n")
            if kind != "reset":
                self.connections.append(stack.pop_all())
        while len(self.connections) > 8:
            self.connections.pop(0).close()

    def signals(self):
        for _ in range(self.draw.randint(1, 20)):
            self.proxy.signal(self.draw.choice([signal.SIGHUP, signal.SIGUSR1]))

    def stand_still(self):
        self.proxy.stand_still()
        time.sleep(self.draw.uniform(0.05, 1.0))
        self.proxy.go_on()

    def kill(self):
        with self.present:
            self.proxy.kill()
            self.ended.append(self.proxy)
            self.close_connections()
            self.proxy = self.start_proxy(self.calm_configuration())

    def close_connections(self):
        for connection in self.connections:
            connection.close()
        self.connections.clear()

    def _draw_visit(self):
        (deed,) = self.visitor_draw.choices([self.look, self.visit, self.kill_sessions], [5, 5, 1])
        with self.present:
            self._do(deed)

    def _do(self, deed):
        deed()
        self.counts[deed.__name__] += 1

    def run(self, seconds):
        deeds = {
            self.link: 2,
            self.address: 4,
            self.another_address: 2,
            self.service: 1,
            self.late_replies: 4,
            self.signals: 2,
            self.stand_still: 1,
        }
        begun = time.monotonic()
        kills = max(1, round(seconds / 120))
        # None in the second half, over which the memory is watched.
        kill_at = [begun + seconds / 2 * (i + 1) / (kills + 1) for i in range(kills)]
        memory = None
        with contextlib.closing(Visitor(self._draw_visit)) as visitor:
            while (now := time.monotonic()) < begun + seconds:
                self._do(self.reload)
                if kill_at and now >= kill_at[0]:
                    kill_at.pop(0)
                    self._do(self.kill)
                elif self.draw.random() < 0.3:
                    self._do(*self.draw.choices(list(deeds), list(deeds.values())))
                if memory is None and now >= begun + seconds * 0.75:
                    memory = self.memory()
                assert self.proxy.running(), f"ended by itself:\n{self.proxy.text()}"
                visitor.check()
                time.sleep(self.draw.uniform(0.02, 0.3))
        # One deed may have taken the whole of a short run's last quarter.
        return self.memory() if memory is None else memory

    def calm_down(self):
        for mend in self.repairs.values():
            mend()
        self.repairs.clear()
        self.close_connections()
        for host, link, end in _ADDRESSES:  # IPv6 addresses have gone with their link
            with contextlib.suppress(RuntimeError):
                self.network.proxy.ip(f"addr add {host} dev {link}{end}")
        self.proxy.configuration_file.write_text(self.calm_configuration(), encoding="utf-8")
        self.proxy.signal(signal.SIGHUP)
        self.admin.shown("reload", timeout=_ADMIN_S)
        self.admin.shown("log", "level", "info", timeout=_ADMIN_S)
        for family in BOTH:
            self.admin.shown("resume", f"main-{family}", timeout=_ADMIN_S)

    # What is looked at

    def memory(self):
        """Bytes."""
        with open(f"/proc/{self.proxy.worker_pid}/status", encoding="ascii") as file:
            (kib,) = (line.split()[1] for line in file if line.startswith("VmRSS:"))
        return int(kib) * 1024

    def descriptors_besides_groups(self):
        """Those of reply groups come and go with sessions; all others are those of the
        configuration. While a group opens or closes the two numbers differ for a moment."""

        def held():
            metrics = self.admin.shown("metrics", timeout=_ADMIN_S)
            (of_groups,) = (
                int(line.split()[1])
                for line in metrics.splitlines()
                if line.startswith("udpproxy_capacity_descriptors ")
            )
            return len(os.listdir(f"/proc/{self.proxy.pid}/fd")) - of_groups

        deadline = time.monotonic() + 30
        seen = [held()]
        while seen[-5:] != seen[-1:] * 5:
            assert time.monotonic() < deadline, f"descriptors do not come to rest: {seen}"
            time.sleep(0.3)
            seen.append(held())
        return seen[-1]


def run_chaos(
    seconds, engine, network, admin, start_proxy, start_load, open_client, closing, figures
):
    seed = int(os.environ.get("UDPPROXY_CHAOS", secrets.randbelow(2**32)))
    print(f"UDPPROXY_CHAOS={seed}")
    chaos = Chaos(seed, engine, network, admin, start_proxy)
    closing(open_socket(network.proxy, _TAKEN))
    at = [family.service(last) for family in BOTH for last in (254, 253, 252)]
    services = []
    chaos.start_service = lambda: services.append(
        [
            start_load("serve", at=at[:3], answer_from="random"),
            start_load("serve", at=at[3:], answer_from="random"),
        ]
    )
    chaos.signal_services = lambda number: [service.signal(number) for service in services[-1]]
    chaos.stop_service = lambda: [service.stop() for service in services.pop()]
    chaos.start_service()
    for family in BOTH:
        with contextlib.closing(open_client(family.anywhere)) as client:
            assert client.ask(b"before", family.listener()).payload == b"before"
    descriptors = chaos.descriptors_besides_groups()
    clients = [
        start_load(
            "ask", family=family, clients=40, rate=100, seconds=seconds + 120, bytes=[48, 1200]
        )
        for family in BOTH
    ] + [start_load("churn", family=family, rate=50, seconds=seconds + 120) for family in BOTH]
    memory = chaos.run(seconds)
    chaos.calm_down()
    results = [load.stop() for load in clients]
    for result in results:
        figures.count(result)
        assert [result.get(name, 0) for name in NEVER] == [0] * len(NEVER), result
    assert sum(result["answered"] for result in results) > 0
    for family in BOTH:
        deadline = time.monotonic() + 30
        client = open_client(family.anywhere)
        while client.ask(b"after", family.listener(), timeout=0.5) is None:
            assert time.monotonic() < deadline, f"{family}: nobody answers after the calm"
    assert chaos.descriptors_besides_groups() == descriptors
    grown = chaos.memory() - memory
    counters = chaos.proxy.stop()
    assert "Sanitizer" not in "".join(proxy.text() for proxy in (*chaos.ended, chaos.proxy))
    figures.tell(
        f"{seconds} s of everything at once: no wrong datagram, and the books balance",
        f"seed {seed}: {dict(chaos.counts)}, "
        f"{len(chaos.proxy.all_events('reloaded'))} reloads answered, "
        f"{len(chaos.proxy.all_events('not_reloaded'))} refused, "
        f"{sum(result['answered'] for result in results)} of "
        f"{sum(result['sent'] for result in results)} answered, "
        f"{counters['sessions_admitted']} sessions, {counters.drops()}, {grown / 2**20:+.1f} MiB",
    )
    # A sanitiser keeps freed memory for a while. It looks for leaks at the end instead.
    assert is_sanitised() or grown < 24 * 2**20, grown


@pytest.mark.slow
def test_chaos_of_a_moment(
    engine, network, admin, start_proxy, start_load, open_client, closing, figures
):
    run_chaos(
        _SHORT_S, engine, network, admin, start_proxy, start_load, open_client, closing, figures
    )


@pytest.mark.long
@pytest.mark.bound(_LONG_S + 200)
def test_chaos_of_ten_minutes(
    engine, network, admin, start_proxy, start_load, open_client, closing, figures
):
    run_chaos(
        _LONG_S, engine, network, admin, start_proxy, start_load, open_client, closing, figures
    )
