"""One measurement: one contender, one workload, one window of time.

What was forwarded is counted by the kernel where the service lives (IpExt of its namespace, which
counts each segment of a train), so it is right even when the service does not read everything;
whose it is, is checked by the service and the clients, who know. CPU time is taken from
/proc/PID/task/*/schedstat (nanoseconds) and from the soak (bench/traffic/soak.cpp).
"""

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
import time

from contenders import NOTHING, PROGRAMS
from network import FIRST_CLIENT, FIRST_NEW_CLIENT
from tally import Tally

_AFTERWARDS_MS = 120


@dataclasses.dataclass(frozen=True)
class Cpus:
    """Two CPUs do; with three the service has one of its own."""

    proxy: int
    clients: int
    service: int

    @classmethod
    def of_this_machine(cls):
        free = sorted(os.sched_getaffinity(0))
        if len(free) < 2:
            raise SystemExit(
                "bench: two CPUs are needed, one for the proxy and one for who talks to it"
            )
        return cls(proxy=free[1], clients=free[0], service=free[2] if len(free) > 2 else free[0])


class Disturbed(RuntimeError):
    """The measurement says nothing, through nobody's fault; it may be tried again."""


class Sample:
    """Everything that is read at both ends of the window."""

    def __init__(self, pids, service_pid, clients, service, soak):
        self.at = time.monotonic_ns()
        self.cpu = sum(map(_cpu_ns, pids))
        self.forwarded = _ip_datagrams(service_pid)
        self.clients = clients.read()
        self.service = service.read()
        self.idle = soak.read().idle_ns if soak else 0


def _cpu_ns(pid):
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    except OSError:
        pass  # it has ended; the contender is looked at afterwards
    return total


def _ip_datagrams(pid):
    """IPv4 datagrams that reached the namespace of the process, trains by their segments."""
    with open(f"/proc/{pid}/net/netstat", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith("IpExt:")]
    counts = dict(zip(lines[0], lines[1]))
    return sum(
        int(counts[name]) for name in ("InNoECTPkts", "InECT0Pkts", "InECT1Pkts", "InCEPkts")
    )


class Program:
    """One of the benchmark's own programs with its tally."""

    def __init__(self, namespace, name, cpu, directory, *words, role=""):
        self.tally = Tally(os.path.join(directory, f"{name}{role}-{cpu}.tally"))
        command = [
            "taskset",
            "-c",
            str(cpu),
            str(PROGRAMS / f"bench/bench_{name}"),
            "--tally",
            self.tally.path,
            *map(str, words),
        ]
        self.process = subprocess.Popen(
            namespace.command(*command) if namespace else command, stdout=subprocess.PIPE, text=True
        )
        self.name = name

    def wait_ready(self):
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"bench_{self.name} did not start")

    def result(self, timeout):
        text, _ = self.process.communicate(timeout=timeout)
        if self.process.returncode != 0:
            raise RuntimeError(f"bench_{self.name}: exit {self.process.returncode}")
        return json.loads(text)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=5)


def _client_words(link, workload, length_ms):
    words = [
        "--target",
        link.listen,
        "--ms",
        length_ms,
        "--bytes",
        workload.bytes,
        "--rate",
        workload.rate,
    ]
    if workload.kind == "latency":
        return [*words, "--latency"]
    words += [
        "--clients",
        workload.clients,
        "--run",
        workload.run,
        "--burst",
        workload.burst,
        "--window",
        workload.window,
        "--segments",
        workload.segments,
        "--afterwards-ms",
        _AFTERWARDS_MS,
    ]
    words += ["--churn"] * (workload.kind == "churn") + ["--replies"] * workload.setting.replies
    if workload.segments == 1:
        words += [
            "--interface",
            link.interface,
            "--mac",
            link.target_mac,
            "--first-client",
            FIRST_CLIENT,
        ]
    return words


def _storm_words(link, workload, length_ms):
    """Clients that nobody has seen before, besides those who are measured."""
    return [
        "--target",
        link.listen,
        "--ms",
        length_ms,
        "--rate",
        workload.storm_rate,
        "--burst",
        16,
        "--churn",
        "--interface",
        link.interface,
        "--mac",
        link.target_mac,
        "--first-client",
        FIRST_NEW_CLIENT,
    ]


def _service_words(link, workload, contender):
    words = [
        "--listen",
        f"0.0.0.0:{link.upstream.split(':')[1]}",
        "--clients",
        min(workload.clients, 65536),
        "--seconds",
        120,
        "--sample",
        workload.sample,
    ]
    words += ["--echo"] * workload.setting.replies + ["--gro"] * (workload.segments > 1)
    # Without sessions one port carries all clients; in a churn ports go from client to client.
    words += ["--owned-ports"] * (
        contender.sessions and workload.kind != "churn" and not workload.storm_rate
    )
    return words


def measure(contender, link, workload, cpus, seconds, cycles):
    """The figures of one run, as a flat dictionary."""
    directory = tempfile.mkdtemp(prefix="udpproxy-bench-")
    opened = []
    try:
        if workload.offload:
            link.receive_offload(True)
        proxy_cpus = (
            [cpus.proxy] if workload.setting.shards == 1 else sorted({cpus.proxy, cpus.clients})
        )
        running = contender.start(link, workload.setting, directory, proxy_cpus)
        opened.append(running)
        service = Program(
            link.service,
            "service",
            cpus.service,
            directory,
            *_service_words(link, workload, contender),
        )
        opened.append(service)
        service.wait_ready()
        soaks = []
        if workload.kind in ("paced", "latency"):
            for cpu in sorted(
                {cpus.proxy}
                if workload.kind == "paced"
                else {cpus.proxy, cpus.clients, cpus.service}
            ):
                soaks.append(Program(None, "soak", cpu, directory))
                opened.append(soaks[-1])
                soaks[-1].wait_ready()
        return _window(
            contender,
            link,
            workload,
            cpus,
            seconds,
            cycles,
            directory,
            running,
            service,
            soaks,
            opened,
        )
    finally:
        for each in reversed(opened):
            each.stop()
        if workload.offload:
            link.receive_offload(False)
        shutil.rmtree(directory, ignore_errors=True)


def _window(
    contender, link, workload, cpus, seconds, cycles, directory, running, service, soaks, opened
):
    pids = running.pids()
    forwarded_before = _ip_datagrams(service.process.pid)
    length_ms = int((seconds + workload.warm_seconds + 0.05) * 1000)
    cpu = cpus.proxy if workload.shared_cpu else cpus.clients
    clients = Program(
        link.clients, "clients", cpu, directory, *_client_words(link, workload, length_ms)
    )
    opened.append(clients)

    def sample():
        return Sample(
            pids,
            service.process.pid,
            clients.tally,
            service.tally,
            soaks[0].tally if soaks else None,
        )

    time.sleep(workload.warm_seconds)
    storm = None
    if workload.storm_rate:
        storm = Program(
            link.clients,
            "clients",
            cpus.clients,
            directory,
            *_storm_words(link, workload, length_ms),
            role="-storm",
        )
        opened.append(storm)
    counting = cycles.start(pids, seconds)
    first = sample()
    time.sleep(seconds)
    last = sample()
    counted = cycles.result(counting)
    own = clients.result(timeout=30)
    time.sleep(0.05)
    total = sample()
    if storm and storm.tally.read().sent < 0.5 * workload.storm_rate * seconds:
        raise Disturbed(f"the storm sent {storm.tally.read().sent} datagrams")
    if not running.alive():
        raise RuntimeError(f"{contender.name} ended in the middle of {workload.name}")
    figures = _figures(contender, workload, first, last, total, forwarded_before) | own
    if counted:
        figures["own_cycles"] = counted / (figures["forwarded_per_s"] * figures["seconds"])
    return figures


def _kernel_bytes():
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":") for line in file)
    return (
        sum(int(lines[name].split()[0]) for name in ("Slab", "KernelStack", "PageTables", "Percpu"))
        * 1024
    )


def _own_bytes(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    return total


def measure_memory(contender, link, workload, cpus):
    """Memory of each session: before the first and while all are there. The first hundred are
    opened before, and pay for what is made but once."""
    directory = tempfile.mkdtemp(prefix="udpproxy-bench-")
    opened = []
    try:
        running = contender.start(link, workload.setting, directory, [cpus.proxy])
        opened.append(running)
        service = Program(
            link.service,
            "service",
            cpus.service,
            directory,
            *_service_words(link, workload, contender),
        )
        opened.append(service)
        service.wait_ready()

        def open_sessions(count):
            # As many datagrams however many clients: what they touch besides sessions (receive
            # buffers) is touched by the first already.
            words = _client_words(
                link,
                dataclasses.replace(workload, clients=count),
                int(workload.clients * 1000 / workload.rate) + 50,
            )
            clients = Program(link.clients, "clients", cpus.clients, directory, *words)
            opened.append(clients)
            clients.result(timeout=30)
            return clients.tally.read()

        open_sessions(100)
        pids = running.pids()
        kernel, own = _kernel_bytes(), _own_bytes(pids)
        counts = open_sessions(workload.clients)
        more = workload.clients - 100
        return {
            "user_bytes_per_session": max(0, _own_bytes(pids) - own) / more,
            "kernel_bytes_per_session": max(0, _kernel_bytes() - kernel) / more,
            "loss": max(0.0, 1 - counts.received / counts.sent) if counts.sent else 1.0,
            "foreign": counts.foreign,
            "shared_ports": service.tally.read().foreign,
            "damaged": counts.damaged,
        }
    finally:
        for each in reversed(opened):
            each.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _figures(contender, workload, first, last, total, forwarded_before):
    wall = last.at - first.at
    requests = last.forwarded - first.forwarded
    replies = last.clients.received - first.clients.received
    datagrams = requests + replies
    sent = last.clients.sent - first.clients.sent
    cpu = last.cpu - first.cpu
    # Of the whole run, when everything that was under way has arrived.
    sent_in_all = total.clients.sent
    came_through = (
        total.clients.received if workload.setting.replies else total.forwarded - forwarded_before
    )
    return {
        "seconds": wall / 1e9,
        "sent_per_s": sent * 1e9 / wall,
        "forwarded_per_s": datagrams * 1e9 / wall,
        "replies_per_s": replies * 1e9 / wall,
        "loss": 0.0
        if contender is NOTHING
        else max(0.0, 1 - came_through / sent_in_all)
        if sent_in_all
        else 1.0,
        "own_ns": cpu / datagrams if datagrams and cpu else None,  # kernel NAT has no process
        "own_cpu": cpu / wall,
        "busy": 1 - (last.idle - first.idle) / wall if last.idle else None,
        "checked": total.service.checked + total.clients.checked,
        # A reply that reached another client; a port of the proxy on which a second client was
        # seen.
        "foreign": total.clients.foreign,
        "shared_ports": total.service.foreign,
        "damaged": total.service.damaged + total.clients.damaged,
        "disordered": total.service.disordered + total.clients.disordered,
    }
