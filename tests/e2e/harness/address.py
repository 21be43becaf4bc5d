"""Endpoints as people write them ("10.0.0.254:53", "[fd00::254]:53") and as the socket module wants
them.

Tests compare text only, so that a failure reads like the configuration does.
"""

import socket


def split(text):
    """ "[fd00::1%eth0]:53" -> ("fd00::1%eth0", 53)."""
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def family_of(text):
    """The socket family of an endpoint or of a bare address."""
    return socket.AF_INET6 if text.startswith("[") or text.count(":") > 1 else socket.AF_INET


def to_socket(text):
    """Endpoint text -> the tuple for bind and sendto. A scope is a name of the namespace the caller
    is in."""
    host, port = split(text)
    if "%" in host:
        host, scope = host.split("%")
        return (host, port, 0, socket.if_nametoindex(scope))
    return (host, port)


def from_socket(address):
    """The tuple of recvfrom -> endpoint text, without a scope."""
    host, port = address[0], address[1]
    if ":" in host:
        return f"[{host.split('%')[0]}]:{port}"
    return f"{host}:{port}"


def join(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def port_of(text):
    return split(text)[1]
