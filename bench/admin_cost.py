#!/usr/bin/env python3
"""What looking in costs the data path: processor time per forwarded datagram with a scrape of the
metrics and a listing of every session each second, against the same without, in interleaved
pairs.

    unshare -n bash -c 'ip link set lo up; bench/admin_cost.py' [--program build/release/udpproxy]
        [--engine io_uring] [--sessions 10000] [--pairs 12]

Two windows make a pair, their order changes from pair to pair; the interval is Student's, over the
pairs' ratios. Run it on an otherwise idle machine.
"""

import argparse
import http.client
import math
import os
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

LISTEN, UPSTREAM = ("127.0.0.1", 21000), ("127.0.0.2", 21001)
# Two-sided 95 %, by degrees of freedom.
STUDENT = {
    3: 3.18,
    5: 2.57,
    7: 2.36,
    9: 2.26,
    11: 2.20,
    15: 2.13,
    19: 2.09,
    23: 2.07,
    29: 2.05,
    39: 2.02,
}


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def ask(path, target):
    connection = UnixConnection(path)
    connection.request("GET", target)
    body = connection.getresponse().read()
    connection.close()
    return body


def forwarded(admin):
    for line in ask(admin, "/metrics").decode().splitlines():
        if line.startswith("udpproxy_departures_total") and 'direction="request"' in line:
            return int(line.rsplit(" ", 1)[1])
    raise RuntimeError("no departures in the metrics")


def shard_ns(pid):
    """Processor time of all shards' threads, and of the whole process."""
    shards = everything = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        spent = int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        everything += spent
        if pathlib.Path(f"/proc/{pid}/task/{task}/comm").read_text().startswith("shard"):
            shards += spent
    return shards, everything


class Traffic(threading.Thread):
    """One datagram of 64 bytes after the other, from every client in turn, at a steady pace."""

    def __init__(self, clients, per_second):
        super().__init__(daemon=True)
        self._clients, self._per_second, self.running = clients, per_second, True

    def run(self):
        at, due = 0, time.monotonic()
        while self.running:
            for _ in range(100):
                try:
                    self._clients[at].send(b"x" * 64)
                except OSError:
                    pass
                at = (at + 1) % len(self._clients)
            due += 100 / self._per_second
            time.sleep(max(0, due - time.monotonic()))


def window(pid, admin, seconds, looks):
    before, count = shard_ns(pid), forwarded(admin)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if looks:
            ask(admin, "/metrics")
            ask(admin, "/v1/sessions?limit=100000")
        time.sleep(max(0, min(1, left, end - time.monotonic())))
    after = shard_ns(pid)
    count = forwarded(admin) - count
    return (after[0] - before[0]) / count, (after[1] - before[1]) / count


def interval(ratios):
    mean = statistics.fmean(ratios)
    half = STUDENT.get(len(ratios) - 1, 2.0) * statistics.stdev(ratios) / math.sqrt(len(ratios))
    return mean, half


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--program", default="build/release/udpproxy")
    options.add_argument("--engine", default="io_uring")
    options.add_argument("--sessions", type=int, default=10000)
    options.add_argument("--pairs", type=int, default=12)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--rate", type=int, default=20000)
    options = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="cost-") as directory:
        admin = f"{directory}/admin.sock"
        config = pathlib.Path(directory) / "udpproxy.toml"
        config.write_text(
            f'[runtime]\nengine = "{options.engine}"\nshards = 1\n[log]\nlevel = "warn"\n[admin]\n'
            f'socket = "{admin}"\n[[proxy]]\nname = "cost"\n'
            f'listen = "{LISTEN[0]}:{LISTEN[1]}"\nupstream = "{UPSTREAM[0]}:{UPSTREAM[1]}"\n'
            'unlisted_replies = "off"\n'
            'ports = "22000-60000"\nidle_timeout = "10m"\nunassured_timeout = "10m"\n',
            encoding="utf-8",
        )
        sink = socket.socket(
            socket.AF_INET, socket.SOCK_DGRAM
        )  # what it has no room for the kernel drops
        sink.bind(UPSTREAM)
        proxy = subprocess.Popen([options.program, "--config", str(config)], stderr=sys.stderr)
        traffic = None
        try:
            while not os.path.exists(admin):
                time.sleep(0.05)
            time.sleep(0.5)
            clients = []
            for number in range(options.sessions):
                client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                client.bind((f"127.1.{number % 200}.1", 0))
                client.connect(LISTEN)
                client.send(b"hello")
                clients.append(client)
                if number % 50 == 0:
                    time.sleep(0.005)
            traffic = Traffic(clients, options.rate)
            traffic.start()
            time.sleep(2)
            found = ask(admin, "/v1/sessions?limit=1")
            print(
                f"{options.engine}, {found.split(b',')[0].decode().split(':')[1]} sessions, "
                f"{options.rate} datagrams/s asked for, "
                f"{options.pairs} pairs of {options.seconds:g} s windows"
            )
            shards, process, plain = [], [], []
            for pair in range(options.pairs):
                order = (False, True) if pair % 2 == 0 else (True, False)
                result = {
                    looks: window(proxy.pid, admin, options.seconds, looks) for looks in order
                }
                shards.append(result[True][0] / result[False][0])
                process.append(result[True][1] / result[False][1])
                plain.append(result[False][0])
            print(
                f"shards alone, without looking: {statistics.median(plain):.0f} ns a datagram "
                "(median)"
            )
            for name, ratios in (("the shards' threads", shards), ("the whole process", process)):
                mean, half = interval(ratios)
                print(
                    f"processor time per datagram of {name} with looking: {100 * (mean - 1):+.1f} "
                    f"% ± {100 * half:.1f} % (95 %)"
                )
        finally:
            if traffic:
                traffic.running = False
                traffic.join()
            proxy.terminate()
            proxy.wait(10)


if __name__ == "__main__":
    main()
