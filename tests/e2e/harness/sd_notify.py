"""A stand-in for a service manager: it hears what sd_notify(3) says, and keeps descriptors over a
restart."""

import array
import contextlib
import os
import select
import socket
import struct
import threading
import time

from harness.handing_over import handing_over

_CREDENTIALS = struct.Struct("iii")  # struct ucred: pid, uid, gid
_CONTROL_BYTES = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(4 * 253)


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
                text, control, _, _ = self._socket.recvmsg(65536, _CONTROL_BYTES)
                message = dict(line.split("=", 1) for line in text.decode().splitlines())
                of = {kind: data for _, kind, data in control}
                message["pid"] = _CREDENTIALS.unpack(of[socket.SCM_CREDENTIALS])[0]
                message["heard"] = time.monotonic()
                self.take(message, list(array.array("i", of.get(socket.SCM_RIGHTS, b""))))
                self.messages.append(message)

    def take(self, message, descriptors):
        """What came with a message."""
        for descriptor in descriptors:
            os.close(descriptor)

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


class Store(Manager):
    """A manager with FileDescriptorStoreMax=, which does as systemd 252 does: what is stored is
    handed over at each start until it is removed, or the kernel says that its other end is closed.
    """

    def __init__(self, path, size=1, answers_barriers=True, forgets=True):
        super().__init__(path)
        self._forgets = forgets
        self.stored = []  # (name, descriptor)
        self.of_socket_unit = []  # descriptors that are handed over at each start
        self._size = size
        self._answers_barriers = answers_barriers
        self._barriers = []
        self._handing = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._handing.bind(f"{path}.handing")
        self._handing.listen()
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._reader = threading.Thread(target=self._serve, daemon=True)
        self._reader.start()

    def close(self):
        self._ends.set()
        self._reader.join()
        self._handing.close()
        self.forget()
        for barrier in self._barriers:
            os.close(barrier)
        super().close()

    def forget(self, name=None):
        """As at the end of a stop; or of one name."""
        for each in [each for each in self.stored if name in (None, each[0])]:
            os.close(each[1])
            self.stored.remove(each)

    def start(self, **variables):
        """Goes before the command: with what a socket unit has, and what is stored."""
        return handing_over(
            stored=f"{self.path}.handing",
            variables={"NOTIFY_SOCKET": self.path, "FDSTORE": self._size, **variables},
        )

    def replace_stored(self, descriptor):
        ((name, stored),) = self.stored
        os.close(stored)
        self.stored[:] = [(name, descriptor)]

    def _serve(self):
        while not self._ends.is_set():
            ready, _, _ = select.select([self._socket, self._handing], [], [], 0.05)
            with self._lock:
                if self._handing in ready:
                    self._hand_over()
                super().catch_up()
                self._look_for_ends()

    def _hand_over(self):
        names = ["udpproxy.socket"] * len(self.of_socket_unit)
        names += [name for name, _ in self.stored]
        descriptors = self.of_socket_unit + [each for _, each in self.stored]
        with self._handing.accept()[0] as starter:
            socket.send_fds(starter, ["\n".join(names).encode() or b"\n"], descriptors)

    def _look_for_ends(self):
        poll = select.poll()
        for _, descriptor in self.stored:
            poll.register(descriptor, 0)
        gone = {descriptor for descriptor, _ in poll.poll(0)}
        for each in [each for each in self.stored if each[1] in gone]:
            os.close(each[1])
            self.stored.remove(each)

    def catch_up(self, timeout=0.0):
        """The thread reads."""
        self._ends.wait(timeout)
        with self._lock:
            super().catch_up()

    def take(self, message, descriptors):
        if "FDSTOREREMOVE" in message and self._forgets:
            self.forget(message["FDNAME"])
        if "FDSTORE" in message:
            while descriptors and len(self.stored) < self._size:
                self.stored.append((message["FDNAME"], descriptors.pop()))
        if "BARRIER" in message and not self._answers_barriers:
            self._barriers += descriptors
            descriptors = []
        super().take(message, descriptors)
