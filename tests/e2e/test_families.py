"""Any family of client against any family of upstream.

    client                          proxy                              service
    10.1.0.2  ────────  10.1.0.1:5353  │ fd00::1   ────────  [fd00::254]:53 the upstream, [fd00::253]:53 an alias
    fd01::2   ────────  [fd01::1]:5353 │ 10.0.0.1  ────────  10.0.0.254:53  the upstream, 10.0.0.253:53  an alias
"""

import pytest

from harness.program import configuration, table
from harness.service import from_each, in_turn
from harness.topology import BOTH, IPV4, IPV6


@pytest.mark.parametrize(
    "outside, inside",
    [(IPV4, IPV6), (IPV6, IPV4)],
    ids=["ipv4-client-ipv6-upstream", "ipv6-client-ipv4-upstream"],
)
@pytest.mark.parametrize("alias_filter", ["connected", "open"])
def test_a_client_of_one_family_is_served_by_an_upstream_of_the_other(
    engine, outside, inside, alias_filter, start_proxy, open_service, open_crowd
):
    sources = [inside.service(254), inside.service(253)]
    open_service(sources, from_each(sources))
    proxy = start_proxy(
        configuration(
            table(
                listen=outside.listener(),
                upstream=sources[0],
                reply_aliases=[sources[1]],
                alias_filter=alias_filter,
            ),
            engine=engine,
        )
    )
    crowd = open_crowd(20, outside.anywhere)
    got = crowd.ask_all(outside.listener(), lambda client: b"client %d" % client, replies=2)
    assert sorted((client, datagram.payload) for client, datagram in got) == sorted(
        (client, b"client %d via %s" % (client, source.encode()))
        for client in range(20)
        for source in sources
    )
    assert {datagram.source for _, datagram in got} == {outside.listener()}
    assert proxy.stop().drops() == {}


def test_one_proxy_listens_in_both_families_and_others_stand_beside_it(
    engine, start_proxy, open_service, open_client
):
    """Three proxies in one program, a list of listeners in one of them; each has its own
    upstream."""
    open_service([IPV4.service(254), IPV4.service(253)], in_turn([IPV4.service(253)]))
    open_service([IPV6.service(254)], in_turn([IPV6.service(254)]))
    start_proxy(
        configuration(
            table(
                name="both",
                listen=[family.listener(5001) for family in BOTH],
                upstream=IPV4.service(254),
                reply_aliases=[IPV4.host(253)],
            ),
            table(
                name="four",
                listen=IPV4.listener(5002),
                upstream=IPV4.service(254),
                reply_aliases=[IPV4.host(253)],
            ),
            table(name="six", listen=IPV6.listener(5002), upstream=IPV6.service(254)),
            engine=engine,
        )
    )
    for family, port, answered in (
        (IPV4, 5001, IPV4.service(253)),
        (IPV6, 5001, IPV4.service(253)),
        (IPV4, 5002, IPV4.service(253)),
        (IPV6, 5002, IPV6.service(254)),
    ):
        reply = open_client(family.anywhere).ask(b"who", family.listener(port))
        assert (reply.payload, reply.source) == (
            b"who via " + answered.encode(),
            family.listener(port),
        )
