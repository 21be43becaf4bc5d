"""A stand-in for a service manager: it hears what sd_notify(3) says."""

import contextlib
import select
import socket
import struct
import time

_CREDENTIALS = struct.Struct("iii")  # struct ucred: pid, uid, gid


class Manager:
    """A bound NOTIFY_SOCKET. `messages` are the newest last, each a dictionary of its lines."""

    def __init__(self, path):
        self.path = str(path)
        self.messages = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{self.path[1:]}" if self.path.startswith("@") else self.path)

    def close(self):
        self._socket.close()

    def environment(self, **variables):
        """Goes before the command of a program that shall speak with this manager."""
        variables = {"NOTIFY_SOCKET": self.path, **variables}
        return ["env", *(f"{name}={value}" for name, value in variables.items())]

    def catch_up(self, timeout=0.0):
        """Reads what is there, waiting at most `timeout` for the first message."""
        select.select([self._socket], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            while True:
                text, control, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(12))
                message = dict(line.split("=", 1) for line in text.decode().splitlines())
                message["pid"] = _CREDENTIALS.unpack(control[0][2])[0]
                message["heard"] = time.monotonic()
                self.messages.append(message)

    def all(self, **wanted):
        """The messages that have these values; None stands for any."""
        self.catch_up()
        return [
            message
            for message in self.messages
            if all(
                name in message and value in (None, message[name]) for name, value in wanted.items()
            )
        ]

    def wait(self, timeout=30, count=1, accept=lambda message: True, **wanted):
        """The count-th message with these values that `accept` takes."""
        deadline = time.monotonic() + timeout
        while len(found := [each for each in self.all(**wanted) if accept(each)]) < count:
            assert time.monotonic() < deadline, f"not {count} of {wanted} in {self.messages}"
            self.catch_up(0.2)
        return found[count - 1]

    def wait_for_silence(self, seconds, timeout=60, **wanted):
        """Until no such message has come for so long."""
        deadline = time.monotonic() + timeout
        since = time.monotonic()
        while time.monotonic() - since < seconds:
            assert time.monotonic() < deadline, f"{wanted} goes on: {self.messages[-9:]}"
            self.catch_up(0.2)
            since = max([since, *(message["heard"] for message in self.all(**wanted))])
