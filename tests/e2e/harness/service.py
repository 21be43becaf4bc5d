"""A multi-homed UDP service: it listens on several endpoints and answers from any of them.

    Service(network.service, ["10.0.0.254:53", "10.0.0.253:53"], answer)

`answer(request)` returns the replies to one request; the functions at the end are the usual ones.
One thread serves all sockets; an exception in it fails the test when the service is closed.
"""

import dataclasses
import heapq
import itertools
import select
import threading
import time

from harness import address
from harness.client import open_socket, receive_datagram, send_datagram


@dataclasses.dataclass(frozen=True)
class Request:
    payload: bytes
    sender: str  # the proxy's endpoint: its port is the session's
    asked_on: str  # which of our endpoints it came to
    tos: int
    number: int  # 0 for the first
    at: float  # when we read it, by time.monotonic()


@dataclasses.dataclass(frozen=True)
class Reply:
    payload: bytes
    via: str = None  # the endpoint to answer from; None: the one that was asked
    delay: float = 0.0  # seconds
    tos: int = None


class Service:
    def __init__(self, namespace, endpoints, answer, keep_requests=True):
        self.answer = answer
        self.requests = []
        self.replies_sent = 0
        self.send_errors = 0
        self._keep = keep_requests
        self._sockets = {}
        self._delayed = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._failure = None
        self._stopping = False
        try:
            for endpoint in endpoints:
                self._sockets[endpoint] = open_socket(namespace, endpoint)
        except BaseException:
            self._close_sockets()
            raise
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._stopping:
            return
        self._stopping = True
        self._thread.join(10)
        self._close_sockets()
        if self._failure:
            raise self._failure

    def sender_of(self, payload):
        """The endpoint from which this payload last reached us (the session's, at the proxy); None
        if it never did."""
        return next(
            (request.sender for request in reversed(self.requests) if request.payload == payload),
            None,
        )

    def socket_of(self, endpoint):
        return self._sockets[endpoint]

    def _close_sockets(self):
        for opened in self._sockets.values():
            opened.close()

    def _serve(self):
        epoll = select.epoll()
        by_descriptor = {}
        for endpoint, opened in self._sockets.items():
            epoll.register(opened, select.EPOLLIN)
            by_descriptor[opened.fileno()] = (endpoint, opened)
        try:
            while not self._stopping:
                wait = 0.1
                if self._delayed:
                    wait = min(wait, max(0.0, self._delayed[0][0] - time.monotonic()))
                for descriptor, _ in epoll.poll(wait):
                    self._read(*by_descriptor[descriptor])
                self._send_due()
        except BaseException as failure:  # shown by close(): a thread has nobody to tell
            self._failure = failure
        finally:
            epoll.close()

    def _read(self, endpoint, opened):
        for _ in range(64):
            try:
                datagram = receive_datagram(opened)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error for an earlier reply
            request = Request(
                datagram.payload,
                datagram.source,
                endpoint,
                datagram.tos,
                next(self._numbers),
                time.monotonic(),
            )
            if self._keep:
                self.requests.append(request)
            for reply in self.answer(request):
                if reply.delay > 0:
                    due = time.monotonic() + reply.delay
                    heapq.heappush(self._delayed, (due, next(self._order), request, reply))
                else:
                    self._send(request, reply)

    def _send_due(self):
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            _, _, request, reply = heapq.heappop(self._delayed)
            self._send(request, reply)

    def _send(self, request, reply):
        opened = self._sockets[reply.via or request.asked_on]
        for attempt in (1, 2):
            try:
                send_datagram(opened, reply.payload, address.to_socket(request.sender), reply.tos)
                self.replies_sent += 1
                return
            except OSError:
                self.send_errors += attempt - 1  # the first is an older datagram's error


# Usual answers. Each is a function that makes an `answer`.


def silence():
    return lambda request: ()


def echo():
    return lambda request: (Reply(request.payload),)


def from_each(sources):
    """One reply from each source, which names its source: b'<payload> via <source>'."""
    return lambda request: [
        Reply(request.payload + b" via " + source.encode(), source) for source in sources
    ]


def in_turn(sources):
    """One reply, from the next source each time, which names its source."""
    turn = itertools.cycle(sources)

    def answer(request):
        source = next(turn)
        return (Reply(request.payload + b" via " + source.encode(), source),)

    return answer
