"""Starts a program as a socket unit would: with sockets that are bound (sd_listen_fds(3)).

    prefix=handing_over(udp("10.1.0.1:5353"), …)     goes before the command

Run as a program it opens the sockets in its namespace, says which, and becomes the command. What a
manager's store has kept (`stored`, the name of a socket) comes behind them.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys

FIRST = 3  # SD_LISTEN_FDS_START
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def udp(bind, reuse_port=True, **options):
    """A socket of ListenDatagram=, with ReusePort=yes. Others: `ipv6_only` of BindIPv6Only=."""
    return {"kind": "udp", "bind": bind, "reuse_port": reuse_port, **options}


def handing_over(*sockets, await_datagram=False, kept_by=None, stored=None, variables=None):
    """`await_datagram`: the command begins when the first socket has something to read. `kept_by`:
    a process of this name keeps copies of the sockets, as a service manager does."""
    what = {
        "sockets": sockets,
        "await_datagram": await_datagram,
        "kept_by": kept_by,
        "stored": stored,
        "variables": variables or {},
    }
    return [sys.executable, "-B", __file__, json.dumps(what)]


def _open(kind, bind=None, reuse_port=False, ipv6_only=True):
    if kind == "pipe":
        return os.pipe()[0]
    if kind == "unix":
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()
    host, port = bind.rsplit(":", 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    opened = socket.socket(family, kind)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ipv6_only)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
    opened.bind((host.strip("[]"), int(port)))
    return opened.detach()


def _keep(name):
    """A child that holds the sockets for as long as the program lives."""
    ended, ending = os.pipe()
    if os.fork() > 0:
        os.read(ended, 1)  # it has its name
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, name.encode())
    os.closerange(0, FIRST)
    os.write(ending, b".")
    while True:
        signal.pause()


def _fetch(name):
    """What is stored: names, descriptors."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as manager:
        manager.connect(name)
        names, descriptors, _, _ = socket.recv_fds(manager, 65536, 253)
        return names.decode().split("\n")[: len(descriptors)], descriptors


def _main():
    what = json.loads(sys.argv[1])
    opened = [_open(**options) for options in what["sockets"]]
    names = ["udpproxy.socket"] * len(opened)
    if what["stored"]:
        stored_names, stored = _fetch(what["stored"])
        names += stored_names
        opened += stored
    # Out of the way of the numbers that they shall have.
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in opened]
    os.closerange(FIRST, 100)
    for number, descriptor in enumerate(moved, FIRST):
        os.dup2(descriptor, number, inheritable=True)
    os.closerange(100, 200)
    handed = range(FIRST, FIRST + len(moved))
    if what["kept_by"]:
        _keep(what["kept_by"])
    print("bound", *(os.readlink(f"/proc/self/fd/{number}") for number in handed), flush=True)
    if what["await_datagram"]:
        select.select([FIRST], [], [], 30)
    os.environ.update(
        LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=":".join(names)
    )
    os.environ.update({name: str(value) for name, value in what["variables"].items()})
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    _main()
