"""Options that are off by default and change when datagrams are handled, not which: busy_poll,
batch_wait, pool_min."""

import time

import pytest

from harness.admin import parse_metrics
from harness.program import configuration, table
from harness.service import echo
from harness.topology import IPV4

_UPSTREAM = IPV4.service(254)


def runtime(**keys):
    return "".join(f'{key} = "{value}"\n' for key, value in keys.items())


@pytest.mark.parametrize(
    "keys",
    [{"busy_poll": "50us"}, {"batch_wait": "200us"}, {"busy_poll": "1ms", "batch_wait": "1ms"}],
    ids=["busy_poll", "batch_wait", "both"],
)
def test_everybody_is_answered_and_the_program_is_idle_when_nobody_asks(
    engine, keys, start_proxy, open_service, open_crowd
):
    open_service([_UPSTREAM], echo())
    proxy = start_proxy(
        configuration(
            table(listen=IPV4.listener(), upstream=_UPSTREAM), engine=engine, head=runtime(**keys)
        )
    )
    crowd = open_crowd(100)
    for turn in range(3):
        assert (
            len(
                crowd.ask_all(
                    IPV4.listener(), lambda client, turn=turn: b"%d in %d" % (client, turn)
                )
            )
            == 100
        )

    def used():
        with open(f"/proc/{proxy.worker_pid}/stat", encoding="ascii") as file:
            return sum(
                map(int, file.read().rsplit(")", 1)[1].split()[11:13])
            )  # utime, stime: proc(5)

    before = used()
    time.sleep(1)
    assert used() - before <= 5, "it sleeps: at most 50 ms of a second"
    assert proxy.stop().drops() == {}


def test_new_clients_take_the_groups_that_stand_ready(
    engine, admin, start_proxy, open_service, open_crowd
):
    open_service([_UPSTREAM], echo())
    head = admin.section() + "[limits]\npool_min = 200\n"
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=_UPSTREAM), engine=engine, head=head)
    )
    ready = lambda: sum(
        value
        for (name, _), value in parse_metrics(admin.shown("metrics")).items()
        if name == "udpproxy_shard_groups_cooling"
    )
    proxy.wait_until(lambda: ready() == 200, what="200 groups")
    crowd = open_crowd(60)
    assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == 60
    proxy.wait_until(lambda: ready() == 200, what="200 groups again")
    counters = proxy.stop()
    assert counters["groups_reused"] == 60 and counters["sessions_admitted"] == 60
