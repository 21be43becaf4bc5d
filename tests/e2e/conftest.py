"""Fixtures of the end-to-end tests: the engine, the network, and things that are closed when the
test ends.

Needs root or a user namespace of our own (`./dev test` sees to that), and the tools named in
_TOOLS. The program under test is $UDPPROXY, by default build/release/udpproxy.
"""

import ctypes
import errno
import os
import resource
import shutil
import signal

import pytest

from harness import figures as figures_table
from harness import load, program
from harness.admin import Admin
from harness.client import Client, Crowd
from harness.load import Load
from harness.namespaces import Network, isolate, remove_leftovers
from harness.process import Process
from harness.program import Proxy
from harness.service import Service
from harness.topology import IPV4

_TOOLS = ("ip", "setpriv", "prlimit", "strace", "unbound", "dig", "promtool")
_TEST_SECONDS_MAX = 90


def pytest_addoption(parser):
    parser.addoption(
        "--long", action="store_true", help="the tests marked long as well (./dev test --long)"
    )


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in set(long)]


def pytest_terminal_summary(terminalreporter):
    """What was promised, and the figure that stands behind it."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call"
    ]
    if lines := figures_table.table(reports):
        terminalreporter.section("promises")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_configure(config):
    """Side by side (-n), each worker has a network and a /run of its own, as tests/e2e/run made
    them."""
    if hasattr(config, "workerinput"):
        isolate()


def pytest_sessionstart(session):
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        pytest.exit(f"missing tools: {', '.join(missing)} (./dev setup installs them)", 2)
    if not os.access(program.path(), os.X_OK):
        pytest.exit(
            f"no program at {program.path()} (./dev build makes it, UDPPROXY names another)", 2
        )
    if not os.access(load.path(), os.X_OK):
        pytest.exit(
            f"no load tool at {load.path()} (./dev build makes it, UDPPROXY_LOAD names another)", 2
        )
    # Three thousand client sockets need more than the usual soft limit of 1024. The program raises
    # its own.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, _interrupt)  # so that fixtures end and namespaces go
    remove_leftovers()


def _interrupt(*_):
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def time_limit(request):
    """No test waits for ever: those that need longer say so by `@pytest.mark.bound(seconds)`."""
    bound = request.node.get_closest_marker("bound")
    seconds = bound.args[0] if bound else _TEST_SECONDS_MAX

    def alarm(*_):
        raise TimeoutError(f"the test ran longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _io_uring_refusal():
    """Why this machine has no io_uring (a container's seccomp profile, kernel.io_uring_disabled),
    or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    io_uring_setup = 425
    libc.syscall(io_uring_setup, 0, None)
    refusal = ctypes.get_errno()
    return os.strerror(refusal) if refusal in (errno.EPERM, errno.ENOSYS) else None


@pytest.fixture(params=["io_uring", "epoll"])
def engine(request):
    if request.param == "io_uring" and (refusal := _io_uring_refusal()):
        pytest.skip(f"io_uring_setup is refused on this machine: {refusal}")
    return request.param


@pytest.fixture(scope="module")
def network():
    """client ── proxy ── service; a module may have its own fixture of this name."""
    with Network.of_three() as made:
        yield made


@pytest.fixture
def closing():
    """closing(thing) closes the thing when the test ends, the last one first."""
    things = []

    def register(thing):
        things.append(thing)
        return thing

    yield register
    failure = None
    for thing in reversed(things):
        try:
            thing.close()
        except Exception as caught:  # the others are closed all the same
            failure = failure or caught
    if failure:
        raise failure


@pytest.fixture
def start_proxy(network, tmp_path):
    """start_proxy(text) runs the program in the proxy's namespace; at the end each one still there
    must stop with exit code 0."""
    started = []

    def start(text, **options):
        directory = tmp_path / str(len(started))
        directory.mkdir()
        options.setdefault("namespace", network.proxy)
        proxy = Proxy(
            text=text,
            directory=directory,
            ready=False,
            prefix=options.pop("prefix", ()),
            arguments=options.pop("arguments", ()),
            namespace=options.pop("namespace"),
        )
        started.append(proxy)
        if options.pop("ready", True):
            proxy.wait_event("ready")
        assert not options, options
        return proxy

    yield start
    try:
        for proxy in started:
            if proxy.running():
                proxy.stop()
    finally:
        for proxy in started:
            proxy.kill()
            print(f"--- the log of {proxy.configuration_file}:\n{proxy.text()}")


@pytest.fixture
def installed(tmp_path):
    """The program's file in a place where program.install() can put others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = folder / "udpproxy"
    program.install(program.path(), path)
    return path


@pytest.fixture
def start_installed(start_proxy, installed):
    """start_proxy(), with the installed file."""

    def start(text, prefix=(), **options):
        return start_proxy(
            text, prefix=[*prefix, "sh", "-c", 'shift; exec "$0" "$@"', str(installed)], **options
        )

    return start


@pytest.fixture
def start_one(engine, start_proxy):
    """start_one(family, …) runs the program with one proxy, from the family's listener to its
    service; `keys` are the proxy's."""

    def start(family=IPV4, shards=2, head="", **keys):
        keys = {"listen": family.listener(), "upstream": family.service(254), **keys}
        return start_proxy(
            program.configuration(program.table(**keys), engine=engine, shards=shards, head=head)
        )

    return start


@pytest.fixture
def admin(network, closing):
    return closing(Admin(network.proxy))


@pytest.fixture
def start_process(closing):
    """start_process(words, namespace) for other daemons."""

    class Closing(Process):
        close = Process.kill

    return lambda words, namespace: closing(Closing(words, namespace))


@pytest.fixture
def open_client(network, closing):
    return lambda bind_to="0.0.0.0:0": closing(Client(network.client, bind_to))


@pytest.fixture
def open_crowd(network, closing):
    return lambda count, bind_to="0.0.0.0:0": closing(Crowd(network.client, count, bind_to))


@pytest.fixture
def open_service(network, closing):
    return lambda endpoints, answer, **options: closing(
        Service(network.service, endpoints, answer, **options)
    )


@pytest.fixture
def start_load(network, closing):
    """start_load("ask", from_=…, …) runs the load tool: a service in the service's namespace, all
    else in the client's. With `family`, from its client to its listener."""

    def start(command, namespace=None, family=None, **options):
        if family:
            options = {"from_": family.client_host, "to": family.listener(), **options}
        return closing(
            Load(
                namespace or (network.service if command == "serve" else network.client),
                command,
                **options,
            )
        )

    return start


@pytest.fixture
def start_asking(start_load):
    """start_asking(family, clients=…, rate=…) returns clients that stay, once all are assured; what
    they ask from then on is counted."""

    def start(family, seconds=3600, **options):
        asking = start_load("ask", family=family, seconds=seconds, warm=True, **options)
        asking.wait_event("asking")
        return asking

    return start


@pytest.fixture
def figures(request):
    return figures_table.Figures(request.node)
