"""The program may have no more memory, or no more threads, when somebody asks it for something.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:5353 │ 10.0.0.1  ────────  10.0.0.254:53, echoes
                          admin.sock

The limits of the running program are lowered (prlimit), it is asked, and the limits are lifted
again. What it cannot do it refuses with a reason, and its sessions go on.
"""

import http.client
import json
import re
import resource
import time


from harness.namespaces import run
from harness.program import table
from harness.reloading import Reloading
from harness.service import echo
from harness.topology import IPV4
from harness.users import as_its_user, several_users

_LEFT = (0, *(1 << power for power in range(16, 26)))  # bytes, to 32 MiB
_SESSIONS = 3000


def main_table(**keys):
    return table(
        name="main",
        listen=IPV4.listener(),
        upstream=IPV4.service(254),
        unlisted_replies="off",
        idle_timeout="10m",
        unassured_timeout="10m",
        **keys,
    )


def short_of_memory(proxy, left):
    """No more than `left` bytes of address space beyond what the program has now."""
    with open(f"/proc/{proxy.worker_pid}/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    hard = resource.prlimit(proxy.worker_pid, resource.RLIMIT_AS)[1]
    resource.prlimit(
        proxy.worker_pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + left, hard)
    )


def no_longer_short_of_memory(proxy):
    hard = resource.prlimit(proxy.worker_pid, resource.RLIMIT_AS)[1]
    resource.prlimit(proxy.worker_pid, resource.RLIMIT_AS, (hard, hard))


def many_proxies(count):
    """Proxies with many aliases, that take memory to read and to show."""
    return [
        table(
            name=f"proxy{number}",
            listen=IPV4.listener(20000 + number),
            sessions_max=10,
            upstream=IPV4.service(254),
            reply_aliases=[f"10.0.{last}.{number + 1}:53" for last in range(1, 64)],
        )
        for number in range(count)
    ]


def in_force(admin):
    """What is reported of the proxies, without what traffic changes."""
    keys = ("name", "listen", "upstream", "upstream_endpoint", "draining", "sessions_max")
    return [
        [proxy[key] for key in keys] + [[replies["source"] for replies in proxy["replies"]]]
        for proxy in json.loads(admin.http("/v1/proxies")[2])["proxies"]
    ]


def status_of(proxy, admin, path):
    """Of an answer; None when the connection ended without one, but not the program."""
    try:
        return admin.http(path)[0]
    except (http.client.HTTPException, OSError):
        deadline = time.monotonic() + 0.3
        while proxy.running() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert proxy.running(), f"the program ended at {path}:\n{proxy.text()}"
        return None


def test_a_reload_without_memory_is_refused_and_sessions_go_on(
    engine, admin, start_proxy, open_service, open_client
):
    """What was thrown reached main, and the program ended with all of its sessions."""
    open_service([IPV4.service(254)], echo())
    running = Reloading(start_proxy, engine, main_table(), head=admin.section())
    client = open_client()
    assert client.ask(b"before", IPV4.listener()).payload == b"before"
    before = in_force(admin)
    changed = main_table(sessions_max=77, reply_aliases=["10.0.0.253:53"])
    answers = []
    # It runs out of memory while it reads the file, while it prepares, or while it carries out.
    for left in _LEFT:
        short_of_memory(running.proxy, left)
        answers.append(running.reload_or_refusal(changed, *many_proxies(60)))
        assert client.ask(b"short", IPV4.listener()).payload == b"short"
        no_longer_short_of_memory(running.proxy)
        if answers[-1] == "reloaded":
            break
        assert in_force(admin) == before
    assert answers[0] == "not_reloaded" and running.proxy.all_events("reload_failed")[0]["reason"]
    assert running.reload_or_refusal(changed, *many_proxies(3)) == "reloaded"
    assert [shown[0] for shown in in_force(admin)[:4]] == ["main", "proxy0", "proxy1", "proxy2"]
    assert in_force(admin)[0] != before[0]
    assert open_client().ask(b"new proxy", IPV4.listener(20000)).payload == b"new proxy"
    assert client.ask(b"after", IPV4.listener()).payload == b"after"
    assert running.proxy.stop()["sessions_admitted"] == 2


def test_looks_without_memory_are_refused_and_sessions_go_on(
    engine, admin, start_proxy, open_service, open_crowd
):
    """A library that ran out of memory while it cleaned up ended the program."""
    open_service([IPV4.service(254)], echo())
    running = Reloading(start_proxy, engine, main_table(), *many_proxies(60), head=admin.section())
    crowd = open_crowd(_SESSIONS)
    assert len(crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client)) == len(crowd)
    paths = ("/v1/sessions?sort=idle&limit=100000", "/metrics", "/v1/proxies", "/v1/status")
    for left in _LEFT:
        short_of_memory(running.proxy, left)
        for path in paths:
            status = status_of(running.proxy, admin, path)
            assert status in (200, 500, 503, None), f"{path}: {status} with {left >> 10} KiB left"
        no_longer_short_of_memory(running.proxy)
    for path in paths:
        assert status_of(running.proxy, admin, path) == 200
    some = range(0, len(crowd), 100)
    got = crowd.ask_all(IPV4.listener(), lambda client: b"%d" % client, clients=some)
    assert len(got) == len(some)
    assert running.proxy.stop()["sessions_admitted"] == _SESSIONS


def limit_threads(proxy, soft=None):
    """No thread more than `soft` (absent: the hard limit), and those that the program has."""
    if soft is None:
        with open(f"/proc/{proxy.worker_pid}/limits", encoding="ascii") as limits:
            soft = re.search(r"Max processes +\S+ +(\S+)", limits.read())[1]
    run(*as_its_user("prlimit", "--pid", str(proxy.worker_pid), f"--nproc={soft}:"))


@several_users
def test_a_reload_without_threads_is_refused_or_done_and_sessions_go_on(
    engine, start_proxy, open_service, open_client
):
    """A new upstream name was looked up by a thread; that there was none ended the program."""
    open_service([IPV4.service(254)], echo())
    running = Reloading(lambda text: start_proxy(text, prefix=as_its_user()), engine, main_table())
    client = open_client()
    assert client.ask(b"before", IPV4.listener()).payload == b"before"
    limit_threads(running.proxy, 1)
    named = table(name="named", listen=IPV4.listener(5354), upstream="localhost:53")
    running.reload_or_refusal(main_table(), named)
    assert client.ask(b"short", IPV4.listener()).payload == b"short"
    limit_threads(running.proxy)
    running.reload_or_refusal(main_table(), named)
    running.proxy.wait_event("resolved", proxy="named", timeout=20)
    assert client.ask(b"after", IPV4.listener()).payload == b"after"
    assert running.proxy.stop()["sessions_admitted"] == 1
