"""--check-config on a machine where the file is right and the start would fail, or serve nobody all
the same: each case is checked, and then started, which must agree.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream

Once the check looked at the text alone. An operator who ran it before a restart was told that all
was good, and found the service down.
"""

import pytest

from harness.namespaces import Network
from harness.process import injecting
from harness.program import configuration, run_once, table
from harness.topology import IPV4, IPV6
from harness.users import several_users
from harness.without_family import prefix as without_family

_UPSTREAM = IPV4.service(254)


@pytest.fixture
def network():
    with Network.of_three() as made:
        yield made


@pytest.fixture
def check(network, tmp_path):
    """check(keys...) -> (exit code, stderr). What is checked is in .text."""

    class Check:
        text = ""

        def __call__(self, head="", engine="auto", shards=2, prefix=(), **keys):
            keys = {"listen": IPV4.listener(), "upstream": _UPSTREAM, **keys}
            self.text = configuration(table(**keys), engine=engine, shards=shards, head=head)
            file = tmp_path / "checked.toml"
            file.write_text(self.text, encoding="utf-8")
            command = [*network.proxy.command(), *prefix]
            done = run_once("--check-config", "--config", file, prefix=command)
            assert all(line.startswith(f"{file}: ") for line in done.stderr.splitlines()), done
            assert ("configuration is good" in done.stdout) == (done.returncode == 0)
            return done.returncode, done.stderr

        def is_refused(self, start_proxy, word, prefix=(), **arguments):
            """The check says why with the word, and the start ends too."""
            code, told = self(prefix=prefix, **arguments)
            assert code == 78 and word in told and "(a warning)" not in told, told
            proxy = start_proxy(self.text, prefix=prefix, ready=False)
            assert proxy.wait() == 1, proxy.text()

        def warns(self, word, **arguments):
            code, told = self(**arguments)
            assert code == 0 and len(told.splitlines()) == 1, told
            assert word in told and told.endswith(" (a warning)\n"), told

    return Check()


def _hold(start_process, network, address, kind="SOCK_DGRAM", family="AF_INET", more=""):
    program = (
        f"import socket, time; s = socket.socket(socket.{family}, socket.{kind}); "
        f"s.bind({address!r}); {more}print('bound', flush=True); time.sleep(60)"
    )
    holder = start_process(["/usr/bin/python3", "-c", program], network.proxy)
    holder.wait_until(lambda: "bound" in holder.lines, what="bound")
    return holder


def test_nothing_is_said_of_a_host_where_all_is_well(engine, check, tmp_path):
    head = f'[log]\nfile = "{tmp_path}/log"\n[admin]\nsocket = "{tmp_path}/admin.sock"\n'
    head += 'group = "root"\nlisten = "127.0.0.1:9090"\n'
    assert check(head=head, engine=engine) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checked.toml"]


@pytest.mark.parametrize(
    "head, word",
    [
        ('[admin]\nsocket = ""\ngroup = "nobodies"\n', 'admin.group "nobodies": there is no such'),
        ('[admin]\nsocket = "/nowhere/at/all"\n', "there is no directory /nowhere/at"),
        ('[admin]\nsocket = "/etc/passwd"\n', "is there, and no socket"),
        ('[log]\nfile = "/nowhere/at/all"\n', "there is no directory /nowhere/at"),
        ('[log]\nfile = "/etc"\n', 'log.file "/etc": Is a directory'),
    ],
    ids=["group", "folder", "file", "log folder", "log is folder"],
)
def test_what_a_start_cannot_open_is_an_error(engine, check, start_proxy, head, word):
    check.is_refused(start_proxy, word, head=head, engine=engine)


def test_a_directory_that_the_service_manager_makes_is_a_warning(check):
    head = '[admin]\nsocket = "/run/not-yet/admin.sock"\n'
    check.warns("unless the service manager makes it", head=head)


@several_users
def test_what_only_this_user_may_not_is_a_warning_that_names_the_user(check, tmp_path):
    """The check is often run by another user than the service's."""
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:-1]:
        if parent.owner() == "root" and not parent.stat().st_mode & 0o001:
            parent.chmod(0o711)
    as_nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
    check.warns(
        "Permission denied to user nobody",
        head=f'[admin]\nsocket = "{closed}/admin.sock"\n',
        prefix=as_nobody,
    )
    check.warns("(user nobody) lacks", listen=IPV4.listener(53), prefix=as_nobody)


def test_io_uring_that_is_demanded_and_forbidden_is_an_error(check, start_proxy, tmp_path):
    refused = injecting("io_uring_setup", "error=EPERM", tmp_path)
    check.is_refused(start_proxy, "io_uring is refused", engine="io_uring", prefix=refused)
    for engine in ("auto", "epoll"):
        assert check(engine=engine, prefix=refused) == (0, "")


@pytest.mark.parametrize("call", ["io_uring_register", "io_uring_enter"])
def test_the_ring_is_tried_as_the_start_tries_it(call, check, start_proxy, tmp_path):
    """Of a profile that lets a ring be made and nothing done with it: the probe's first wait ended
    the program with an assertion, also where the engine was "auto"."""
    refused = injecting(call, "error=EPERM", tmp_path)
    check.is_refused(start_proxy, "io_uring is refused", engine="io_uring", prefix=refused)
    assert check(engine="auto", prefix=refused) == (0, "")
    started = start_proxy(check.text, prefix=refused).wait_event("engine")
    assert started["engine"] == "epoll" and call in started["reason"]


def test_a_soft_limit_of_descriptors_does_not_forbid_the_ring(check):
    """The start raises it, and the trial's table of files is as large as the start's."""
    if check(engine="io_uring") != (0, ""):
        pytest.skip("this machine has no io_uring")
    assert check(engine="io_uring", prefix=("prlimit", "--nofile=256:20000")) == (0, "")


def test_an_ipv6_listener_without_ipv6_is_an_error_and_every_address_is_a_warning(
    engine, check, start_proxy
):
    without = without_family("AF_INET6", "EAFNOSUPPORT")
    listen = IPV6.listener()
    check.is_refused(
        start_proxy, "this kernel has no IPv6", listen=listen, engine=engine, prefix=without
    )
    check.warns("only IPv4 clients are served", listen=":5353", engine=engine, prefix=without)


def test_a_limit_of_descriptors_that_leaves_room_for_two_sessions_is_a_warning(
    engine, check, start_proxy
):
    """An unlimited number was asked for, two clients were served, and only an info line told."""
    few = ("prlimit", "--nofile=100")
    keys = {"engine": engine, "shards": 1, "prefix": few}
    word = " sessions at most, for want of descriptors: (100 descriptors - "
    assert check(sessions_max=2, **keys) == (0, ""), "asked for"
    check.warns(word, **keys)
    proxy = start_proxy(check.text, prefix=few)
    told = proxy.wait_event("few_sessions", level="warn")
    assert word in told["reason"] and int(told["sessions"]) < 20


def test_few_sessions_for_want_of_address_space_are_not_blamed_on_descriptors(
    engine, check, start_proxy
):
    little = ("prlimit", f"--as={750_000_000}")
    code, told = check(engine=engine, shards=1, prefix=little)
    assert code == 0 and "address space is short" in told.splitlines()[0]
    proxy = start_proxy(check.text, prefix=little)
    assert int(proxy.wait_event("small_tables")["descriptors"]) < 2000
    assert proxy.all_events("few_sessions") == []


def test_a_ledger_without_address_space_is_a_warning(engine, check, start_proxy):
    """The tables fit, and what sessions go on with after a death does not: the start failed."""
    little = ("prlimit", f"--as={2_500_000_000}", "--nofile=20000:20000")
    word = "no address space for the ledger (2186 MB)"
    check.warns(word, engine=engine, shards=1, prefix=little)
    proxy = start_proxy(check.text, prefix=little)
    assert proxy.wait_event("no_ledger", level="warn")["reason"] == f"RLIMIT_AS leaves {word}"
    assert proxy.all_events("small_tables") == []


def test_a_port_that_another_program_holds_is_a_warning_with_its_name(
    engine, check, network, start_process, start_proxy
):
    holder = _hold(start_process, network, ("10.1.0.1", 5353))
    shown = f"is held by python3 (process {holder.pid}) at 10.1.0.1:5353"
    check.warns(shown, engine=engine)
    check.warns(shown, listen="0.0.0.0:5353", engine=engine)
    assert check(listen=IPV4.listener(5354), engine=engine) == (0, "")
    assert check(listen="10.0.0.1:5353", engine=engine) == (0, "")
    check(engine=engine)
    assert start_proxy(check.text, ready=False).wait() == 1


def test_an_ipv6_socket_on_every_address_holds_the_port_of_ipv4_too(
    engine, check, network, start_process, start_proxy
):
    """A dual-stack socket stands in /proc/net/udp6 alone; the failed bind named nobody."""
    holder = _hold(start_process, network, ("::", 5353), family="AF_INET6")
    shown = f"python3 (process {holder.pid})"
    check.warns(f"{shown} holds [::]:5353; unless that socket is for IPv6 alone", engine=engine)
    proxy = start_proxy(check.text, ready=False)
    assert proxy.wait() == 1
    assert proxy.wait_event("failed")["reason"].endswith(f"(held by {shown})")


def test_an_admin_address_that_is_taken_is_a_warning(check, network, start_process):
    holder = _hold(
        start_process, network, ("127.0.0.1", 9090), kind="SOCK_STREAM", more="s.listen(); "
    )
    head = '[admin]\nlisten = "127.0.0.1:9090"\n'
    check.warns(
        f"admin.listen 127.0.0.1:9090: is held by python3 (process {holder.pid})", head=head
    )
    head = '[admin]\nlisten = "127.0.0.99:9090"\n'
    assert check(head=head) == (0, "")


def test_beside_the_running_program_the_check_passes_and_names_it(
    engine, check, start_proxy, admin
):
    """Before a reload: what holds the ports is what will be reloaded. One line tells of all."""
    listen = [IPV4.listener(5353 + number) for number in range(3)]
    keys = {"listen": listen, "engine": engine, "head": admin.section(socket="")}
    assert check(**keys) == (0, "")
    proxy = start_proxy(check.text)
    code, told = check(**keys)
    lines = told.splitlines()
    assert code == 0 and len(lines) == 1, told
    assert (
        f"listen {listen[0]} and 2 more: is held by udpproxy (process {proxy.pid}); a reload or "
        "restart of it takes the file; another start beside it fails (a warning)" in lines[0]
    )
    assert proxy.stop().drops() == {}
