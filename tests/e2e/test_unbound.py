"""A real DNS server on a VIP that answers from its member address: what udpproxy is for.

    client                    proxy                              service
    dig 10.1.0.2 ──── 10.1.0.1:53 │ 10.0.0.1 ──── 10.0.0.252  the member's own address, first on the link
                                                    10.0.0.254  the VIP, a second address there
                                                    unbound on 0.0.0.0:53

unbound on 0.0.0.0 without `interface-automatic` lets the kernel choose the source of its answers:
10.0.0.252, whatever was asked. In IPv6 the VIP is deprecated (preferred_lft 0), which has the same
effect.
"""

import concurrent.futures
import re

import pytest

from harness.namespaces import Network, run
from harness.program import configuration, table
from harness.unbound import start_unbound

_NAMES = 100
_UPSTREAM = {"ipv4": "10.0.0.254:53", "ipv6": "[fd00::254]:53"}
_MEMBER = {"ipv4": "10.0.0.252:53", "ipv6": "[fd00::252]:53"}


@pytest.fixture(scope="module")
def network():
    with Network.of_three(["10.0.0.252/24", "10.0.0.254/24", "fd00::252/64"]) as made:
        made.service.ip("addr add fd00::254/64 dev to-proxy nodad preferred_lft 0")
        yield made


@pytest.fixture
def unbound(network, start_process, tmp_path):
    records = "\n".join(
        f'  local-data: "host{i}.example. A 192.0.2.{i + 1}"' for i in range(_NAMES)
    )
    return start_unbound(
        start_process,
        network.service,
        tmp_path,
        ["0.0.0.0", "::0"],
        '  local-zone: "example." static\n' + records,
    )


def ask_all(network, server, at_once, timeout=15):
    """How many of the names dig got the right address for within `timeout` seconds, one try each:
    a datagram that is lost is never asked for again, and a machine that stands still loses none."""

    def ask(i):
        done = run(
            *network.client.command(
                "dig",
                f"@{server}",
                f"host{i}.example.",
                "A",
                "+short",
                "+tries=1",
                f"+timeout={timeout}",
            ),
            check=False,
        )
        return done.stdout.strip() == f"192.0.2.{i + 1}"

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return sum(pool.map(ask, range(_NAMES)))


def dns(**keys):
    return table(name="dns", listen=["10.1.0.1:53", "[fd01::1]:53"], **keys)


def test_the_stage_is_set_whoever_asks_the_vip_directly_hears_nothing_and_whoever_asks_the_member_does(
    network, unbound
):
    def ask(server):
        words = network.proxy.command(
            "dig", f"@{server}", "host0.example.", "A", "+short", "+tries=1", "+timeout=1"
        )
        return run(*words, check=False).stdout.strip()

    for member, vip in (("10.0.0.252", "10.0.0.254"), ("fd00::252", "fd00::254")):
        assert ask(member) == "192.0.2.1"
        assert "timed out" in ask(
            vip
        ), "dig listens to the VIP only, the answer came from the member"


@pytest.mark.parametrize("family", _UPSTREAM)
def test_with_the_member_as_an_alias_dig_gets_100_of_100_answers(
    engine, family, network, unbound, start_proxy
):
    proxy = start_proxy(
        configuration(
            dns(upstream=_UPSTREAM[family], reply_aliases=[_MEMBER[family]]), engine=engine
        )
    )
    assert ask_all(network, "10.1.0.1", at_once=4) == _NAMES
    counters = proxy.stop()
    assert counters["departures_reply"] == _NAMES
    assert counters.drops() == {}


@pytest.mark.parametrize("family", _UPSTREAM)
def test_without_aliases_dig_gets_none_of_100_and_the_log_gives_the_line_to_add(
    engine, family, network, unbound, start_proxy
):
    without = start_proxy(configuration(dns(upstream=_UPSTREAM[family]), engine=engine))
    assert ask_all(network, "10.1.0.1", at_once=_NAMES, timeout=1) == 0
    unlisted = without.wait_event("unlisted_reply", proxy="dns")
    assert unlisted["source"] == _MEMBER[family]
    counters = without.stop()
    assert counters["departures_request"] == _NAMES
    assert counters["drop_unlisted_source"] == _NAMES
    reported = sum(int(event["datagrams"]) for event in without.all_events("unlisted_reply"))
    assert 1 <= reported <= _NAMES

    # The advice, taken literally.
    added = (
        dns(upstream=_UPSTREAM[family])
        + re.search(r"reply_aliases = \[.*?\](?=\"?$|\s)", unlisted["add"] + "\n")[0]
        + "\n"
    )
    start_proxy(configuration(added, engine=engine))
    assert ask_all(network, "10.1.0.1", at_once=4) == _NAMES
