"""A client that knows whether its session goes on."""

from harness.client import Client
from harness.topology import IPV4


class Friend:
    """A client with a session, and where its requests come from at the service."""

    def __init__(self, network, service, at, family=IPV4):
        self.client = Client(network.client, family.anywhere)
        self._service, self.at = service, at
        self.port = self.ask()  # after a second datagram it is assured
        assert self.ask() == self.port

    _number = 0

    def ask(self):
        """The session's endpoint at the proxy; None: no answer."""
        Friend._number += 1
        question = b"question %d" % Friend._number
        got = self.client.ask(question, self.at, timeout=3)
        if got is None:
            return None
        assert got.payload.startswith(question) and got.source == self.at
        self.client.drain(0.05)
        return self._service.sender_of(question)

    def goes_on(self):
        return self.ask() == self.port
