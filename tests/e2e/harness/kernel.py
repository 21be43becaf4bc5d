"""What the kernel itself counts as lost, and what a process costs: so that a loss can be
attributed.

    watch = Watch(network)
    ...
    assert watch.losses() == {}     no socket's queue overflowed and no link dropped anything since
"""

import json
import os
import socket
import time

from harness.namespaces import run

_UDP = ("InErrors", "RcvbufErrors", "SndbufErrors", "InCsumErrors", "MemErrors")
_LINK = (
    ("rx", "dropped"),
    ("tx", "dropped"),
    ("rx", "over_errors"),
    ("rx", "errors"),
    ("tx", "errors"),
)


def _read(namespace, name):
    with namespace.inside(), open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
        return file.read().splitlines()


def udp_counters(namespace):
    """Udp and Udp6 of /proc/net/snmp and snmp6."""
    found = {}
    lines = [line.split() for line in _read(namespace, "snmp") if line.startswith("Udp:")]
    for name, value in zip(lines[0][1:], lines[1][1:]):
        found[f"Udp{name}"] = int(value)
    for line in _read(namespace, "snmp6"):
        name, value = line.split()
        if name.startswith("Udp6"):
            found[name] = int(value)
    return found


def link_counters(namespace):
    found = {}
    for link in json.loads(run("ip", "-n", namespace.name, "-s", "-j", "link", "show").stdout):
        for direction, name in _LINK:
            found[f"{link['ifname']} {direction} {name}"] = (
                link.get("stats64", {}).get(direction, {}).get(name, 0)
            )
    return found


def queue_drops(namespace, port):
    """Datagrams that found the receive queue of a socket on this local port full, summed over the
    sockets that are there now."""
    return sum(
        int(line.split()[-1])
        for name in ("udp", "udp6")
        for line in _read(namespace, name)[1:]
        if int(line.split()[1].rsplit(":", 1)[1], 16) == port
    )


def queued_bytes(namespace, port):
    """Bytes that wait in the receive queues of the sockets on this local port."""
    return sum(
        int(line.split()[4].split(":")[1], 16)
        for name in ("udp", "udp6")
        for line in _read(namespace, name)[1:]
        if int(line.split()[1].rsplit(":", 1)[1], 16) == port
    )


def answers_ping(namespace, host, timeout=0.02):
    """Whether the kernel at `host` answers one ICMP echo from `namespace`: the path is there,
    whatever programs do."""
    ipv6 = ":" in host
    family, protocol, kind = (
        (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)
        if ipv6
        else (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    )
    message = bytes([kind, 0]) + b"\0\0" + os.urandom(4)
    if not ipv6:
        total = sum(int.from_bytes(message[i : i + 2], "big") for i in range(0, len(message), 2))
        total = (total & 0xFFFF) + (total >> 16)
        message = (
            message[:2]
            + (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2, "big")
            + message[4:]
        )
    with namespace.inside(), socket.socket(family, socket.SOCK_RAW, protocol) as pinging:
        try:
            pinging.sendto(message, (host, 0))
        except OSError:
            return False
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            pinging.settimeout(left)
            try:
                if message[4:] in pinging.recv(2048) and time.monotonic() < deadline:
                    return True
            except OSError:
                return False
    return False


class Watch:
    """The losses that the kernel counted since this was made, in all namespaces of a network."""

    def __init__(self, network):
        self._namespaces = [
            namespace for namespace in (network.client, network.proxy, network.service)
        ]
        self._before = self._read()

    def _read(self):
        found = {}
        for namespace in self._namespaces:
            role = namespace.name.rsplit("-", 1)[1]
            for name, value in udp_counters(namespace).items():
                if name.endswith(_UDP):
                    found[f"{role} {name}"] = value
            for name, value in link_counters(namespace).items():
                found[f"{role} {name}"] = value
        return found

    def losses(self):
        return {
            name: value - self._before.get(name, 0)
            for name, value in self._read().items()
            if value > self._before.get(name, 0)
        }


class Cost:
    """Thread time that a process has used, and its memory. Seconds and bytes."""

    def __init__(self, pid):
        self._pid = pid

    def _schedstat(self):
        ran = waited = 0
        for thread in os.listdir(f"/proc/{self._pid}/task"):
            with open(f"/proc/{self._pid}/task/{thread}/schedstat", encoding="ascii") as file:
                numbers = file.read().split()
            ran += int(numbers[0])
            waited += int(numbers[1])
        return ran / 1e9, waited / 1e9

    def ran(self):
        """Seconds on a processor, all threads."""
        return self._schedstat()[0]

    def share(self, seconds=0.5):
        """The part of one processor that the process uses in the time to come."""
        before, began = self.ran(), time.monotonic()
        time.sleep(seconds)
        return (self.ran() - before) / (time.monotonic() - began)

    def waited(self):
        """Seconds in a run queue: what others took."""
        return self._schedstat()[1]

    def resident(self):
        with open(f"/proc/{self._pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))
