"""Looking into a running proxy: udpproxyctl, and HTTP on the admin socket or address."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

from harness import program

HTTP_ENDPOINT = "127.0.0.1:9090"


def ctl_path():
    return str(pathlib.Path(program.path()).parent / "udpproxyctl")


class Admin:
    """One proxy's admin socket (and address), in a directory of its own: a socket's path must be
    short."""

    def __init__(self, namespace):
        self._namespace = namespace
        self.directory = tempfile.mkdtemp(prefix="adm-")
        self.socket = os.path.join(self.directory, "admin.sock")

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def section(self, listen=False, **keys):
        """The [admin] of a configuration."""
        keys = {"socket": self.socket, **({"listen": HTTP_ENDPOINT} if listen else {}), **keys}
        return "[admin]\n" + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in keys.items()
        )

    def ctl(self, *words, timeout=30, prefix=(), stdin=subprocess.DEVNULL):
        """udpproxyctl to its end."""
        return subprocess.run(
            [*prefix, ctl_path(), "--socket", self.socket, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=stdin,
        )

    def shown(self, *words, **options):
        """Its output; it must succeed."""
        done = self.ctl(*words, **options)
        assert done.returncode == 0, (
            f"udpproxyctl {' '.join(map(str, words))}: exit {done.returncode}\n"
            f"{done.stdout}{done.stderr}"
        )
        return done.stdout

    def json(self, *words, **options):
        return json.loads(self.shown("--json", *words, **options))

    @contextlib.contextmanager
    def connected(self, tcp=False, timeout=20):
        """A connection to the admin socket, or over TCP: to HTTP_ENDPOINT, or the one given."""
        if tcp:
            host, port = (HTTP_ENDPOINT if tcp is True else tcp).split(":")
            with self._namespace.inside():
                opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            name = (host, int(port))
        else:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            name = self.socket
        with opened:
            # Non-blocking, a connect to a Unix socket fails where a full backlog would make it
            # wait.
            opened.settimeout(timeout if tcp else None)
            opened.connect(name)
            opened.settimeout(timeout)
            yield opened

    def http(self, path, method="GET", tcp=False, headers=None, body=None):
        """(status, headers, body) of one request."""
        with self.connected(tcp) as opened:
            connection = http.client.HTTPConnection("localhost")
            connection.sock = opened
            connection.request(
                method, path, body=body, headers={"Connection": "close", **(headers or {})}
            )
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()


def parse_metrics(text):
    """{(name, (label, value)...): number} of a text exposition."""
    values = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, number = line.rpartition(" ")
        labels = ()
        if "{" in name:
            name, _, inside = name[:-1].partition("{")
            labels = tuple(
                sorted(
                    (key, value.strip('"'))
                    for key, _, value in (pair.partition("=") for pair in inside.split(","))
                )
            )
        values[(name, labels)] = float(number)
    return values
