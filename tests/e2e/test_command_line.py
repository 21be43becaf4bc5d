"""The command line and its exit codes: 0 ok, 1 failure at run time, 2 wrong usage, 78 wrong
configuration. No network but loopback."""

import pathlib
import re
import signal
import socket
import subprocess

import pytest

from harness.admin import ctl_path
from harness.program import REPOSITORY, configuration, path, run_once, table

_GOOD = table(
    name="dns",
    listen="10.1.0.1:5353",
    upstream="10.0.0.254:53",
    reply_aliases=["10.0.0.253:53"],
    offload="auto",
)


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="udpproxy.toml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


def test_version_names_the_version_and_what_this_kernel_supports():
    done = run_once("--version")
    assert done.returncode == 0
    assert re.match(r"udpproxy \d+\.\d+", done.stdout)
    assert "io_uring" in done.stdout and "epoll" in done.stdout


def test_help_names_every_option():
    done = run_once("--help")
    assert done.returncode == 0
    assert all(
        option in done.stdout
        for option in (
            "--config",
            "--check-config",
            "--from-caddyfile",
            "--doctor",
            "--json",
            "--probe",
            "--probe-proxy",
            "--version",
            "--help",
        )
    )


@pytest.mark.parametrize(
    "arguments",
    ["", "--no-such-option", "--config", "--check-config", "surplus", "--config a --config b"],
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(arguments):
    done = run_once(*arguments.split())
    assert done.returncode == 2
    assert done.stderr.strip()


_ONE_PROXY = "--listen 10.1.0.1:5353 --upstream 10.0.0.254:53 --reply-alias 10.0.0.253:53"


@pytest.mark.parametrize(
    "arguments",
    [
        f"{_ONE_PROXY} --config a",
        f"{_ONE_PROXY} --upstream 10.0.0.254:54",
        f"{_ONE_PROXY} surplus",
        "--config a --print-config",
        "--print-config",
        f"{_ONE_PROXY} --print-config --check-config",
        f"{_ONE_PROXY} --print-config --doctor",
    ],
)
def test_one_proxy_by_options_and_a_file_exclude_each_other(arguments):
    done = run_once(*arguments.split())
    assert done.returncode == 2 and done.stderr.strip() and not done.stdout


def test_one_proxy_by_options_prints_the_file_that_says_the_same(write):
    options = f"{_ONE_PROXY} --name dns --set offload=auto".split()
    printed = run_once(*options, "--print-config")
    assert (printed.returncode, printed.stderr) == (0, "")
    checked = run_once("--check-config", "--config", write(printed.stdout))
    by_options = run_once(*options, "--check-config")
    assert checked.returncode == by_options.returncode == 0
    summary = checked.stdout.splitlines()[:-1]
    assert summary == by_options.stdout.splitlines()[:-1]
    assert by_options.stdout.splitlines()[-1] == "command line: configuration is good"


def test_a_wrong_option_is_named_in_the_complaint():
    done = run_once(*_ONE_PROXY.split(), "--set", "idle_timeout=5x")
    assert done.returncode == 78
    assert done.stderr.startswith('--set idle_timeout: proxy "udpproxy": idle_timeout: "5x"')


def test_one_proxy_by_options_serves_and_has_nothing_to_reload(start_process):
    asked, answers = "127.0.0.254", "127.0.0.253"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        service.bind((asked, 15353))
        member.bind((answers, 15353))
        options = f"--listen 127.0.0.1:15353 --upstream {asked}:15353 --reply-alias {answers}"
        proxy = start_process([path(), *options.split()], None)
        proxy.wait_until(lambda: "event=ready" in proxy.text(), what="ready")
        proxy.signal(signal.SIGHUP)
        proxy.wait_until(lambda: "event=not_reloaded" in proxy.text(), what="not_reloaded")
        assert "there is no file: the configuration is the command line" in proxy.text()
        assert 'event=not_reloaded config="command line"' in proxy.text()
        for each in (service, client):
            each.settimeout(20)
        client.sendto(b"question", ("127.0.0.1", 15353))
        question, session = service.recvfrom(100)
        member.sendto(b"answer to " + question, session)
        assert client.recvfrom(100) == (b"answer to question", ("127.0.0.1", 15353))
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(20) == 0


_CONNECTED = 'alias_filter = "connected"\n'
# name: (the file, where, a word of the complaint). _GOOD has [[proxy]], name, listen, upstream,
# reply_aliases, offload in lines 1 to 6.
_WRONG = {
    "no port": (_GOOD.replace("10.0.0.254:53", "10.0.0.254"), "4:12", "port"),
    "unknown key": (_GOOD.replace("reply_aliases", "reply_alias"), "5:1", "reply_aliases"),
    "unknown word": (_GOOD + 'alias_filter = "conected"\n', "7:16", "connected"),
    "number out of range": (_GOOD + "sessions_max = 0\n", "7:16", "sessions_max"),
    "connected prefix": (
        _GOOD.replace("10.0.0.253:53", "10.0.0.0/24:53") + _CONNECTED,
        None,
        "alias_filter",
    ),
    "connected any port": (
        _GOOD.replace("10.0.0.253:53", "10.0.0.253:*") + _CONNECTED,
        None,
        "alias_filter",
    ),
    "alias of the other family": (
        _GOOD.replace("10.0.0.253:53", "[fd00::253]:53"),
        "5:18",
        "reply_aliases",
    ),
    "syntax": (_GOOD + "sessions_max = \n", None, ""),
}


@pytest.mark.parametrize(
    "option", [["--config"], ["--check-config", "--config"], ["-t", "--config"]], ids=" ".join
)
@pytest.mark.parametrize("name", _WRONG)
def test_wrong_configuration_exits_78_and_says_where_and_what_would_be_right(write, option, name):
    text, position, word = _WRONG[name]
    file = write(text)
    done = run_once(*option, file)
    assert done.returncode == 78
    assert re.search(
        rf"^{re.escape(str(file))}:{position or '[0-9]+:[0-9]+'}: .*{word}",
        done.stderr,
        re.MULTILINE,
    ), done.stderr


def test_all_complaints_of_meaning_come_at_once(write):
    file = write(
        '[runtime]\nengine = "epol"\nshrads = 2\n[[proxy]]\nname = "dns"\nlisten = "10.1.0.1"\n'
        'upstream = "10.0.0.254:0"\n'
    )
    done = run_once("--config", file)
    assert done.returncode == 78
    lines = [line for line in done.stderr.splitlines() if line.startswith(str(file))]
    assert [line.split(":")[1] for line in lines] == ["2", "3", "6", "7"]
    assert '"dns"' in lines[2] and '"dns"' in lines[3]


def test_a_file_that_is_not_there_exits_78_and_is_named(tmp_path):
    done = run_once("--config", tmp_path / "missing.toml")
    assert done.returncode == 78
    assert str(tmp_path / "missing.toml") in done.stderr and "No such file" in done.stderr


@pytest.mark.parametrize("option", ["--check-config", "-t"])
def test_check_config_prints_a_summary(write, option):
    done = run_once(option, "--config", write(configuration(_GOOD)))
    assert done.returncode == 0, done.stderr
    assert all(
        word in done.stdout for word in ("dns", "10.1.0.1:5353", "10.0.0.254:53", "10.0.0.253")
    )


def test_check_config_binds_nothing(network, start_one):
    """It finds nothing wrong with a file whose address another instance holds."""
    proxy = start_one()
    prefix = network.proxy.command()
    assert (
        run_once("--check-config", "--config", proxy.configuration_file, prefix=prefix).returncode
        == 0
    )


def test_the_example_passes_the_check():
    example = pathlib.Path(REPOSITORY / "udpproxy.toml.example")
    done = run_once("--check-config", "--config", example)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.254:12345" in done.stdout


@pytest.mark.parametrize(
    "words, told",
    [
        ("sesions", 'there is no command "sesions"; did you mean sessions?'),
        ("--json stat", 'there is no command "stat"; did you mean status?'),
        ("--socket sessions sesions", 'there is no command "sesions"; did you mean sessions?'),
        ("session kil 3", 'there is no command "kil"; did you mean kill?'),
        ("log lvl", 'there is no command "lvl"; there is level'),
        ("xyzzy", 'there is no command "xyzzy"; there are status, proxies, unlisted, drops, '),
        ("", "a command is missing; there are status, proxies, "),
        ("session", "a command is missing; there is kill"),
        ("sessions --clint 10.0.0.1", 'there is no option "--clint"; did you mean --client?'),
        ("--jsn status", 'there is no option "--jsn"; did you mean --json?'),
        ("session kill abc", 'ID: "abc" is not the number of a session; `udpproxyctl sessions`'),
        ("session kill -1", ""),
        ("log level inf", 'LEVEL: there is no level "inf"; did you mean info?'),
        ("sessions --sort age_", '--sort: there is no order "age_"; did you mean age?'),
        ("trace --client 10.0.0.1 --datagrams x", '--datagrams: "x" is not a number from 1 on'),
        ("trace --client 10.0.0.1 --datagrams 0", '--datagrams: "0" is not a number from 1 on'),
    ],
)
def test_a_word_that_udpproxyctl_does_not_know_is_told_with_the_one_that_was_meant(words, told):
    """It said `A subcommand is required` to a mistyped command, and 309 digits to `kill abc`."""
    done = subprocess.run([ctl_path(), *words.split()], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(told) and len(done.stderr) < 250, done.stderr


@pytest.mark.parametrize("words", ["--confg x", "--confg=x", "-t --config x --confg"])
def test_an_option_that_udpproxy_does_not_know_is_told_with_the_one_that_was_meant(words):
    done = run_once(*words.split())
    assert done.returncode == 2
    assert done.stderr.startswith('there is no option "--confg"; did you mean --config?'), done
