"""The proxies that have to outlive their program: with sources and exact aliases, with a wildcard
listener and an open member, and of IPv6."""

from harness.program import table
from harness.topology import IPV4, IPV6


def tables_of_each_kind(exact_upstream=254, exact_aliases=(253,)):
    """Tables of a configuration; the proxy's namespace has to have 10.0.0.7."""
    return [
        table(
            name="exact",
            listen=IPV4.listener(),
            upstream=IPV4.service(exact_upstream),
            reply_aliases=[IPV4.service(last) for last in exact_aliases],
            source=["10.0.0.1", "10.0.0.7"],
        ),
        table(
            name="open",
            listen=":6353",
            upstream=IPV4.service(251),
            reply_aliases=["10.0.0.252/31:53"],
        ),
        table(
            name="six",
            listen=IPV6.listener(),
            upstream=IPV6.service(254),
            reply_aliases=[IPV6.service(253)],
        ),
    ]
