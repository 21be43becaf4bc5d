"""Every wall under load: who is in loses nothing, new clients are refused under one reason, and
when there is capacity again no restart is needed (F16, F22 to F24).

    client                                       proxy                             service
    10.1.0.2  100 assured residents ask, ──── 10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53, answers
              new clients knock 200 times a second
"""

import re
import resource
import time

import pytest

from harness.kernel import Watch
from harness.load import NEVER
from harness.program import configuration, run_once, table
from harness.topology import IPV4

_RESIDENTS = 100
_KNOCKS_S = 1
_LOG_LINES_MAX = 3


def _lower_descriptors(proxy):
    """Somebody gives the running program fewer descriptors than it counted on; it has what it
    has."""
    _, hard = resource.prlimit(proxy.worker_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.worker_pid, resource.RLIMIT_NOFILE, (64, hard))


def _raise_descriptors(proxy):
    _, hard = resource.prlimit(proxy.worker_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.worker_pid, resource.RLIMIT_NOFILE, (hard, hard))


# name: (keys of the proxy, what else makes the wall, what takes it away, the reason of those
# refused)
_WALLS = {
    "sessions": ({"sessions_max": _RESIDENTS}, None, None, "session_limit"),
    "descriptors": ({}, _lower_descriptors, _raise_descriptors, "descriptor_limit"),
}


@pytest.fixture
def service(start_load):
    return start_load("serve", at=IPV4.service(254))


@pytest.fixture
def residents(start_asking):
    """residents(seconds): assured clients that ask from now on, for so long."""

    def begin(seconds):
        return start_asking(IPV4, clients=_RESIDENTS, rate=500, seconds=seconds)

    return begin


@pytest.fixture
def knock(start_load):
    """knock(first_port): new clients for a while; their sums."""

    def run(first_port, seconds=_KNOCKS_S, patience=0.5):
        return start_load(
            "churn",
            family=IPV4,
            rate=200,
            seconds=seconds,
            patience=patience,
            first_port=first_port,
        ).result()

    return run


@pytest.fixture
def begin(start_one):
    return lambda **keys: start_one(unassured_timeout="1s", idle_timeout="2s", **keys)


@pytest.mark.slow
@pytest.mark.parametrize("wall", _WALLS)
def test_at_the_wall_residents_lose_nothing_new_clients_are_refused_under_one_reason_and_later_ones_served(
    wall, network, service, begin, residents, knock, figures
):
    keys, make, take_away, reason = _WALLS[wall]
    proxy = begin(**keys)
    asking = residents(_KNOCKS_S + 0.5)
    watch = Watch(network)
    if make:
        make(proxy)
    refused = knock(10000)
    result = asking.result()
    if take_away:
        take_away(proxy)
    else:
        time.sleep(2.5)  # the residents' sessions end
    served = knock(20000, 0.25, patience=5)
    lines = [
        line for line in proxy.text().splitlines() if "level=warn" in line or "level=error" in line
    ]
    counters = proxy.stop()
    for each in (refused, result, served):
        figures.count(each)
        assert [each[name] for name in NEVER] == [0] * len(NEVER)
    figures.tell(
        "at the wall: residents lose nothing, new clients are refused, later ones served without a "
        "restart",
        f"{wall}: {result['lost']} of {result['sent']} lost, {refused['lost']} refused as "
        f"{reason}, then {served['answered']} of {served['sent']} served",
    )
    assert result["lost"] == 0, f"{result} {counters}"
    assert refused["answered"] == 0 and counters.drops() == {f"drop_{reason}": refused["sent"]}
    assert served["lost"] == 0, f"{served} {counters}"
    assert watch.losses() == {}
    assert len(lines) <= _LOG_LINES_MAX, lines


@pytest.mark.slow
def test_while_all_ports_cool_down_new_clients_are_refused_and_then_served_again(
    network, service, begin, residents, knock, figures
):
    """400 ports; residents hold 100, the first new clients use up the others and leave them cooling
    for three seconds."""
    proxy = begin(ports="20000-20399", port_cooldown="3s")
    asking = residents(9)
    watch = Watch(network)
    first = knock(10000, 1.4)
    time.sleep(1.2)  # unassured ones expire, their ports cool down
    refused = knock(20000, 0.5)
    time.sleep(3.5)
    served = knock(30000, 0.5, patience=5)
    result = asking.result()
    counters = proxy.stop()
    for each in (first, refused, result, served):
        figures.count(each)
        assert [each[name] for name in NEVER] == [0] * len(NEVER)
    figures.tell(
        "at the wall: residents lose nothing, new clients are refused, later ones served without a "
        "restart",
        f"ports: {result['lost']} of {result['sent']} lost, {refused['lost']} refused as "
        "ports_exhausted, "
        f"then {served['answered']} of {served['sent']} served",
    )
    assert result["lost"] == 0, f"{result} {counters}"
    assert refused["lost"] > 0
    assert served["lost"] == 0, f"{served} {counters}"
    assert set(counters.drops()) <= {"drop_ports_exhausted", "drop_session_limit"}
    assert counters["drop_ports_exhausted"] > 0
    assert watch.losses() == {}


@pytest.mark.slow
def test_a_burst_larger_than_all_buffers_waits_in_the_kernel_and_loses_nothing(
    network, service, start_one, start_asking, figures
):
    """The program stands still for a second while 5000 datagrams queue: twice what the request leg
    of a shard has buffers for."""
    proxy = start_one(shards=1)
    asking = start_asking(
        IPV4, clients=_RESIDENTS, rate=5000, count=6000, bytes=60, seconds=10, patience=5
    )
    watch = Watch(network)
    proxy.stand_still()
    time.sleep(1)
    proxy.go_on()
    result = asking.result()
    counters = proxy.stop()
    figures.count(result)
    figures.tell(
        "a burst larger than all buffers loses nothing",
        f"{result['lost']} of {result['sent']} lost",
    )
    assert result["lost"] == 0, f"{result} {counters} {watch.losses()}"
    assert watch.losses() == {}
    assert counters.drops() == {}


@pytest.mark.slow
def test_a_program_that_gets_no_more_memory_goes_on_and_admits(
    network, service, begin, residents, knock, figures
):
    """All memory is allocated at the start: the address space is then limited to what it has."""
    proxy = begin()
    asking = residents(_KNOCKS_S + 0.5)
    with open(f"/proc/{proxy.worker_pid}/statm", encoding="ascii") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    resource.prlimit(proxy.worker_pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    new_clients = knock(10000)
    result = asking.result()
    counters = proxy.stop()
    for each in (new_clients, result):
        figures.count(each)
        assert each["lost"] == 0 and [each[name] for name in NEVER] == [0] * len(
            NEVER
        ), f"{each} {counters}"
    figures.tell(
        "without another byte of memory it goes on and admits",
        f"{result['lost'] + new_clients['lost']} of {result['sent'] + new_clients['sent']} lost, "
        f"{counters['sessions_admitted']} admitted",
    )
    assert counters.drops() == {}


@pytest.mark.parametrize("megabytes", [60, 400])
def test_a_start_without_enough_memory_fails_with_a_reason(engine, megabytes, tmp_path):
    file = tmp_path / "udpproxy.toml"
    file.write_text(
        configuration(table(listen="127.0.0.1:15353", upstream="127.0.0.2:15353"), engine=engine)
    )
    done = run_once("--config", file, prefix=("prlimit", f"--as={megabytes * 1_000_000}"))
    assert done.returncode == 1
    assert re.search("(tables|receive buffers) .*Cannot allocate memory", done.stderr), done.stderr
    # What only looks at the configuration says so before a start.
    limited = ("prlimit", f"--as={megabytes * 1_000_000}")
    checked = run_once("--check-config", "--config", file, prefix=limited)
    assert checked.returncode == 78
    assert "not even the smallest tables fit" in checked.stderr, checked.stderr
    examined = run_once("--doctor", "--config", file, prefix=limited)
    assert examined.returncode == 1
    assert "not even the smallest tables fit" in examined.stdout, examined.stdout
