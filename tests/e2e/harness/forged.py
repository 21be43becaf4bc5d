"""Datagrams whose source is somebody else's endpoint, as an attacker on the client's link writes
them."""

import socket
import struct

from harness import address

_IPV6_HDRINCL = 36


def send_forged(namespace, source, to, payload):
    """One UDP datagram from `source` to `to`, sent from `namespace`."""
    (source_host, source_port), (host, port) = address.split(source), address.split(to)
    family = address.family_of(to)
    udp = struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload
    ends = socket.inet_pton(family, source_host) + socket.inet_pton(family, host)
    checksum = _checksum(ends + struct.pack("!II", len(udp), socket.IPPROTO_UDP) + udp)
    udp = udp[:6] + struct.pack("!H", checksum or 0xFFFF) + udp[8:]
    if family == socket.AF_INET:
        # The kernel fills in the length, the identification and the checksum (raw(7)).
        header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    else:
        header = struct.pack("!IHBB", 6 << 28, len(udp), socket.IPPROTO_UDP, 64) + ends
    with namespace.inside():
        raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        if family == socket.AF_INET6:
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        raw.sendto(header + udp, (host, 0))


def _checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
