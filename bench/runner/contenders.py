"""Who is measured: our program with each engine, its peers, and the floor. To add a row, add a line
to CONTENDERS.

Each contender knows how it is started at its link, and with which configuration; the configurations
are part of the results.
"""

import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from network import run

PROGRAMS = pathlib.Path(os.environ.get("UDPPROXY_BUILD", "build/release")).resolve()
DESCRIPTORS = 20000  # for each contender, as far as the machine allows


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a workload asks of every contender, each says it in its own words."""

    sessions: int = 1000
    replies: bool = False  # whether the service answers
    one_shot: bool = False  # whether a session is one request and one reply
    bare: bool = False  # ours: without aliases, one socket a session
    shards: int = 1


class Running:
    """A contender's processes."""

    def __init__(self, process):
        self._process = process

    def pids(self):
        """The process and its descendants."""
        found, queue = [], [self._process.pid] if self._process else []
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                        queue += map(int, file.read().split())
            except OSError:
                pass
        return found

    def alive(self):
        return self._process is None or self._process.poll() is None

    def stop(self):
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclasses.dataclass
class Contender:
    name: str
    ours: bool = False
    two_way: bool = True  # whether replies come back
    clients_max: int = 1 << 30  # more cannot be told apart on the way back
    sessions: bool = True  # whether it has sessions at all
    only: tuple = ()  # names of workloads; empty: all that suit

    def suits(self, workload):
        if self.only and workload.name not in self.only:
            return False
        if workload.needs_sessions and not self.sessions:
            return False
        return not workload.setting.replies or (
            self.two_way and workload.clients <= self.clients_max
        )

    def configuration(self, link, setting):
        """The text of its configuration file, or its command line."""
        raise NotImplementedError

    def start(self, link, setting, directory, cpus):
        raise NotImplementedError

    def version(self):
        return ""

    def launch(self, link, words, cpus, ready=None, directory=None):
        """Starts the words at the link on the CPUs; waits for `ready` (a function) or for the
        listener's port."""
        command = [
            "prlimit",
            f"--nofile={min(DESCRIPTORS, hard_descriptors())}",
            "taskset",
            "-c",
            ",".join(map(str, cpus)),
            *words,
        ]
        log = open(os.path.join(directory, "log"), "wb")
        process = subprocess.Popen(
            link.namespace.command(*command), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        running = Running(process)
        end = time.monotonic() + 10
        ready = ready or (lambda: listens(process.pid, int(link.listen.split(":")[1])))
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                running.stop()
                with open(log.name, encoding="utf-8", errors="replace") as file:
                    raise RuntimeError(
                        f"{self.name} does not listen: {' '.join(words)}\n{file.read()}"
                    )
            time.sleep(0.01)
        return running


def hard_descriptors():
    with open("/proc/self/limits", encoding="ascii") as file:
        return int(re.search(r"Max open files\s+\d+\s+(\d+)", file.read())[1])


def listens(pid, port):
    """Whether there is a UDP socket with that port in the process's namespace."""
    try:
        with open(f"/proc/{pid}/net/udp", encoding="ascii") as file:
            return any(
                f":{port:04X} " in line.split(":", 1)[1][:16] for line in file.readlines()[1:]
            )
    except OSError:
        return False


class Ours(Contender):
    """udpproxy. `runtime`, `limits` and `proxy` are further lines of the sections of those names;
    `program` is another build than the one beside the benchmark."""

    def __init__(self, name, engine, runtime="", limits="", proxy="", program=None, **more):
        super().__init__(name, ours=True, **more)
        self.engine, self.runtime, self.limits, self.proxy = engine, runtime, limits, proxy
        self.program = str(pathlib.Path(program or PROGRAMS / "udpproxy").resolve())

    def configuration(self, link, setting):
        lines = [
            f'[runtime]\nengine = "{self.engine}"\nshards = {setting.shards}',
            self.runtime,
            f"[limits]\n{self.limits}" if self.limits else "",
            '[log]\nlevel = "warn"\n[[proxy]]\nname = "bench"',
            f'listen = "{link.listen}"',
            f'upstream = "{link.upstream}"',
            'unlisted_replies = "off"',
        ]
        if not setting.bare:
            lines.append(f"reply_aliases = {json.dumps(link.aliases)}")
        if setting.one_shot:
            lines.append('unassured_timeout = "100ms"\nport_cooldown = "100ms"')
        return "\n".join(filter(None, [*lines, self.proxy])) + "\n"

    def start(self, link, setting, directory, cpus):
        path = os.path.join(directory, "udpproxy.toml")
        pathlib.Path(path).write_text(self.configuration(link, setting), encoding="utf-8")
        return self.launch(link, [self.program, "--config", path], cpus, directory=directory)

    def version(self):
        return run(self.program, "--version").stdout.splitlines()[0]


class Nginx(Contender):
    """nginx with its stream module, as its manual advises for UDP: reuseport, one worker per CPU,
    no log of accesses, enough connections."""

    def configuration(self, link, setting):
        once = "proxy_responses 1; " if setting.one_shot else ""
        timeout = "1s" if setting.one_shot else "60s"
        return f"""load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root;
worker_processes {setting.shards};
worker_rlimit_nofile {min(DESCRIPTORS, hard_descriptors())};
pid nginx.pid;
error_log stderr error;
events {{ use epoll; worker_connections {min(DESCRIPTORS, hard_descriptors())}; multi_accept on; }}
stream {{
    access_log off;
    server {{
        listen {link.listen} udp reuseport rcvbuf=4m sndbuf=4m;
        proxy_pass {link.upstream};
        proxy_timeout {timeout}; {once}
    }}
}}
"""

    def start(self, link, setting, directory, cpus):
        path = os.path.join(directory, "nginx.conf")
        pathlib.Path(path).write_text(self.configuration(link, setting), encoding="utf-8")
        return self.launch(
            link,
            ["/usr/sbin/nginx", "-e", "stderr", "-p", directory, "-c", path],
            cpus,
            directory=directory,
        )

    def version(self):
        return run("/usr/sbin/nginx", "-v").stderr.strip()


class Pen(Contender):
    """pen: a small relay with UDP. (rinetd and socat were looked at too: bench/README.md.)"""

    def _words(self, link, setting):
        # Backlogs and tables for all the clients; no line per client; the algorithm that needs no
        # memory of them.
        return [
            "/usr/bin/pen",
            "-f",
            "-U",
            "-r",
            "-x",
            str(min(DESCRIPTORS, hard_descriptors()) // 2 - 500),
            "-c",
            "20000",
            link.listen,
            link.upstream,
        ]

    def configuration(self, link, setting):
        return " ".join(self._words(link, setting))

    def start(self, link, setting, directory, cpus):
        return self.launch(link, self._words(link, setting), cpus, directory=directory)

    def version(self):
        found = run("dpkg-query", "-W", "-f", "${Version}", "pen", check=False).stdout
        return f"pen {found}"


class KernelNat(Contender):
    """The kernel's own NAT: no process at all."""

    def configuration(self, link, setting):
        port = link.listen.split(":")[1]
        return f"""table ip bench {{
    chain in {{
        type nat hook prerouting priority dstnat;
        iifname "to-client" udp dport {port} dnat to {link.upstream};
    }}
    chain out {{ type nat hook postrouting priority srcnat; oifname "to-service" masquerade; }}
}}
"""

    def start(self, link, setting, directory, cpus):
        link.namespace.shell("sysctl -qw net.ipv4.ip_forward=1")
        run(*link.namespace.command("nft", "-f", "-"), stdin=self.configuration(link, setting))
        seconds = 1 if setting.one_shot else 60
        link.namespace.shell(
            f"sysctl -qw net.netfilter.nf_conntrack_udp_timeout={seconds} "
            f"net.netfilter.nf_conntrack_udp_timeout_stream={seconds}"
        )
        return _Rules(link)

    def version(self):
        return run("uname", "-sr").stdout.strip()


class _Rules(Running):
    def __init__(self, link):
        super().__init__(None)
        self._link = link

    def stop(self):
        # Without its rules nothing is forwarded; the connections are forgotten with the hooks.
        self._link.namespace.shell("nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0")


class Floor(Contender):
    def __init__(self, name, gro, **more):
        super().__init__(name, sessions=False, clients_max=1, **more)
        self._gro = gro

    def _words(self, link, setting):
        return (
            [
                str(PROGRAMS / "bench/bench_floor"),
                "--listen",
                link.listen,
                "--upstream",
                link.upstream,
                "--seconds",
                "600",
            ]
            + (["--gro"] if self._gro else [])
            + (["--replies"] if setting.replies else [])
        )

    def configuration(self, link, setting):
        return " ".join(self._words(link, setting)).replace(str(PROGRAMS) + "/", "")

    def start(self, link, setting, directory, cpus):
        return self.launch(link, self._words(link, setting), cpus, directory=directory)


class Nothing(Contender):
    """Nobody: what the clients send is dropped on arrival. Its cost is the clients' own and is
    taken off the whole core's."""

    def configuration(self, link, setting):
        return "frames for a hardware address that nobody has"

    def start(self, link, setting, directory, cpus):
        return Running(None)


NOTHING = Nothing("nothing", two_way=False, sessions=False)


def with_against(contenders, program):
    """The contenders, and behind each of our two engines the same with another program."""
    found = []
    for each in contenders:
        found.append(each)
        if each.name in OURS:
            found.append(Ours(AGAINST[each.name], each.engine, program=program))
    return found


OURS = ("udpproxy io_uring", "udpproxy epoll")
AGAINST = {name: name.replace("udpproxy", "against") for name in OURS}

CONTENDERS = [
    Ours("udpproxy io_uring", "io_uring"),
    Ours("udpproxy epoll", "epoll"),
    Nginx("nginx stream"),
    Pen("pen"),
    KernelNat("kernel NAT"),
    Floor("floor", gro=False),
    Floor("floor, GRO/GSO", gro=True),
    *[
        Ours(f"{engine}, {option}", engine, only=only, **{section: option})
        for engine in ("io_uring", "epoll")
        for section, option, only in (
            ("runtime", 'busy_poll = "50us"', ("latency",)),
            ("runtime", 'batch_wait = "20us"', ("latency", "paced-64-1000")),
            ("limits", "pool_min = 3000", ("churn-paced", "storm")),
            ("proxy", 'offload = "off"', ("queued-64-1", "queued-64-1000", "queued-trains")),
        )
    ],
]
