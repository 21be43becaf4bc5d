"""What is wrong with the traffic stands first, wherever an operator looks.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 .253 service
"""

import pytest

from harness.admin import parse_metrics
from harness.hosts import Hosts
from harness.program import configuration, table
from harness.service import echo, from_each, silence
from harness.topology import IPV4

_UPSTREAM, _OTHER = (IPV4.service(last) for last in (254, 253))


@pytest.fixture
def start(engine, admin, start_proxy):
    def make(prefix=(), **keys):
        keys.setdefault("upstream", _UPSTREAM)
        text = configuration(
            table(name="dns", listen=IPV4.listener(), **keys), engine=engine, head=admin.section()
        )
        return start_proxy(text, prefix=prefix)

    return make


def ask_until(proxy, client, **event):
    """Asks on, as clients of a service that is down do, until the log names the problem."""

    def asked():
        client.send(b"question", IPV4.listener())
        return [each for each in proxy.all_events("problem") if event.items() <= each.items()]

    (problem,) = proxy.wait_until(asked, timeout=40, what=f"a problem {event}")
    return problem


def check_that_everybody_sees(admin, kind, words):
    status = admin.json("status")
    (problem,) = [each for each in status["problems"] if each["kind"] == kind]
    assert problem["proxy"] == "dns" and words in problem["text"]
    first, second = admin.shown("status").splitlines()[:2]
    assert first.startswith("PROBLEM  dns: ") and words in first and "udpproxy" in second
    metrics = parse_metrics(admin.shown("metrics"))
    assert [
        dict(labels)["kind"]
        for (name, labels), value in metrics.items()
        if name == "udpproxy_problem" and value
    ] == [kind]
    said = admin.ctl("doctor")
    assert said.returncode == 1 and said.stdout.startswith("problem traffic: proxy \"dns\": ")
    assert words in said.stdout.splitlines()[0]


def test_a_closed_port_is_named_until_the_service_is_back(start, admin, open_client, open_service):
    proxy = start()
    client = open_client()
    problem = ask_until(proxy, client, kind="upstream_refuses")
    assert "ICMP errors" in problem["text"] and _UPSTREAM in problem["text"]
    check_that_everybody_sees(admin, "upstream_refuses", "is closed")
    assert "ICMP errors" in admin.shown("proxies")
    open_service([_UPSTREAM], echo())
    proxy.wait_until(
        lambda: client.send(b"question", IPV4.listener()) or proxy.all_events("problem_over"),
        timeout=40,
        what="the end of the problem",
    )
    assert admin.json("status")["problems"] == []
    assert admin.shown("status").startswith("no problems in the last minute\n")


def test_requests_without_any_reply_are_named(start, admin, open_client, open_service):
    open_service([_UPSTREAM], silence())
    ask_until(start(), open_client(), kind="replies_missing")
    check_that_everybody_sees(admin, "replies_missing", "no reply")


def test_replies_from_an_unlisted_source_are_named(start, admin, open_client, open_service):
    open_service([_UPSTREAM, _OTHER], from_each([_OTHER]))
    ask_until(start(), open_client(), kind="replies_unlisted")
    check_that_everybody_sees(admin, "replies_unlisted", "udpproxyctl unlisted")


def test_a_name_without_an_address_is_named_though_nobody_asks(start, admin, tmp_path):
    hosts = Hosts(tmp_path)
    proxy = start(upstream="service.test:53", prefix=hosts.prefix)
    proxy.wait_event("problem", kind="upstream_unresolved")
    check_that_everybody_sees(admin, "upstream_unresolved", "not resolved")
    hosts.write("10.0.0.254 service.test")
    proxy.wait_event("problem_over", kind="upstream_unresolved", timeout=40)
    assert admin.json("status")["problems"] == []
