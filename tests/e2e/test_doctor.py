"""Faults planted in a host, each of them named by the doctor, with the command that fixes it; and
what a probe hears.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53 the upstream, .253 .252 .251 .250 answer where a test says so

Each test has namespaces of its own: it breaks them. Where the fault is one that a command fixes,
the doctor's own command is run and the doctor has nothing more to say.
"""

import json
import signal
import subprocess

import pytest

from harness.client import Client
from harness.namespaces import Network
from harness.process import injecting
from harness.program import configuration, run_once, table
from harness.service import Service, from_each
from harness.topology import IPV4

_UPSTREAM, _ALIAS = IPV4.service(254), IPV4.service(253)
_LIMITED = ("setpriv", "--bounding-set", "-net_admin", "--")


@pytest.fixture
def network():
    with Network.of_three() as made:
        yield made


@pytest.fixture
def examine(network, tmp_path):
    """examine(keys...) -> (exit code, findings that are not ok); the whole text is in .text."""

    class Examination:
        code = 0
        text = ""
        findings = ()

        def __call__(self, *arguments, prefix=(), head="", engine="auto", shards=2, **keys):
            keys = {
                "listen": IPV4.listener(),
                "upstream": _UPSTREAM,
                "reply_aliases": [_ALIAS],
                **keys,
            }
            file = tmp_path / "doctor.toml"
            file.write_text(
                configuration(table(**keys), engine=engine, shards=shards, head=head),
                encoding="utf-8",
            )
            command = [*network.proxy.command(), *prefix]
            done = run_once(
                "--doctor", "--json", "--config", file, *arguments, prefix=command, timeout=30
            )
            assert done.returncode in (0, 1) and not done.stderr, done
            report = json.loads(done.stdout)
            self.text = done.stdout
            self.code = done.returncode
            self.findings = [
                finding for finding in report["findings"] if finding["severity"] != "ok"
            ]
            assert report["problems"] == sum(
                finding["severity"] == "problem" for finding in self.findings
            )
            assert self.code == (1 if report["problems"] else 0)
            return self

        def only(self, kind, severity="problem"):
            """The only thing that the doctor has to say."""
            assert [(finding["finding"], finding["severity"]) for finding in self.findings] == [
                (kind, severity)
            ], self.findings
            return self.findings[0]

    return Examination()


def fix(network, command):
    """The doctor's command as it is printed; the first one where it offers several."""
    subprocess.run(
        network.proxy.command("sh", "-c", command.split(", or ")[0]), check=True, timeout=30
    )


def test_a_healthy_host_has_nothing_wrong_and_everything_looked_at(examine):
    examined = examine()
    assert (examined.code, examined.findings) == (0, []), examined.text
    looked_at = {finding["finding"] for finding in json.loads(examined.text)["findings"]}
    assert looked_at >= {
        "route",
        "own_address",
        "reverse_path",
        "mtu",
        "listen_address",
        "listen_port",
        "buffers",
        "ports",
        "descriptors",
        "engine",
        "drops",
    }


def test_no_route_to_an_alias_is_named_and_fixed(network, examine):
    alias = "10.9.0.1:53"
    finding = examine(reply_aliases=[alias]).only("route")
    assert alias in finding["where"] and "Network is unreachable" in finding["looked_at"]
    assert finding["fix"] == "ip route add 10.9.0.1 dev to-service"
    fix(network, finding["fix"])
    assert examine(reply_aliases=[alias]).findings == []


def test_a_strict_reverse_path_is_named_proved_and_fixed(network, examine):
    """The kernel's own answer is taken; a reply that is really sent shows that it is the truth."""
    network.proxy.ip("route add 10.9.0.1 via 10.1.0.2")
    network.proxy.sysctl("net.ipv4.conf.to-service.rp_filter", 1)
    network.service.ip("addr add 10.9.0.1/32 dev to-proxy")
    alias = "10.9.0.1:53"
    examined = examine(reply_aliases=[alias])
    finding = examined.only("reverse_path")
    assert alias in finding["where"]
    assert (
        "comes in on to-service is refused: rp_filter is 1 (strict) there, and the route back goes "
        "out on to-client" in finding["looked_at"]
    )
    with Client(network.proxy, "10.0.0.1:40000") as listener, Client(
        network.service, "10.9.0.1:53"
    ) as sender, Client(network.service, _UPSTREAM) as upstream:
        upstream.send(
            b"let neighbours meet: ARP questions from there are refused as well", "10.0.0.1:40000"
        )
        assert listener.receive() is not None
        sender.send(b"reply", "10.0.0.1:40000")
        assert listener.receive(0.3) is None
        fix(network, finding["fix"])
        sender.send(b"reply", "10.0.0.1:40000")
        assert listener.receive().payload == b"reply"
    after = examine(reply_aliases=[alias])
    assert after.only("drops", "note")["looked_at"].startswith(
        "1 UDP datagrams of all programs refused for rp_filter"
    ), after.text


def test_an_alias_that_is_this_hosts_own_address_is_named(network, examine):
    network.proxy.ip("addr add 10.0.0.253/32 dev to-service")
    finding = examine().only("own_address")
    assert _ALIAS in finding["where"] and "reply_aliases" in finding["fix"]


@pytest.mark.parametrize("alias", ["10.0.0.0/24:*", "10.0.0.0/30:53", "10.0.0.0/31:53"])
def test_a_prefix_that_holds_this_hosts_own_address_too_is_no_fault(examine, alias):
    """10.0.0.1 is ours. Of a pair that is ours and the network's, the other one stands for it."""
    assert examine(reply_aliases=[alias]).findings == []


def test_addresses_that_come_and_go_while_they_are_listed_hide_nothing(network, examine, tmp_path):
    """The kernel marks a list that changed meanwhile, which is true of every second one here."""
    batch = network.proxy.command("ip", "-force", "-batch", "-")
    many = [
        f"addr add 10.{100 + number // 250}.0.{number % 250 + 1}/32 dev to-client"
        for number in range(3000)
    ]
    subprocess.run(batch, input="\n".join(many), text=True, check=True, timeout=30)
    changes = tmp_path / "changes"
    both = "addr add 10.99.0.1/32 dev to-client\naddr del 10.99.0.1/32 dev to-client\n"
    changes.write_text(both * 200000, encoding="utf-8")
    with changes.open() as lines, subprocess.Popen(
        batch, stdin=lines, stderr=subprocess.DEVNULL
    ) as changing:
        try:
            for _ in range(8):
                assert examine().findings == []
            assert changing.poll() is None
        finally:
            changing.kill()


def test_a_listen_address_that_is_not_here_is_named_and_fixed(network, examine):
    finding = examine(listen="10.1.0.77:5353").only("listen_address")
    fix(network, finding["fix"].replace("INTERFACE", "to-client"))
    assert examine(listen="10.1.0.77:5353").findings == []


def test_a_listen_port_that_somebody_else_holds_is_named_with_the_holder(
    network, examine, start_process
):
    program = (
        "import socket, time; s = socket.socket(type=socket.SOCK_DGRAM); "
        "s.bind(('10.1.0.1', 5353)); print('bound', flush=True); time.sleep(60)"
    )
    holder = start_process(["/usr/bin/python3", "-c", program], network.proxy)
    holder.wait_until(lambda: "bound" in holder.lines, what="bound")
    finding = examine().only("listen_port")
    shown = f"is held by python3 (process {holder.pid}) at 10.1.0.1:5353"
    assert shown in finding["looked_at"] and finding["fix"].startswith("stop python3")


def test_the_running_proxy_is_no_foreign_holder(engine, examine, start_proxy):
    start_proxy(configuration(table(listen=IPV4.listener(), upstream=_UPSTREAM), engine=engine))
    assert examine().findings == []


def test_buffers_beyond_what_the_system_grants_are_named(examine):
    examined = examine(receive_buffer="1GiB", prefix=_LIMITED)
    assert examined.code == 1 and [finding["finding"] for finding in examined.findings] == [
        "buffers",
        "unseen",
    ], examined.findings
    finding = examined.findings[0]
    assert (
        "receive_buffer" in finding["where"]
        and finding["fix"] == "sysctl -w net.core.rmem_max=1073741824"
    )
    assert (
        examine(receive_buffer="1GiB")
        .only("buffers", "note")["meaning"]
        .startswith("granted to processes with CAP_NET_ADMIN")
    )


def test_a_port_range_that_is_too_small_is_named_and_fixed(network, examine):
    network.proxy.sysctl("net.ipv4.ip_local_port_range", "40000 40015")
    finding = examine(sessions_max=100).only("ports")
    assert "16 ports (40000-40015) of 1 address for sessions_max = 100" in finding["looked_at"]
    fix(network, finding["fix"].split(", a range")[0])
    assert examine(sessions_max=100).findings == []


def _start(start_proxy, engine, **options):
    keys = {"listen": IPV4.listener(), "upstream": IPV4.service(254), **options.pop("keys", {})}
    return start_proxy(configuration(table(**keys), engine=engine), **options)


def test_a_start_advises_about_ports_that_others_may_take(engine, network, start_proxy):
    keys = {"ports": "40000-50000"}
    proxy = _start(start_proxy, engine, keys=keys)
    event = proxy.wait_event("advice", subject="ports")
    assert event["level"] == "info" and "net.ipv4.ip_local_port_range" in event["found"]
    proxy.stop()
    fix(network, event["fix"])
    try:
        proxy = _start(start_proxy, engine, keys=keys)
        proxy.stop()
        assert proxy.all_events("advice") == []
    finally:
        network.proxy.sysctl("net.ipv4.ip_local_reserved_ports", "")


def test_advice_is_told_again_when_its_cause_comes_back(engine, network, start_proxy):
    """By reloads: what was told once must not be taken for told when it has been away."""
    proxy = _start(start_proxy, engine, keys={"ports": "40000-50000"})
    told = proxy.wait_event("advice", subject="ports")
    reloads = 0

    def advice_after_a_reload():
        nonlocal reloads
        reloads += 1
        proxy.signal(signal.SIGHUP)
        proxy.wait_event("reloaded", reloads=str(reloads))
        # One request after another: the advice of the last one has been told.
        proxy.signal(signal.SIGHUP)
        reloads += 1
        proxy.wait_event("reloaded", reloads=str(reloads))
        return len(proxy.all_events("advice", subject="ports"))

    assert advice_after_a_reload() == 1
    fix(network, told["fix"])
    try:
        assert advice_after_a_reload() == 1
    finally:
        network.proxy.sysctl("net.ipv4.ip_local_reserved_ports", "")
    assert advice_after_a_reload() == 2


def test_a_start_advises_about_few_buckets_for_the_sockets_of_sessions(
    engine, network, start_proxy
):
    """In a namespace with a table of its own, the smallest that there is."""
    inside = 'echo 128 > /proc/sys/net/ipv4/udp_child_hash_entries && exec unshare --net "$@"'
    try:
        proxy = _start(start_proxy, engine, prefix=("sh", "-c", inside, "sh"))
    finally:
        network.proxy.sysctl("net.ipv4.udp_child_hash_entries", 0)
    event = proxy.wait_event("advice", subject="udp_table")
    assert event["level"] == "info" and " 128 buckets" in event["found"]
    assert "uhash_entries=" in event["fix"]
    proxy.stop()
    assert len(proxy.all_events("advice")) == 1


def test_descriptors_that_are_too_few_are_named(examine):
    finding = examine(sessions_max=5000, prefix=("prlimit", "--nofile=512:1024")).only(
        "descriptors"
    )
    assert (
        finding["looked_at"].startswith("1024 open files (soft 512")
        and "5000 do not fit" in finding["meaning"]
    )
    assert "LimitNOFILE" in finding["fix"]


def test_io_uring_refused_is_a_note_and_a_problem_where_it_is_demanded(tmp_path, examine):
    refused = injecting("io_uring_setup", "error=EPERM", tmp_path)
    finding = examine(prefix=refused).only("engine", "note")
    assert (
        "io_uring is refused to user root (io_uring_setup: Operation not permitted)"
        in finding["looked_at"]
    )
    examine(prefix=refused, engine="io_uring").only("engine")
    assert examine(prefix=refused, engine="epoll").findings == []


def test_different_mtus_are_named_and_fixed(network, examine):
    network.proxy.ip("link set to-service mtu 1400")
    finding = examine().only("mtu", "note")
    assert "MTU 1400 towards the upstream (to-service), 1500 on to-client" in finding["looked_at"]
    assert "requests of more than 1372 bytes" in finding["meaning"]
    fix(network, finding["fix"].split(", if")[0])
    assert examine().findings == []


def test_an_interface_without_carrier_is_named(network, examine):
    network.service.ip("link set to-proxy down")
    assert all(
        finding["finding"] == "route" and "to-service, which has no carrier" in finding["looked_at"]
        for finding in examine().findings
    )
    assert len(examine().findings) == 2


def test_a_neighbour_that_does_not_answer_is_named(network, examine):
    upstream = "10.0.0.77:53"
    with Client(network.proxy, "10.0.0.1:0") as asker:
        asker.send(b"anybody?", upstream)
        asker.receive(0.1)
    assert (
        "10.0.0.77 does not answer on to-service"
        in examine(upstream=upstream).only("neighbour")["looked_at"]
    )


def nft(network, rules):
    subprocess.run(
        network.proxy.command("nft", "-f", "-"), input=rules, text=True, check=True, timeout=30
    )


def test_a_filter_that_drops_requests_is_named_proved_and_fixed(network, examine):
    nft(
        network,
        "table inet f { chain out { type filter hook output priority 0; udp dport { 53, 123 } ip "
        "daddr 10.0.0.0/24 drop; }; }",
    )
    examined = examine("--probe", "00")
    kinds = [finding["finding"] for finding in examined.findings]
    assert kinds == ["packet_filter", "probe"], examined.text
    assert "requests are dropped by nftables, inet f out: rule" in examined.findings[0]["looked_at"]
    assert "Operation not permitted" in examined.findings[1]["looked_at"]
    fix(network, examined.findings[0]["fix"])
    assert examine().findings == []


def test_a_stateful_filter_that_drops_what_aliases_answer_is_named_proved_and_fixed(
    network, examine
):
    """The usual firewall of a server. Conntrack knows the flow to the upstream; what an alias
    answers is new to it."""
    nft(
        network,
        "table inet f { chain in { type filter hook input priority 0; policy drop; ct state vmap { "
        "established : accept, related : accept, invalid : drop };"
        " udp dport 5353 accept; }; }",
    )
    examined = examine()
    finding = examined.only("packet_filter")
    assert (
        _ALIAS in finding["where"]
        and "its replies are dropped by nftables, inet f in: policy drop" in finding["looked_at"]
    )
    with Service(network.service, [_UPSTREAM, _ALIAS], from_each([_ALIAS])):
        assert "no answer from" in examine("--probe", "00").findings[-1]["looked_at"]
        fix(network, finding["fix"])
        probed = examine("--probe", "00")
    # The probe itself was tracked: the kernel would have forgotten it long before the session's
    # five minutes.
    assert "forgotten after" in probed.only("conntrack", "note")["looked_at"]
    assert f'listed as \\"{_ALIAS}\\"' in probed.text


def test_a_filter_that_cannot_be_read_is_said_to_be_unseen(network, examine):
    nft(network, "table inet f { chain in { type filter hook input priority 0; policy drop; }; }")
    kinds = {finding["finding"] for finding in examine(prefix=_LIMITED).findings}
    assert kinds == {"unseen"}


@pytest.mark.parametrize(
    "does, words",
    [
        ("echo '{\"nftables\": [{'", "the list of rules: "),
        ("kill -SEGV $$", "ended by signal 11"),
        ("exec sleep 60", "it takes too long"),
        ("exec yes '['", "more than 8388608 bytes"),
    ],
    ids=["no list", "it crashes", "it hangs", "no end"],
)
def test_whatever_nft_does_the_doctor_goes_on_and_says_so(network, examine, tmp_path, does, words):
    nft(network, "table inet f { chain in { type filter hook input priority 0; policy drop; }; }")
    program = tmp_path / "nft"
    program.write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
    program.chmod(0o755)
    finding = examine(prefix=("env", f"PATH={tmp_path}:/usr/bin:/bin")).only("unseen", "note")
    assert finding["looked_at"].startswith(
        "the packet filter's rules could not be examined: nftables: "
    )
    assert words in finding["looked_at"]


def test_rules_are_read_without_a_path_that_leads_to_nft(network, examine):
    nft(network, "table inet f { chain in { type filter hook input priority 0; policy drop; }; }")
    findings = examine(prefix=("env", "PATH=/nowhere")).findings
    assert {finding["finding"] for finding in findings} == {"packet_filter"}


def test_a_probe_names_who_answers_and_the_line_to_add_makes_it_right(network, examine):
    unlisted = IPV4.service(252)
    with Service(
        network.service, [_UPSTREAM, _ALIAS, unlisted], from_each([_UPSTREAM, _ALIAS, unlisted])
    ) as service:
        finding = examine("--probe", "68656c6c6f").only("probe")
        assert [request.payload for request in service.requests] == [b"hello"]
        assert f"came from {unlisted}" in finding["looked_at"]
        assert finding["fix"] == f'reply_aliases = ["{_ALIAS}", "{unlisted}"]'
        probed = examine(
            "--probe", "68656c6c6f", reply_aliases=json.loads(finding["fix"].split(" = ")[1])
        )
    assert probed.findings == [], probed.text
    assert "the upstream itself" in probed.text


def test_a_probe_that_nobody_hears_is_told_from_one_that_nobody_answers(examine):
    """No socket on that port: the service's kernel answers with ICMP."""
    finding = examine("--probe", "00").only("probe")
    assert "10.0.0.254 answered the probe with ICMP: Connection refused" in finding["looked_at"]


def test_the_doctor_sends_nothing_unless_asked_to(network, examine):
    with Service(network.service, [_UPSTREAM, _ALIAS], from_each([_UPSTREAM])) as service:
        examine()
        with Client(network.proxy, "10.0.0.1:0") as asker:
            asker.ask(b"last", _UPSTREAM)
        assert [request.payload for request in service.requests] == [b"last"]


def test_text_has_one_line_for_each_finding_and_a_last_one_that_counts(network, tmp_path):
    file = tmp_path / "doctor.toml"
    file.write_text(
        configuration(table(listen="10.1.0.77:5353", upstream=_UPSTREAM)), encoding="utf-8"
    )
    done = run_once("--doctor", "--config", file, prefix=network.proxy.command())
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert all(line.split()[0] in ("ok", "note", "problem") for line in lines[:-1])
    assert lines[-1] == "1 problem, 0 notes"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--json"], "--doctor"),
        (["--probe", "00"], "--doctor"),
        (["--doctor", "--probe-proxy", "a"], "--probe"),
        (["--doctor", "--probe", "0"], "odd number"),
        (["--doctor", "--probe", "0x"], "digit 2 is not hexadecimal"),
        (["--doctor", "--probe", "00" * 65508], "65507"),
        (["--doctor", "--probe", "00"], "choose one with --probe-proxy: a or b"),
        (["--doctor", "--probe", "00", "--probe-proxy", "c"], "there are a and b"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2_and_says_what_is_wrong(tmp_path, arguments, words):
    file = tmp_path / "doctor.toml"
    file.write_text(
        table(name="a", listen=":5353", upstream="10.0.0.254:53")
        + table(name="b", listen=":5354", upstream="10.0.0.254:53"),
        encoding="utf-8",
    )
    done = run_once("--config", file, *arguments)
    assert done.returncode == 2 and words in done.stderr, done


def test_a_wrong_configuration_exits_78(tmp_path):
    file = tmp_path / "doctor.toml"
    file.write_text("[[proxy]]\n", encoding="utf-8")
    done = run_once("--doctor", "--config", file)
    assert done.returncode == 78 and f"{file}:1:1:" in done.stderr
