"""The network of the benchmark: one namespace for the clients, one for the service, and one for
each contender between them, so that no contender pays for what another needs (connection
tracking, a full table of sockets).

    clients                            proxy i                            service
    10.0.i.1  c<i> ───────── to-client 10.0.i.2 │ 10.1.i.1 to-service ───────── s<i>  10.1.i.2
    10.64.0.0/10 (clients made of frames; nobody there has these addresses)
"""

import os
import subprocess

FIRST_CLIENT = "10.64.0.0"
FIRST_NEW_CLIENT = "10.96.0.0"
_CLIENT_NETWORK = "10.64.0.0/10"
_NOBODY = "02:00:00:00:00:99"


def run(*words, stdin=None, check=True):
    done = subprocess.run(
        words, input=stdin, capture_output=True, text=True, timeout=30, check=False
    )
    if check and done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(words)}: exit {done.returncode}\n{stdin or ''}{done.stdout}{done.stderr}"
        )
    return done


class Namespace:
    def __init__(self, name):
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link set lo up")
        # The defaults of the host's init namespace may differ from machine to machine.
        self.shell(
            "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 "
            "net.ipv6.conf.all.disable_ipv6=1 "
            "net.ipv6.conf.default.disable_ipv6=1",
            check=False,
        )

    def ip(self, *lines):
        run("ip", "-n", self.name, "-batch", "-", stdin="\n".join(lines) + "\n")

    def command(self, *words):
        """The words that run a program in here; `ip netns exec` becomes the program."""
        return ["ip", "netns", "exec", self.name, *words]

    def shell(self, script, check=True):
        return run(*self.command("sh", "-c", script), check=check)


class Link:
    """A contender's place between the clients and the service."""

    def __init__(self, number, clients, service):
        self.number = number
        self.clients = clients
        self.service = service
        self.namespace = Namespace(f"proxy{number}")
        self.interface = f"c{number}"
        self.listen = f"10.0.{number}.2:7000"
        self.upstream = f"10.1.{number}.2:9000"
        # Further addresses of the service: what our own program lists as aliases.
        self.aliases = [f"10.1.{number}.3:9000", f"10.1.{number}.4:9000"]
        proxy = self.namespace
        clients.ip(
            f"link add {self.interface} type veth peer name to-client netns {proxy.name}",
            f"addr add 10.0.{number}.1/24 dev {self.interface}",
            f"link set {self.interface} up",
        )
        service.ip(
            f"link add s{number} type veth peer name to-service netns {proxy.name}",
            f"addr add 10.1.{number}.2/24 dev s{number}",
            f"addr add 10.1.{number}.3/24 dev s{number}",
            f"addr add 10.1.{number}.4/24 dev s{number}",
            f"link set s{number} up",
        )
        proxy.ip(
            f"addr add 10.0.{number}.2/24 dev to-client",
            "link set to-client up",
            f"addr add 10.1.{number}.1/24 dev to-service",
            "link set to-service up",
            f"route add {_CLIENT_NETWORK} via 10.0.{number}.1",
        )
        # A network card cuts trains before they are on the wire; a veth hands them over whole, and
        # packet sockets would see one frame.
        proxy.shell("ethtool -K to-client tx-udp-segmentation off")
        # No ARP in the middle of a measurement.
        self.target_mac = proxy.shell("cat /sys/class/net/to-client/address").stdout.strip()
        self._neighbour(clients, self.interface, f"10.0.{number}.2", self.target_mac)
        self._neighbour(
            proxy,
            "to-client",
            f"10.0.{number}.1",
            clients.shell(f"cat /sys/class/net/{self.interface}/address").stdout,
        )
        service_mac = service.shell(f"cat /sys/class/net/s{number}/address").stdout
        for last in (2, 3, 4):
            self._neighbour(proxy, "to-service", f"10.1.{number}.{last}", service_mac)
        self._neighbour(
            service,
            f"s{number}",
            f"10.1.{number}.1",
            proxy.shell("cat /sys/class/net/to-service/address").stdout,
        )

    @staticmethod
    def _neighbour(namespace, interface, address, mac):
        namespace.ip(f"neigh replace {address} lladdr {mac.strip()} nud permanent dev {interface}")

    def lead_nowhere(self):
        """What the clients send is dropped on arrival, by the first line of the receiving stack:
        the price of sending alone."""
        self.target_mac = _NOBODY
        self._neighbour(self.clients, self.interface, self.listen.split(":")[0], _NOBODY)

    def receive_offload(self, enabled):
        """Makes the proxy's side behave like a network card with GRO: arrivals are held for some
        microseconds and merged."""
        switch, other = ("on", "off") if enabled else ("off", "on")
        self.clients.shell(f"ethtool -K {self.interface} tso {other} tx-udp-segmentation {other}")
        self.namespace.shell(f"ethtool -K to-client gro {switch}")
        defer, timeout = (100, 20000) if enabled else (0, 0)
        self.namespace.shell(
            f"echo {defer} >/sys/class/net/to-client/napi_defer_hard_irqs; "
            f"echo {timeout} >/sys/class/net/to-client/gro_flush_timeout"
        )


class Network:
    def __init__(self):
        os.makedirs("/run/netns", exist_ok=True)
        self.clients = Namespace("clients")
        self.service = Namespace("service")
        self._links = 0

    def add_link(self):
        self._links += 1
        return Link(self._links, self.clients, self.service)
