"""Clients: one socket that remembers nothing, and a crowd of them asked together."""

import collections
import select
import socket
import time

from harness import address

Datagram = collections.namedtuple("Datagram", "payload source tos")

DATAGRAM_MAX = 65536
_TOS = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS),
}
_SO_RCVBUFFORCE = 33


def open_socket(namespace, bind_to):
    """A UDP socket in `namespace`, bound to an endpoint, that reports each datagram's TOS and has
    room for bursts."""
    family = address.family_of(bind_to)
    with namespace.inside():
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            level, _, receive_tos = _TOS[family]
            opened.setsockopt(level, receive_tos, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            try:
                opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 4 << 20)
            except PermissionError:
                pass  # what rmem_max allows must do then
            opened.bind(address.to_socket(bind_to))
        except BaseException:
            opened.close()
            raise
    return opened


def send_datagram(opened, payload, to, tos=None):
    if tos is None:
        opened.sendto(payload, to)
        return
    level, set_tos, _ = _TOS[opened.family]
    opened.sendmsg([payload], [(level, set_tos, tos.to_bytes(4, "little"))], 0, to)


def receive_datagram(opened):
    """One datagram that is there already; BlockingIOError if there is none."""
    payload, control, flags, source = opened.recvmsg(DATAGRAM_MAX, 64)
    assert not flags & socket.MSG_TRUNC
    tos = next(
        (data[0] for _, kind, data in control if kind in (socket.IP_TOS, socket.IPV6_TCLASS)), 0
    )
    return Datagram(payload, address.from_socket(source), tos)


class Client:
    """One client socket, unconnected: it sees from where each reply comes."""

    def __init__(self, namespace, bind_to="0.0.0.0:0"):
        self._namespace = namespace
        self._addresses = {}
        self.socket = open_socket(namespace, bind_to)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def endpoint(self):
        return address.from_socket(self.socket.getsockname())

    def send(self, payload, to, tos=None):
        if to not in self._addresses:
            with self._namespace.inside():  # a scope is a name in there
                self._addresses[to] = address.to_socket(to)
        send_datagram(self.socket, payload, self._addresses[to], tos)

    def receive(self, timeout=20):
        """The next datagram, or None after `timeout` seconds."""
        if not select.select([self.socket], [], [], timeout)[0]:
            return None
        return receive_datagram(self.socket)

    def ask(self, payload, to, timeout=20, tos=None):
        self.send(payload, to, tos)
        return self.receive(timeout)

    def drain(self, quiet=0.2):
        """Everything that comes until nothing came for `quiet` seconds."""
        got = []
        while (datagram := self.receive(quiet)) is not None:
            got.append(datagram)
        return got


class Crowd:
    """Many client sockets under one epoll. Client i is `sockets[i]`."""

    def __init__(self, namespace, count, bind_to="0.0.0.0:0"):
        self.sockets = []
        self._epoll = select.epoll()
        self._index = {}
        try:
            for _ in range(count):
                self.add(namespace, bind_to)
        except BaseException:
            self.close()
            raise

    def add(self, namespace, bind_to="0.0.0.0:0"):
        opened = open_socket(namespace, bind_to)
        self._index[opened.fileno()] = len(self.sockets)
        self.sockets.append(opened)
        self._epoll.register(opened, select.EPOLLIN)

    def close(self):
        for opened in self.sockets:
            opened.close()
        self._epoll.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __len__(self):
        return len(self.sockets)

    def send(self, client, payload, to):
        self.sockets[client].sendto(payload, address.to_socket(to))

    def arrived(self, timeout=0.0):
        """(client, datagram) of everything that is there, waiting at most `timeout` for the
        first."""
        got = []
        for descriptor, _ in self._epoll.poll(timeout, 256):
            client = self._index[descriptor]
            try:
                while True:
                    got.append((client, receive_datagram(self.sockets[client])))
            except (BlockingIOError, ConnectionRefusedError):
                pass
        return got

    def ask_all(self, to, payload, replies=1, clients=None, window=64, patience=10.0):
        """Each client sends payload(client) once and awaits `replies` datagrams; at most `window`
        clients wait at a time.

        Returns every (client, datagram). Ends when all have come or nothing came for `patience`
        seconds: whether that is all of them is for the caller to say.
        """
        waiting = collections.deque(clients if clients is not None else range(len(self)))
        missing = {}
        got = []
        last = time.monotonic()
        while waiting or missing:
            while waiting and len(missing) < window:
                client = waiting.popleft()
                missing[client] = replies
                self.send(client, payload(client), to)
            news = self.arrived(0.2)
            for client, datagram in news:
                got.append((client, datagram))
                if client in missing:
                    missing[client] -= 1
                    if missing[client] == 0:
                        del missing[client]
            now = time.monotonic()
            if news:
                last = now
            elif now - last > patience:
                if not waiting:
                    break
                missing.clear()  # given up: let the next ones ask
                last = now
        return got
