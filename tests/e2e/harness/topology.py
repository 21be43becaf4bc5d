"""The addresses of Network.of_three, for both families, so that one test text serves both.

    client                        proxy                        service
    10.1.0.2  ───────────  10.1.0.1 │ 10.0.0.1  ───────────  10.0.0.254 .253 .252 .251 .250
    fd01::2                fd01::1  │ fd00::1                fd00::254 ::253 ::252 ::251 ::250
"""

import dataclasses

from harness import address


@dataclasses.dataclass(frozen=True)
class Family:
    name: str
    listen_host: str
    service_prefix: str
    client_host: str
    anywhere: str  # what a client binds to
    whole_bits: int  # a prefix of one address
    size_max: int  # the largest payload of a datagram

    def listener(self, port=5353):
        return address.join(self.listen_host, port)

    def host(self, last):
        return f"{self.service_prefix}{last}"

    def service(self, last, port=53):
        return address.join(self.host(last), port)

    def session_port(self, port):
        """The proxy's endpoint towards the service."""
        return address.join(self.host(1), port)

    def client_port(self, port):
        return address.join(self.client_host, port)

    def __str__(self):
        return self.name


IPV4 = Family("ipv4", "10.1.0.1", "10.0.0.", "10.1.0.2", "0.0.0.0:0", 32, 65507)
IPV6 = Family("ipv6", "fd01::1", "fd00::", "fd01::2", "[::]:0", 128, 65527)
BOTH = (IPV4, IPV6)
