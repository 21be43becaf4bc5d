"""The units for systemd: what systemd says of them, and the program under what they confine it to.
systemd itself does not run here (docs/operating.md says what that leaves open).

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 service
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

from harness import program, sandbox
from harness.admin import ctl_path
from harness.program import REPOSITORY, Proxy, run_once
from harness.sd_notify import Store
from harness.service import echo
from harness.topology import IPV4
from harness.users import several_users

_SHARE = REPOSITORY / "share"
_UNITS = ("udpproxy.service", "udpproxy@.service")


def _unit(name, bindir, sysconfdir):
    """As meson.build makes it."""
    text = (_SHARE / "systemd" / f"{name}.in").read_text(encoding="utf-8")
    service = (_SHARE / "systemd" / "service.conf").read_text(encoding="utf-8").strip()
    text = text.replace("@service@", service)
    return text.replace("@bindir@", str(bindir)).replace("@sysconfdir@", str(sysconfdir))


def _settings(text):
    """{key: [its values]} of [Service]."""
    found = {}
    for line in text.split("[Service]")[1].split("\n[")[0].splitlines():
        if re.match(r"\w", line):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def units(tmp_path):
    """A directory with the units, for a program that is there."""
    for name in _UNITS:
        text = _unit(name, pathlib.Path(program.path()).parent, tmp_path)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(_SHARE / "systemd" / "udpproxy.socket", tmp_path)
    return tmp_path


def _analyze(*words):
    return subprocess.run(
        ["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=60
    )


def _exposure(unit):
    done = _analyze("security", "--offline=yes", unit)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    return float(found[1])


def test_systemd_has_nothing_to_say_against_the_units(units):
    names = ("udpproxy.service", "udpproxy@.service", "udpproxy.socket")
    done = _analyze("verify", "--man=no", *(units / name for name in names))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_units_are_as_tight_as_the_documents_say(units):
    for name in _UNITS:
        assert _exposure(units / name) <= 1.5
    drop_in = _settings((_SHARE / "systemd" / "net-admin.conf").read_text(encoding="utf-8"))
    unit = units / "udpproxy.service"
    lines = [f"{key}={value}" for key, values in drop_in.items() for value in values]
    text = unit.read_text(encoding="utf-8").replace("[Install]", "\n".join([*lines, "[Install]"]))
    unit.write_text(text, encoding="utf-8")
    assert drop_in.keys() == {"CapabilityBoundingSet", "AmbientCapabilities"}
    assert _exposure(unit) <= 1.6


def test_the_unit_restarts_what_may_heal_and_nothing_else():
    settings = _settings(_unit("udpproxy.service", "/usr/bin", "/etc"))
    assert settings["Restart"] == ["always"]
    assert settings["RestartPreventExitStatus"] == ["2 78"]
    assert settings["Type"] == ["notify"]
    assert settings["Environment"] == [f"FDSTORE={settings['FileDescriptorStoreMax'][0]}"]


def test_the_limits_of_the_unit_are_enough_for_a_ring_for_every_shard():
    """With systemd's own limit of locked memory, machines of many CPUs got epoll."""
    settings = _settings(_unit("udpproxy.service", "/usr/bin", "/etc"))
    (limit,) = settings["LimitMEMLOCK"]
    shards_max, bytes_of_a_shard = 1024, 450 << 10  # docs/configuration.md
    assert int(limit.removesuffix("M")) << 20 >= shards_max * bytes_of_a_shard


def test_a_user_is_made_for_the_service(tmp_path):
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", _SHARE / "systemd" / "sysusers.conf"],
        check=True,
        timeout=30,
    )
    (line,) = (tmp_path / "etc" / "passwd").read_text(encoding="utf-8").splitlines()
    assert line.startswith("udpproxy:x:") and line.endswith(
        ":UDP reverse proxy:/:/usr/sbin/nologin"
    )
    assert "udpproxy:x:" in (tmp_path / "etc" / "group").read_text(encoding="utf-8")


def test_the_file_of_an_installation_starts_nothing_and_says_why(tmp_path):
    file = _SHARE / "udpproxy.toml"
    done = run_once("--config", file)
    assert done.returncode == 78
    assert done.stderr == (
        f"{file}:1:1: proxy: there is none; write at least one [[proxy]] with name, listen and "
        "upstream\n"
    )
    example = re.sub(r"^#(?! |$)", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    written = tmp_path / "udpproxy.toml"
    written.write_text(example, encoding="utf-8")
    done = run_once("--check-config", "--config", written)
    assert done.returncode == 0, done.stderr


class _Confined(Proxy):
    close = Proxy.kill


@pytest.fixture
def place():
    """A directory that every user may look into, where a unit's program and file are."""
    with tempfile.TemporaryDirectory(dir="/run") as name:
        made = pathlib.Path(name)
        made.chmod(0o755)
        for path in (program.path(), ctl_path()):
            shutil.copy(path, made)
        shutil.copy(sandbox.__file__, made / "sandbox.py")
        (made / "etc" / "udpproxy").mkdir(parents=True)
        (made / "runtime").mkdir()
        shutil.chown(made / "runtime", "nobody", "nogroup")
        yield made


@several_users
def test_the_program_serves_under_the_very_filter_and_bounds_of_the_unit(
    engine, network, place, closing, monkeypatch, open_service, open_client, admin
):
    """Its user is not root, its port is below 1024; pinning and a change of group are refused."""
    open_service([IPV4.service(254)], echo())
    monkeypatch.setenv("UDPPROXY", str(place / "udpproxy"))
    settings = _settings(_unit("udpproxy.service", place, place / "etc"))
    prefix = sandbox.confining(settings, place / "sandbox.py")
    told = closing(Store(place / "notify", size=int(settings["FileDescriptorStoreMax"][0])))
    environment = dict(line.split("=") for line in settings["Environment"])
    (place / "notify").chmod(0o777)  # as /run/systemd/notify
    admin.socket = str(place / "runtime" / "admin.sock")
    text = program.configuration(
        program.table(listen=IPV4.listener(53), upstream=IPV4.service(254)),
        engine=engine,
        head=f'cpu_pinning = true\n[admin]\nsocket = "{admin.socket}"\ngroup = "nogroup"\n',
    )
    start = lambda: closing(
        _Confined(
            namespace=network.proxy,
            text=text,
            directory=place / "etc" / "udpproxy",
            prefix=[*told.start(**environment), *prefix],
            ready=False,
        )
    )
    proxy = start()
    assert [settings[key] for key in ("NotifyAccess", "KillMode", "OOMPolicy")] == [
        ["main"],
        ["mixed"],
        ["continue"],
    ]
    assert settings["ExecStart"] == [" ".join(proxy.words[-3:])]
    told.wait(READY="1")
    assert proxy.wait_event("engine")["engine"] == engine
    assert open_client().ask(b"x", IPV4.listener(53)).payload == b"x"

    status = pathlib.Path(f"/proc/{proxy.worker_pid}/status").read_text(encoding="ascii")
    told_of = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert told_of["NoNewPrivs"] == "1" and told_of["Seccomp"] == "2"
    assert told_of["CapEff"] == told_of["CapBnd"] == f"{1 << 10:016x}"
    assert os.stat(admin.socket).st_mode & 0o777 == 0o660

    check, hang_up = settings["ExecReload"]
    done = run_once(*check.split()[1:], prefix=network.proxy.command(*prefix))
    assert (done.returncode, check.split()[0]) == (0, program.path()), done.stderr
    assert hang_up == "/bin/kill -HUP $MAINPID"
    proxy.signal(signal.SIGHUP)
    proxy.wait_event("reloaded")
    told.wait(READY="1", count=2)
    assert admin.ctl("status").returncode == 0
    assert "buffers" in admin.ctl("doctor").stdout

    executed = os.stat(f"/proc/{proxy.pid}/exe").st_ino
    program.install(program.path(), place / "udpproxy")
    assert "1 session adopted, 0 closed" in admin.shown("upgrade")
    assert os.stat(f"/proc/{proxy.pid}/exe").st_ino != executed
    told.wait(READY="1", count=3)
    assert {message["pid"] for message in told.all()} == {proxy.pid}
    client = open_client()
    assert client.ask(b"y", IPV4.listener(53)).payload == b"y"
    assert proxy.stop().drops() == {}
    told.wait(STOPPING="1")

    proxy = start()
    restarted = proxy.wait_event("adopted")
    assert (restarted["reason"], restarted["sessions"]) == ("restart", "2")
    assert client.ask(b"z", IPV4.listener(53)).payload == b"z"
    assert proxy.stop().drops() == {}
