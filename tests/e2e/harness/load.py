"""Real load: the C++ tool of tests/tools, started in a namespace, read to its last line.

    asking = Load(network.client, "ask", from_="10.1.0.2", to="10.1.0.1:5353", clients=100,
                  rate=1000, seconds=10, warm=True)
    asking.wait_event("asking")     every client is assured; what follows is counted
    result = asking.result()        its sums, as a dict

An option with an underscore is the one with a hyphen; a list gives several values.
"""

import json
import os
import pathlib
import signal

from harness import program
from harness.process import Process

# Nothing of this may ever be seen.
NEVER = ("foreign", "corrupt", "wrong_source", "duplicate")


def path():
    return os.environ.get(
        "UDPPROXY_LOAD", str(pathlib.Path(program.path()).parent / "tests" / "udpproxy_load")
    )


def _words(options):
    for name, value in options.items():
        option = "--" + name.rstrip("_").replace("_", "-")
        if value is True:
            yield option
        elif value is not False:
            yield option
            yield from (map(str, value) if isinstance(value, (list, tuple)) else [str(value)])


class Load(Process):
    def __init__(self, namespace, command, **options):
        self._events = {}
        super().__init__([path(), command, *_words(options)], namespace)
        self.wait_event("ready")

    def arrived(self, line):
        if line.startswith("{"):
            event = json.loads(line)
            self._events[event["event"]] = event

    def wait_event(self, name, timeout=30):
        return self.wait_until(lambda: self._events.get(name), timeout, f"event {name}")

    def stop(self):
        """Ends it early; its sums."""
        if self.running():
            self.signal(signal.SIGTERM)
        return self.result(10)

    def result(self, timeout=60):
        """Its sums, once it has ended by itself."""
        code = self.wait(timeout)
        assert code == 0, f"the load tool ended with exit code {code}:\n{self.text()}"
        return next(reversed(self._events.values()))

    close = Process.kill


def lost_between(result, first, last):
    """How many questions had no answer in gaps that reach into the time between two moments of
    time.monotonic()."""
    return sum(
        gap["lost"] for gap in result["gaps"] if gap["last"] >= first and gap["first"] <= last
    )
