#!/usr/bin/python3
"""What udpproxy is for, in ten seconds on loopback. `./dev demo` runs: demo.py --program PATH
--config FILE

    64 clients ──── 127.0.0.1:12345 udpproxy ──────────┐
                                                       ├──── 127.0.0.254:12345 the upstream, asked by all;
    64 clients ──── 127.0.0.1:any   a plain relay ─────┘     it answers from there and from its aliases in turn

The addresses are those of the configuration file. The plain relay is what a proxy does at first
thought: one connected UDP socket per client. The kernel gives such a socket only what its one peer
sends, so replies from an alias are lost. Standard library only. Exit code 0 when every reply came
home through udpproxy, else 1 with the reason.
"""

import argparse
import collections
import itertools
import pathlib
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import tomllib

CLIENTS = 64  # no multiple of three, so that each client hears from every source
ROUNDS = 3
QUIET_SECONDS = 0.5  # a reply that has not come after this long on loopback does not come


class Trouble(Exception):
    """Why the demonstration cannot be given."""


def split(endpoint):
    host, port = endpoint.rsplit(":", 1)
    return host, int(port)


def name(address):
    return f"{address[0]}:{address[1]}"


def udp_socket(what, address=("127.0.0.1", 0)):
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    try:
        opened.bind(address)
    except OSError as error:
        opened.close()
        raise Trouble(f"{what} cannot use {name(address)}: {error.strerror.lower()}") from None
    return opened


class Background(threading.Thread):
    """Sockets served by a thread until close()."""

    def __init__(self):
        super().__init__(daemon=True)
        self.poll = select.epoll()
        self.serve = {}
        self._closing = False

    def watch(self, opened, on_readable):
        self.serve[opened.fileno()] = (opened, on_readable)
        self.poll.register(opened, select.EPOLLIN)

    def run(self):
        while not self._closing:
            for descriptor, _ in self.poll.poll(0.05):
                self.serve[descriptor][1](self.serve[descriptor][0])

    def close(self):
        self._closing = True
        if self.is_alive():
            self.join()
        for opened, _ in self.serve.values():
            opened.close()


class Service(Background):
    """Asked on the upstream's address, answers from each source in turn and says in the payload
    which one it took."""

    def __init__(self, sources):
        super().__init__()
        self.sockets = []
        self.answered = collections.Counter()
        self._turn = itertools.cycle(range(len(sources)))
        self._sources = sources
        try:
            for source in sources:
                self.sockets.append(udp_socket("the service", source))
        except Trouble:
            for opened in self.sockets:
                opened.close()
            raise
        for opened in self.sockets:
            self.watch(opened, self.answer)
        self.start()

    def answer(self, opened):
        for payload, client in received(opened):
            source = next(self._turn)
            self.sockets[source].sendto(
                payload + b" answered-from=" + name(self._sources[source]).encode(), client
            )
            self.answered[name(self._sources[source])] += 1


class PlainRelay(Background):
    """One connected socket per client, as many a relay does it."""

    def __init__(self, upstream):
        super().__init__()
        self._upstream = upstream
        self._sessions = {}
        self.listener = udp_socket("the plain relay")
        self.address = self.listener.getsockname()
        self.watch(self.listener, self.request)
        self.start()

    def request(self, listener):
        for payload, client in received(listener):
            if client not in self._sessions:
                session = udp_socket("the plain relay")
                session.connect(self._upstream)
                self._sessions[client] = session
                self.watch(session, lambda opened, client=client: self.reply(opened, client))
            self._sessions[client].send(payload)

    def reply(self, opened, client):
        for payload, _ in received(opened):
            self.listener.sendto(payload, client)


def received(opened):
    """Every datagram that is there."""
    while True:
        try:
            yield opened.recvfrom(2048)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            pass


class Outcome:
    """What came back to the clients: per source that the service answered from; and what should not
    have come."""

    def __init__(self):
        self.asked = 0
        self.home = collections.Counter()
        self.misplaced = 0
        self.sample = None


def ask(listener):
    """All clients ask `listener`, some rounds long, and await their replies."""
    outcome = Outcome()
    clients = [udp_socket("a client") for _ in range(CLIENTS)]
    poll = select.epoll()
    by_descriptor = {opened.fileno(): number for number, opened in enumerate(clients)}
    for opened in clients:
        poll.register(opened, select.EPOLLIN)
    try:
        for turn in range(ROUNDS):
            expected = set()
            for number, opened in enumerate(clients):
                question = b"client=%d question=%d" % (number, turn)
                opened.sendto(question, listener)
                expected.add(question)
                outcome.asked += 1
            while expected and (ready := poll.poll(QUIET_SECONDS)):
                for descriptor, _ in ready:
                    number = by_descriptor[descriptor]
                    for payload, source in received(clients[number]):
                        question, _, answered_from = payload.partition(b" answered-from=")
                        own = question.startswith(b"client=%d " % number)
                        if source != listener or not own or question not in expected:
                            outcome.misplaced += 1
                            continue
                        expected.discard(question)
                        outcome.home[answered_from.decode()] += 1
                        if outcome.sample is None or answered_from != name(listener).encode():
                            outcome.sample = (
                                number,
                                question.decode(),
                                payload.decode(),
                                name(source),
                            )
    finally:
        poll.close()
        for opened in clients:
            opened.close()
    return outcome


class Program:
    """udpproxy with the configuration file as it is."""

    def __init__(self, path, configuration):
        self.lines = []
        self._ready = threading.Event()
        try:
            self._process = subprocess.Popen(
                [path, "--config", configuration],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        except OSError as error:
            raise Trouble(f"{path}: {error.strerror.lower()}") from None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(8) or self._process.poll() is not None:
            code = self._process.poll()
            self.close()
            how = (
                "was not ready within 8 s"
                if code is None
                else f"ended with exit code {code} before it was ready"
            )
            raise Trouble(
                f"udpproxy {how}; it said:\n    " + "\n    ".join(self.lines[-5:] or ["nothing"])
            )

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line.rstrip())
            if "event=ready" in line:
                self._ready.set()
        self._ready.set()

    def engine(self):
        found = re.search(r"event=engine engine=(\w+)", "\n".join(self.lines))
        return found[1] if found else "unknown"

    def close(self):
        """The exit code after SIGTERM."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            code = None
        self._reader.join(2)
        return code


def read_configuration(path):
    """The first proxy's listener and its sources, the upstream first; the demonstration wants plain
    IPv4 endpoints there."""
    try:
        proxy = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))["proxy"][0]
        listen = proxy["listen"] if isinstance(proxy["listen"], str) else proxy["listen"][0]
        upstream = split(proxy["upstream"])
        aliases = [
            split(alias) if ":" in alias else (alias, upstream[1])
            for alias in proxy["reply_aliases"]
        ]
        return split(listen), [upstream, *aliases]
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise Trouble(
            f"{path}: not the configuration this demonstration can use: {error!r}"
        ) from None


def show(sources, answered, relay, proxy):
    """answered[way][source]: what the service sent when asked that way."""
    print(
        f"\n    {'the service answered from':<36}{'came home through':>19}{'came home through':>19}"
    )
    print(f"    {'':<36}{'a plain relay':>19}{'udpproxy':>19}")
    for number, source in enumerate(map(name, sources)):
        role = "the upstream" if number == 0 else "an alias"
        print(
            f"    {source + '  ' + role:<36}"
            f"{f'{relay.home[source]} of {answered[0][source]}':>19}"
            f"{f'{proxy.home[source]} of {answered[1][source]}':>19}"
        )
    totals = [
        f"{sum(outcome.home.values())} of {sum(sent.values())}"
        for outcome, sent in zip((relay, proxy), answered)
    ]
    print(f"    {'all':<36}{totals[0]:>19}{totals[1]:>19}\n")


def demonstrate(program_path, configuration):
    listener, sources = read_configuration(configuration)
    service = Service(sources)
    try:
        print(
            f"A service is asked on {name(sources[0])} and answers from {len(sources)} addresses "
            "in turn."
        )
        print(
            f"{CLIENTS} clients ask it {ROUNDS} times each, first through a plain relay, then "
            "through udpproxy."
        )
        relay = PlainRelay(sources[0])
        try:
            through_relay = ask(relay.address)
        finally:
            relay.close()
        answered_relay, service.answered = service.answered, collections.Counter()

        program = Program(program_path, configuration)
        try:
            through_proxy = ask(listener)
        finally:
            exit_code = program.close()
        answered_proxy = service.answered
    finally:
        service.close()

    show(sources, (answered_relay, answered_proxy), through_relay, through_proxy)
    print(
        "The plain relay has one connected socket per client: the kernel gives it what the "
        "upstream sends and refuses the rest."
    )
    if through_proxy.sample:
        number, question, payload, source = through_proxy.sample
        print(
            "udpproxy knows the aliases and hands every reply to its client from the address that "
            "the client wrote to, for example:"
        )
        print(
            f"    client {number} asked {name(listener)} \"{question}\" and heard from {source} "
            f"\"{payload}\""
        )
    print(f"(engine {program.engine()}, configuration {configuration})")
    conclude(sources, through_proxy, answered_proxy, exit_code)


def conclude(sources, outcome, answered, exit_code):
    home = sum(outcome.home.values())
    if outcome.misplaced:
        raise Trouble(
            f"{outcome.misplaced} datagrams reached a client that does not own them, or from a "
            "wrong address"
        )
    if home != outcome.asked or any(
        outcome.home[name(source)] != answered[name(source)] for source in sources
    ):
        raise Trouble(
            f"{outcome.asked - home} of {outcome.asked} replies did not come home through udpproxy"
        )
    if exit_code != 0:
        raise Trouble(f"udpproxy ended with exit code {exit_code} after SIGTERM")
    print(f"\nAll {home} replies came home through udpproxy.")


def main():
    parser = argparse.ArgumentParser(description="Shows on loopback what udpproxy is for.")
    parser.add_argument("--program", required=True, help="the program, e.g. build/release/udpproxy")
    parser.add_argument(
        "--config", required=True, help="its configuration, e.g. udpproxy.toml.example"
    )
    arguments = parser.parse_args()
    try:
        demonstrate(arguments.program, arguments.config)
    except Trouble as trouble:
        print(f"\nThe demonstration failed: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
