"""Programs of two commits take each other's place under load: the one of this tree, and older ones,
which are built from this repository's history and told apart by a version of their own.

    client 10.1.0.2 ── 10.1.0.1:5353 proxy 10.0.0.1 ── 10.0.0.254:53 upstream, .253 .252 aliases
"""

import pathlib
import re
import subprocess
import tarfile

import pytest

from harness import program
from harness.kernel import Watch
from harness.load import NEVER
from harness.program import REPOSITORY, configuration, install, table
from harness.topology import IPV4

_SOURCES = [IPV4.service(254), IPV4.service(253), IPV4.service(252)]
_CLIENTS, _RATE = 500, 4000
_VERSION = program.run_once("--version").stdout.split()[1]
_OLD_VERSION = "0.0.1"
# The first program that goes on with everything, and has `udpproxyctl upgrade`.
_FIRST = "d83786b91e"
_BEFORE_THE_LAST_CHANGE = "before the last change"
_FORM_LINE = re.compile(r"(ledger_form = )(\d+);")
_FORM_FILE = pathlib.Path("include/udpproxy/ledger/ledger.hpp")
_BUILD_SECONDS_MAX = 1500

pytestmark = [pytest.mark.long, pytest.mark.bound(_BUILD_SECONDS_MAX + 120)]


def _git(*words):
    """Its output; without the history the test is skipped."""
    done = subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, timeout=60)
    if done.returncode != 0:
        pytest.skip(f"no history here: git {words[0]}: {done.stderr.decode().strip()}")
    return done.stdout


def _form_in(text):
    return int(_FORM_LINE.search(text)[2])


def _commit(name):
    """A whole hash. A change of what is not the program makes no other program."""
    if name == _BEFORE_THE_LAST_CHANGE:
        changed = _git("log", "-n", "1", "--format=%H", "--", "src", "include").decode().strip()
        name = f"{changed}^"
    return _git("rev-parse", "--verify", f"{name}^{{commit}}").decode().strip()


def _build(commit, form=None, unknown_key=None):
    """The program of a commit with a version of its own, and perhaps another form of the ledger, or
    without a key of the configuration; from the last run if it is still there."""
    change = form or unknown_key or "as-it-was"
    directory = REPOSITORY / "build" / "older" / f"{commit}-{change}"
    if (directory / "done").exists():
        return directory / "build" / "udpproxy"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "source.tar").write_bytes(_git("archive", commit))
    with tarfile.open(directory / "source.tar") as archive:
        archive.extractall(directory)
    description = directory / "meson.build"
    text = re.sub(r"version: '[^']+'", f"version: '{_OLD_VERSION}'", description.read_text(), 1)
    description.write_text(text)
    if form:
        file = directory / _FORM_FILE
        file.write_text(_FORM_LINE.sub(rf"\g<1>{form};", file.read_text()))
    for file in (directory / "src" / "config").glob("*.cpp") if unknown_key else ():
        file.write_text(file.read_text().replace(f'"{unknown_key}"', '"renamed"'))
    options = ["--buildtype=release", "-Dtests=false", "-Dbenchmarks=disabled"]
    for words in (
        ["meson", "setup", "--reconfigure", *options, directory / "build", directory],
        ["ninja", "-C", directory / "build", "udpproxy"],
    ):
        if words[0] == "meson" and not (directory / "build" / "build.ninja").exists():
            words.remove("--reconfigure")
        done = subprocess.run(words, capture_output=True, text=True, timeout=_BUILD_SECONDS_MAX)
        assert done.returncode == 0, done.stdout + done.stderr
    (directory / "done").touch()
    return directory / "build" / "udpproxy"


@pytest.fixture(name="older", params=[_FIRST, _BEFORE_THE_LAST_CHANGE])
def _older(request):
    commit = _commit(request.param)
    form = _form_in(_git("show", f"{commit}:{_FORM_FILE}").decode())
    if form != _form_in((REPOSITORY / _FORM_FILE).read_text()):
        pytest.skip(f"the ledger of {commit} has form {form}")
    return _build(commit)


@pytest.fixture(name="of_another_form")
def _of_another_form():
    return _build(_commit("HEAD"), form=77)


@pytest.fixture(name="without_dscp")
def _without_dscp():
    return _build(_commit("HEAD"), unknown_key="dscp")


def _text(engine, admin):
    return configuration(
        table(
            name="main",
            listen=IPV4.listener(),
            upstream=_SOURCES[0],
            reply_aliases=_SOURCES[1:],
            unlisted_replies="off",
            idle_timeout="10m",
            unassured_timeout="10m",
        ),
        engine=engine,
        head=admin.section(),
    )


def _sessions(admin):
    """{client: the local endpoint of its session}"""
    found = admin.json("sessions", "--limit", 2 * _CLIENTS)["sessions"]
    return {session["client"]: session["local_endpoint"] for session in found}


def test_an_older_program_a_newer_one_and_the_older_one_again(
    engine, network, older, installed, start_installed, start_load, admin, figures
):
    service = start_load("serve", at=_SOURCES, answer_from="random")
    install(older, installed)
    proxy = start_installed(_text(engine, admin))
    assert proxy.wait_event("starting")["version"] == _OLD_VERSION
    asking = start_load(
        *("ask",),
        from_=IPV4.client_host,
        to=IPV4.listener(),
        clients=_CLIENTS,
        rate=_RATE,
        seconds=20,
        warm=True,
        patience=5,
    )
    asking.wait_event("asking", timeout=60)
    watch = Watch(network)
    sessions = _sessions(admin)
    assert len(sessions) == _CLIENTS
    pauses = []
    for file, before, after in [
        (program.path(), _OLD_VERSION, _VERSION),
        (older, _VERSION, _OLD_VERSION),
        (program.path(), _OLD_VERSION, _VERSION),
    ]:
        install(file, installed)
        outcome = admin.json("upgrade")
        assert (outcome["from_version"], outcome["version"]) == (before, after), outcome
        assert (outcome["sessions_adopted"], outcome["sessions_closed"]) == (_CLIENTS, 0), outcome
        assert proxy.all_events("starting")[-1]["version"] == after
        assert _sessions(admin) == sessions
        pauses.append(outcome["pause_ms"])
    result = asking.result(60)
    figures.count(result)
    figures.tell(
        "two versions take each other's place under load: nothing is lost, every port is kept",
        f"{_OLD_VERSION} -> {_VERSION} -> {_OLD_VERSION} -> {_VERSION}, {_CLIENTS} sessions: "
        f"{result['lost']} of {result['sent']} lost, pauses of "
        f"{', '.join(f'{pause:.0f}' for pause in pauses)} ms",
    )
    assert [result[name] for name in ("lost", *NEVER)] == [0] * (1 + len(NEVER)), result
    assert watch.losses() == {}
    assert [event["not_believed"] for event in proxy.all_events("adopted")] == ["0"] * 3
    service.stop()
    proxy.stop()


def test_a_program_of_another_form_says_no_and_nothing_happens(
    engine, of_another_form, installed, start_installed, start_load, admin
):
    start_load("serve", at=_SOURCES, answer_from="random")
    proxy = start_installed(_text(engine, admin))
    asking = start_load(
        *("ask",), from_=IPV4.client_host, to=IPV4.listener(), clients=50, rate=500, seconds=6
    )
    asking.wait_event("asking", timeout=60)
    proxy.wait_until(lambda: len(_sessions(admin)) == 50, what="sessions")
    sessions, worker = _sessions(admin), proxy.worker_pid
    install(of_another_form, installed)
    done = admin.ctl("upgrade")
    assert done.returncode == 1 and done.stderr == (
        f"udpproxyctl: not upgraded, {_VERSION} goes on: {installed}: "
        f"udpproxy {_OLD_VERSION} does not read sessions of form "
        f"{_form_in((REPOSITORY / _FORM_FILE).read_text())}\n"
    )
    assert proxy.worker_pid == worker and _sessions(admin) == sessions
    result = asking.result()
    assert [result[name] for name in ("lost", *NEVER)] == [0] * (1 + len(NEVER)), result
    proxy.stop()

    # The other way round: it runs, and this one says no.
    other = start_installed(_text(engine, admin))
    assert other.wait_event("starting")["version"] == _OLD_VERSION
    install(program.path(), installed)
    done = admin.ctl("upgrade")
    assert done.returncode == 1 and "does not read sessions of form 77" in done.stderr, done
    other.stop()


def test_what_is_in_force_is_asked_about_as_well_as_the_file(
    engine, without_dscp, installed, start_installed, start_load, admin
):
    """The file was changed so that the other version takes it, and no reload has brought that
    about: the other version said yes, and all sessions were lost."""
    start_load("serve", at=_SOURCES, answer_from="random")
    text = _text(engine, admin)
    proxy = start_installed(text.replace("idle_timeout", 'dscp = "clear"\nidle_timeout'))
    asking = start_load(
        *("ask",), from_=IPV4.client_host, to=IPV4.listener(), clients=50, rate=500, seconds=8
    )
    asking.wait_event("asking", timeout=60)
    proxy.wait_until(lambda: len(_sessions(admin)) == 50, what="sessions")
    sessions = _sessions(admin)
    proxy.configuration_file.write_text(text)
    install(without_dscp, installed)
    done = admin.ctl("upgrade")
    assert done.returncode == 1, done
    assert f"udpproxy {_OLD_VERSION} does not go on from what is in force: " in done.stderr
    assert "dscp" in done.stderr and _sessions(admin) == sessions
    admin.shown("reload")
    assert "50 sessions adopted, 0 closed" in admin.shown("upgrade")
    assert _sessions(admin) == sessions
    result = asking.result()
    assert [result[name] for name in ("lost", *NEVER)] == [0] * (1 + len(NEVER)), result
    proxy.stop()
