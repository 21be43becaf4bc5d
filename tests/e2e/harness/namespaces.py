"""Network namespaces of a test: made by `ip netns`, named with our pid, removed whatever happens.

    with Network.of_three() as network:      client ── proxy ── service, see the drawing there
        with network.client.inside():        sockets opened here live in that namespace from then on

Only the calling thread changes its namespace, and only for the length of the `with`.
"""

import atexit
import contextlib
import ctypes
import os
import re
import subprocess

_PREFIX = "udpproxy-e2e"
_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def run(*words, stdin=None, check=True, timeout=20):
    """A short command to its end; its output is in the exception when it fails."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(words)}: exit {done.returncode}\n{stdin or ''}{done.stdout}{done.stderr}"
        )
    return done


def _setns(file_descriptor):
    if _libc.setns(file_descriptor, _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


def isolate():
    """The calling thread, and what it starts, leaves for a network and a /run of its own."""
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    run("ip", "link", "set", "lo", "up")


class Namespace:
    """One namespace with its loopback up."""

    def __init__(self, role):
        self.name = f"{_PREFIX}-{os.getpid()}-{role}"
        run("ip", "netns", "add", self.name)
        self._file = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        self.ip("link set lo up")

    def close(self):
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            run("ip", "netns", "del", self.name, check=False)

    def ip(self, *lines):
        """Lines for `ip -batch`, in this namespace."""
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def sysctl(self, key, value):
        with self.inside():
            # /proc/sys/net shows the namespace of the thread that opens the file.
            with open(f"/proc/sys/{key.replace('.', '/')}", "w", encoding="ascii") as file:
                file.write(f"{value}\n")

    def command(self, *words):
        """The words that run a program in here. `ip netns exec` becomes the program: its pid is the
        program's."""
        return ["ip", "netns", "exec", self.name, *words]

    @contextlib.contextmanager
    def inside(self):
        """The calling thread is in this namespace until the end of the block."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._file)
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(home)


class Network:
    """Some namespaces and what joins them."""

    def __init__(self):
        self._namespaces = []
        atexit.register(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        atexit.unregister(self.close)
        for namespace in self._namespaces:
            namespace.close()

    def add(self, role):
        namespace = Namespace(role)
        self._namespaces.append(namespace)
        return namespace

    @classmethod
    def of_three(cls, service_addresses=()):
        """The topology of most tests; a /24 and a /64 on each side.

            client                        proxy                        service
            10.1.0.2  ───────────  10.1.0.1 │ 10.0.0.1  ───────────  10.0.0.254 .253 .252 .251 .250
            fd01::2                fd01::1  │ fd00::1                fd00::254 ::253 ::252 ::251 ::250

        `service_addresses` replaces the service's list, the preferred source address first.
        """
        network = cls()
        try:
            network.client = network.add("client")
            network.proxy = network.add("proxy")
            network.service = network.add("service")
            network._join(network.client, "to-proxy", network.proxy, "to-client")
            network._join(network.proxy, "to-service", network.service, "to-proxy")
            network.client.ip(*_addresses("to-proxy", ["10.1.0.2/24", "fd01::2/64"]))
            network.proxy.ip(
                *_addresses("to-client", ["10.1.0.1/24", "fd01::1/64"]),
                *_addresses("to-service", ["10.0.0.1/24", "fd00::1/64"]),
            )
            network.service.ip(
                *_addresses(
                    "to-proxy",
                    service_addresses
                    or (
                        [f"10.0.0.{last}/24" for last in (254, 253, 252, 251, 250)]
                        + [f"fd00::{last}/64" for last in (254, 253, 252, 251, 250)]
                    ),
                )
            )
        except BaseException:
            network.close()
            raise
        return network

    @staticmethod
    def _join(left, left_link, right, right_link):
        for namespace in (left, right):
            # Duplicate address detection would keep each new IPv6 address out of use for a second
            # or more.
            namespace.sysctl("net.ipv6.conf.all.accept_dad", 0)
            namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)
        left.ip(
            f"link add {left_link} type veth peer name {right_link} netns {right.name}",
            f"link set {left_link} up",
        )
        right.ip(f"link set {right_link} up")


def _addresses(link, addresses):
    return [
        f"addr add {address} dev {link}" + (" nodad" if ":" in address else "")
        for address in addresses
    ]


def remove_leftovers():
    """Namespaces of a test run that was killed: their names carry a pid that no longer lives."""
    for line in run("ip", "netns", "list").stdout.splitlines():
        found = re.match(rf"({_PREFIX}-(\d+)-\w+)", line)
        if found and not os.path.exists(f"/proc/{found[2]}"):
            run("ip", "netns", "del", found[1], check=False)
