"""An upstream that is a host name: without an address at start, with one later, with several, and
with one that must not be taken.

    client 10.1.0.2 ── 10.1.0.1 proxy 10.0.0.1 ── 10.0.0.254 .253 .252 service

The names are in a hosts file that only the program under test sees; test_dns.py has DNS servers.
"""

import time

from harness.hosts import Hosts
from harness.program import configuration, run_once, table

ECHO = "10.1.0.1:5300"
NAMED = "10.1.0.1:5301"


def echo(request):
    from harness.service import Reply

    return [Reply(request.payload)]


def named_and_plain(engine):
    return configuration(
        table(name="plain", listen=ECHO, upstream="10.0.0.254:53"),
        table(
            name="named", listen=NAMED, upstream="service.test:53", reply_aliases=["10.0.0.252:53"]
        ),
        engine=engine,
    )


def wait_for_answer(client, payload, to, seconds=10):
    """Asks again and again, as a client would."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if got := client.ask(payload, to, timeout=0.3):
            return got
    return None


def test_a_name_without_an_address_costs_the_others_nothing_and_serves_once_it_has_one(
    engine, start_proxy, open_client, open_service, tmp_path
):
    open_service(["10.0.0.254:53", "10.0.0.253:53", "10.0.0.252:53"], echo)
    hosts = Hosts(tmp_path)
    proxy = start_proxy(named_and_plain(engine), prefix=hosts.prefix)
    refusal = proxy.wait_event("unresolved", proxy="named")
    assert "service.test:53" in refusal["reason"]
    client = open_client()
    assert client.ask(b"plain", ECHO).payload == b"plain"
    assert client.ask(b"early", NAMED, timeout=0.3) is None
    time.sleep(1.5)  # at least one more attempt
    assert len(proxy.all_events("unresolved")) == 1, "one line, however many attempts"

    hosts.write("10.0.0.253 service.test")
    proxy.wait_event("resolved", proxy="named", endpoint="10.0.0.253:53", timeout=20)
    assert wait_for_answer(client, b"late", NAMED).payload == b"late"
    assert client.ask(b"plain", ECHO).payload == b"plain"
    counters = proxy.stop()
    assert counters["drop_upstream_unresolved"] >= 1
    assert counters.drops().keys() == {"drop_upstream_unresolved"}


def test_of_several_addresses_the_first_usable_one_is_taken_and_the_log_says_which(
    engine, start_proxy, open_client, open_service, tmp_path
):
    """The first leads back to a listener, the second is an alias; the aliases of the name's proxy
    hold whatever the address is."""
    service = open_service(["10.0.0.254:53", "10.0.0.253:53", "10.0.0.252:53"], echo)
    hosts = Hosts(tmp_path, "10.0.0.252 service.test", "10.0.0.253 service.test")
    proxy = start_proxy(named_and_plain(engine), prefix=hosts.prefix)
    resolved = proxy.wait_event("resolved", proxy="named")
    assert resolved["endpoint"] == "10.0.0.253:53" and resolved["addresses"] == "2"
    assert "listed in reply_aliases too" in resolved["passed_over"]
    assert open_client().ask(b"question", NAMED).payload == b"question"
    assert service.requests[-1].asked_on == "10.0.0.253:53"
    assert proxy.stop().drops() == {}


def test_a_name_that_leads_back_to_a_listener_is_refused_and_asked_for_again(
    engine, start_proxy, open_client, open_service, tmp_path
):
    open_service(["10.0.0.254:5301"], echo)
    hosts = Hosts(tmp_path, "10.1.0.1 service.test")
    text = configuration(
        table(name="named", listen=NAMED, upstream="service.test:5301"), engine=engine
    )
    proxy = start_proxy(text, prefix=hosts.prefix)  # the only proxy, and it starts all the same
    assert "a forwarding loop" in proxy.wait_event("unresolved")["reason"]
    hosts.write("10.0.0.254 service.test")
    proxy.wait_event("resolved", timeout=20)
    assert wait_for_answer(open_client(), b"question", NAMED).payload == b"question"
    proxy.stop()


def test_a_check_warns_of_a_name_and_refuses_only_when_nothing_else_would_serve(tmp_path):
    hosts = Hosts(tmp_path)
    plain = table(name="plain", listen="127.0.0.1:5300", upstream="10.0.0.254:53")
    named = table(name="named", listen="127.0.0.1:5301", upstream="no-such-host.invalid:53")
    file = tmp_path / "both.toml"
    file.write_text(configuration(plain, named), encoding="ascii")
    done = run_once("--check-config", "--config", file, prefix=hosts.prefix, timeout=30)
    assert (
        done.returncode == 0
        and "both.toml:" in done.stderr
        and "no-such-host.invalid" in done.stderr
        and "warning" in done.stderr
    )
    file.write_text(configuration(named), encoding="ascii")
    done = run_once("--check-config", "--config", file, prefix=hosts.prefix, timeout=30)
    assert done.returncode == 78 and "no-such-host.invalid" in done.stderr
