"""Every form of an alias, both filters, both families: what is listed comes home, what is not is
counted.

    client                         proxy                                service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53  the upstream; asked, and answers
    fd01::2             [fd01::1]:5353│ fd00::1             .254 .253 .252 .251 on ports 53, 5300 and 9999 answer as well

Each request is answered from every one of those endpoints, those that are not listed first.
"""

import pytest

from harness.program import configuration, table
from harness.service import from_each
from harness.topology import BOTH

_SOURCES = [(last, port) for last in (254, 253, 252, 251) for port in (53, 5300, 9999)]
_UPSTREAM = (254, 53)


# name: (the alias as written, what it lists, whether the kernel can filter by it)
def _forms(family):
    brackets = "[{}]:{}" if family.name == "ipv6" else "{}:{}"
    pair = f"{family.host(252)}/{family.whole_bits - 1}"  # .252 and .253
    return {
        "address_and_port": (brackets.format(family.host(253), 5300), [(253, 5300)], True),
        "address": (family.host(253), [(253, 53)], True),
        "prefix_and_port": (brackets.format(pair, 5300), [(252, 5300), (253, 5300)], False),
        "address_and_any_port": (
            brackets.format(family.host(253), "*"),
            [(253, 53), (253, 5300), (253, 9999)],
            False,
        ),
        "prefix_and_any_port": (
            brackets.format(pair, "*"),
            [(last, port) for last in (252, 253) for port in (53, 5300, 9999)],
            False,
        ),
    }


def _cases():
    for family in BOTH:
        for name, (alias, listed, exact) in _forms(family).items():
            for alias_filter in ("auto", "connected", "open") if exact else ("auto", "open"):
                yield pytest.param(
                    family, alias, listed, alias_filter, id=f"{family}-{name}-{alias_filter}"
                )


def _endpoints(family, sources):
    return [family.service(last, port) for last, port in sources]


@pytest.mark.parametrize("family, alias, listed, alias_filter", _cases())
def test_listed_replies_come_from_the_address_written_to_and_unlisted_ones_are_counted(
    engine, family, alias, listed, alias_filter, start_proxy, open_service, open_client
):
    home = [source for source in _SOURCES if source in listed or source == _UPSTREAM]
    away = [source for source in _SOURCES if source not in home]
    open_service(_endpoints(family, _SOURCES), from_each(_endpoints(family, away + home)))
    proxy = start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=family.service(*_UPSTREAM),
                reply_aliases=[alias],
                alias_filter=alias_filter,
            ),
            engine=engine,
        )
    )

    client = open_client(family.anywhere)
    for question in (b"first", b"second"):
        client.send(question, family.listener())
        replies = [client.receive() for _ in home]
        assert None not in replies
        assert {reply.source for reply in replies} == {family.listener()}
        assert sorted(reply.payload for reply in replies) == sorted(
            question + b" via " + source.encode() for source in _endpoints(family, home)
        )
    assert client.drain() == []

    counters = proxy.stop()
    assert counters["departures_request"] == 2
    assert counters["departures_reply"] == 2 * len(home)
    assert counters.drops() == {"drop_unlisted_source": 2 * len(away)}
    named = {event["source"] for event in proxy.all_events("unlisted_reply")}
    assert named and named <= set(_endpoints(family, away))


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_unlisted_replies_never_come_home_when_nobody_watches_for_them(
    engine, family, alias_filter, start_proxy, open_service, open_client
):
    upstream, alias, unlisted = (family.service(last) for last in (254, 253, 252))
    open_service([upstream, alias, unlisted], from_each([unlisted, alias, upstream]))
    proxy = start_proxy(
        configuration(
            table(
                listen=family.listener(),
                upstream=upstream,
                reply_aliases=[alias],
                alias_filter=alias_filter,
                unlisted_replies="off",
            ),
            engine=engine,
        )
    )
    client = open_client(family.anywhere)
    for _ in range(20):
        client.send(b"question", family.listener())
        assert {client.receive().payload, client.receive().payload} == {
            b"question via " + source.encode() for source in (upstream, alias)
        }
    assert client.drain() == []
    assert proxy.stop()["departures_reply"] == 40


def test_more_exact_aliases_than_are_connected_are_all_heard(
    engine, start_proxy, open_service, open_client
):
    family = BOTH[0]
    aliases = [
        family.service(last, port) for last in (253, 252, 251, 250) for port in (53, 5300, 9999)
    ]
    upstream = family.service(*_UPSTREAM)
    open_service([upstream, *aliases], from_each([upstream, *aliases]))
    start_proxy(
        configuration(
            table(listen=family.listener(), upstream=upstream, reply_aliases=aliases), engine=engine
        )
    )
    client = open_client()
    client.send(b"question", family.listener())
    heard = {client.receive().payload for _ in range(1 + len(aliases))}
    assert heard == {b"question via " + source.encode() for source in (upstream, *aliases)}
