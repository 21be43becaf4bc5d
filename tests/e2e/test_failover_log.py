"""A VIP moves at night to a member that nobody listed: the log names it at once, though all
sessions are old ones.

    client                      proxy                              service
    10.1.0.2  200 clients ── 10.1.0.1:5353 │ 10.0.0.1  ────  10.0.0.254:53 (VIP) asked; first answered from .253 (listed), later from .252 (not)
"""

import time

import pytest

from harness.program import configuration, table
from harness.topology import BOTH

_WITHIN_S = 1.0


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_an_unlisted_member_is_named_within_a_second_of_its_first_reply_to_an_old_session(
    engine, family, alias_filter, start_proxy, start_asking, start_load, figures
):
    addresses = [family.service(last) for last in (254, 253, 252)]
    by_day = start_load("serve", at=addresses, answer_from=1)
    proxy = start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=addresses[0],
                reply_aliases=[addresses[1]],
                alias_filter=alias_filter,
            ),
            engine=engine,
        )
    )
    asking = start_asking(family, clients=200, rate=400, seconds=30)
    by_day.stop()
    assert not proxy.all_events("unlisted_reply")
    moved_at = time.monotonic()  # a little before its first reply
    by_night = start_load("serve", at=addresses, answer_from=2)
    event = proxy.wait_event("unlisted_reply", timeout=5, source=addresses[2])
    named_after = time.monotonic() - moved_at
    figures.count(asking.stop())
    by_night.stop()
    assert (
        addresses[2] in event["add"] and addresses[1] in event["add"]
    ), "the line to add keeps what is there"
    counters = proxy.stop()
    figures.tell(
        "a VIP on an unlisted member is named in the log within a second, for old sessions too",
        f"{named_after * 1000:.0f} ms",
    )
    assert named_after < _WITHIN_S
    assert counters["sessions_admitted"] == 200
    assert set(counters.drops()) <= {"drop_unlisted_source", "drop_send_refused"}
