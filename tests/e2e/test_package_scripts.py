"""What Debian's package does to running programs: its maintainer scripts as dpkg calls them, with a
stand-in for systemctl. The tools between, deb-systemd-invoke and policy-rc.d, are Debian's own.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service
                       /run/udpproxy/admin.sock, /run/udpproxy-dns/admin.sock
"""

import pathlib
import shutil
import subprocess

import pytest

from harness import program
from harness.program import REPOSITORY, configuration, install, table
from harness.service import echo
from harness.topology import IPV4

_LISTENER, _SERVICE = IPV4.listener(), IPV4.service(254)
_SYSTEMD = pathlib.Path("/run/systemd/system")
_SYSTEMCTL = """#!/bin/sh
echo "$@" >>{directory}/asked
case " $* " in *" list-units "*) cat {directory}/units ;; esac
"""

pytestmark = pytest.mark.skipif(
    not shutil.which("deb-systemd-invoke"), reason="deb-systemd-invoke is not installed"
)


class Machine:
    """A machine whose systemd says that these units run."""

    def __init__(self, directory):
        self._directory = directory
        self._tools = directory / "tools"
        self._policy = directory / "policy"
        for made in (self._tools, self._policy):
            made.mkdir()
        self._write(self._tools / "systemctl", _SYSTEMCTL.format(directory=directory))
        (self._tools / "udpproxyctl").symlink_to(
            pathlib.Path(program.path()).parent / "udpproxyctl"
        )
        self.policy(0)
        self.runs()
        _SYSTEMD.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def _write(path, text):
        path.write_text(text)
        path.chmod(0o755)

    def policy(self, code):
        """What policy-rc.d answers; 101 forbids."""
        self._write(self._policy / "policy-rc.d", f"#!/bin/sh\nexit {code}\n")

    def runs(self, *units):
        lines = [f"{unit} loaded active running UDP reverse proxy\n" for unit in units]
        (self._directory / "units").write_text("".join(lines))

    def script(self, name, *words):
        """What it prints, and what systemctl was told but for the list of units."""
        asked = self._directory / "asked"
        asked.write_text("")
        put_policy = f"mount -t overlay none -o lowerdir={self._policy}:/usr/sbin /usr/sbin"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", f'{put_policy} && exec "$@"', "sh"]
            + ["env", f"PATH={self._tools}:/usr/sbin:/usr/bin:/sbin:/bin"]
            + ["sh", REPOSITORY / "debian" / f"udpproxy.{name}", *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told = asked.read_text().splitlines()
        return done.stdout, [line for line in told if " list-units " not in line]


@pytest.fixture(name="machine")
def _machine(tmp_path):
    yield Machine(tmp_path)
    shutil.rmtree(_SYSTEMD)


@pytest.fixture(name="start_unit")
def _start_unit(start_installed, open_service, open_client):
    """start_unit(socket's directory, port) runs the program, and returns it with a client that has
    a session."""
    open_service([_SERVICE], echo())

    def start(directory, port=5353, socket=None):
        pathlib.Path(directory).mkdir(exist_ok=True)
        socket = f"{directory}/admin.sock" if socket is None else socket
        proxy = start_installed(
            configuration(
                table(listen=IPV4.listener(port), upstream=_SERVICE),
                engine="epoll",
                head=f'[admin]\nsocket = "{socket}"\n',
            )
        )
        client = open_client()
        assert client.ask(b"before", IPV4.listener(port)).payload == b"before"
        return proxy, client

    return start


_RELOAD = "--system daemon-reload"


def test_a_newer_package_puts_its_program_in_the_place_of_the_running_one(
    machine, start_unit, installed
):
    proxy, client = start_unit("/run/udpproxy")
    machine.runs("udpproxy.service")
    install(program.path(), installed)
    said, told = machine.script("postinst", "configure", "0.1.0-1")
    assert said.startswith("udpproxy.service: upgraded: ") and ", 1 session adopted, 0 c" in said
    assert told == [_RELOAD]
    assert client.ask(b"after", _LISTENER).payload == b"after"
    assert len(proxy.all_events("adopted")) == 1
    proxy.stop()


def test_each_instance_is_upgraded_by_itself(machine, start_unit):
    (dns, _), (game, _) = start_unit("/run/udpproxy-dns"), start_unit("/run/udpproxy-a-game", 5454)
    machine.runs("udpproxy@dns.service", "udpproxy@a-game.service")
    said, told = machine.script("postinst", "configure", "0.1.0-1")
    assert [line.split(": ")[:2] for line in said.splitlines()] == [
        ["udpproxy@dns.service", "upgraded"],
        ["udpproxy@a-game.service", "upgraded"],
    ]
    assert told == [_RELOAD]
    for proxy in (dns, game):
        assert len(proxy.all_events("adopted")) == 1
        proxy.stop()


def test_where_the_upgrade_is_refused_the_unit_is_restarted_and_why_is_told(
    machine, start_unit, installed
):
    proxy, _ = start_unit("/run/udpproxy")
    machine.runs("udpproxy.service")
    install("/bin/false", installed)
    said, told = machine.script("postinst", "configure", "0.1.0-1")
    assert said.startswith("udpproxy.service is restarted: ")
    assert said.endswith(f" goes on: {installed}: its exit code is 1\n")
    assert told == [_RELOAD, "try-restart udpproxy.service"]
    proxy.stop()


def test_where_there_is_no_admin_socket_the_unit_is_restarted(machine, start_unit):
    proxy, _ = start_unit("/run/udpproxy", socket="")
    machine.runs("udpproxy.service")
    said, told = machine.script("postinst", "configure", "0.1.0-1")
    assert said == (
        "udpproxy.service is restarted: there is no admin socket at /run/udpproxy/admin.sock\n"
    )
    assert told == [_RELOAD, "try-restart udpproxy.service"]
    proxy.stop()


def test_what_does_not_run_is_not_started(machine):
    assert machine.script("postinst", "configure", "0.1.0-1") == ("", [_RELOAD])
    machine.runs("udpproxy.service")
    assert machine.script("postinst", "configure", "") == ("", [_RELOAD]), "a first installation"
    for action in ("abort-upgrade", "abort-remove", "abort-deconfigure"):
        assert machine.script("postinst", action, "0.1.0-1") == ("", [])


def test_a_machine_s_policy_is_kept(machine, start_unit):
    proxy, _ = start_unit("/run/udpproxy")
    machine.runs("udpproxy.service")
    machine.policy(101)
    assert machine.script("postinst", "configure", "0.1.0-1") == ("", [_RELOAD])
    assert not proxy.all_events("adopted")
    proxy.stop()


def test_without_systemd_nothing_is_asked(machine):
    """As in a container, or in an image that is being made."""
    machine.runs("udpproxy.service")
    _SYSTEMD.rmdir()
    assert machine.script("postinst", "configure", "0.1.0-1") == ("", [])
    assert machine.script("prerm", "remove") == ("", [])
    _SYSTEMD.mkdir()


def test_a_removal_ends_every_unit_and_an_upgrade_none(machine):
    """The package did the reverse: it stopped the service before an upgrade, never started it
    again, and left it running when it was removed."""
    stopped = ["stop udpproxy.service udpproxy@*.service"]
    assert machine.script("prerm", "remove") == ("", stopped)
    assert machine.script("prerm", "upgrade", "0.2.0-1") == ("", [])
    assert not (REPOSITORY / "debian" / "udpproxy.preinst").exists()
