"""What is measured. Each workload says who sends what to whom, from which CPU, and which figures it
is good for.

    flood    clients on a CPU of their own send as fast as they can: datagrams a second that
             come through
    queued   the same, but clients and proxy share one CPU: the proxy always finds full queues; its
             own CPU time per datagram
    paced    the same CPU for both, bursts at a fixed rate: what one datagram costs the
             whole core, less what sending alone costs
    echo     the service answers; own CPU time per datagram, both ways
    churn    every datagram comes from a client never seen before, and is answered: CPU time
             per session, sessions a second
    latency  one request at a time
    memory   sessions are opened and kept: memory of each
"""

import dataclasses

from contenders import Setting


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    kind: str
    title: str
    clients: int = 1
    bytes: int = 64
    segments: int = 1  # more than one: trains, from clients with sockets
    run: int = 1  # consecutive datagrams of one client
    rate: int = 0
    burst: int = 64
    window: int = 0
    offload: bool = False  # receive offload as a network card does it
    sample: int = 1  # the service reads one datagram in so many
    storm_rate: int = 0  # datagrams a second from clients never seen before, besides
    setting: Setting = Setting()
    needs_sessions: bool = False
    quick: bool = False  # part of --quick
    only_ours: bool = False
    seconds: float = 1.0  # of a measurement, against that of the others
    warm_seconds: float = 0.3  # before it: sessions are opened meanwhile

    @property
    def shared_cpu(self):
        return self.kind in ("queued", "paced")


_ANSWERED = Setting(replies=True)
_ONE_SHOT = Setting(replies=True, one_shot=True)

WORKLOADS = [
    Workload("flood-64-1", "flood", "64 B, 1 client", sample=16),
    Workload("flood-64-1000", "flood", "64 B, 1000 clients", clients=1000, sample=16, quick=True),
    Workload(
        "flood-1200-1000", "flood", "1200 B, 1000 clients", clients=1000, bytes=1200, sample=16
    ),
    Workload(
        "flood-trains",
        "flood",
        "1200 B, trains of 32, 4 clients",
        clients=4,
        bytes=1200,
        segments=32,
        sample=16,
        quick=True,
    ),
    Workload("queued-64-1", "queued", "64 B, 1 client", quick=True),
    Workload("queued-64-1000", "queued", "64 B, 1000 clients", clients=1000, quick=True),
    Workload("queued-1200-1000", "queued", "1200 B, 1000 clients", clients=1000, bytes=1200),
    Workload(
        "queued-trains",
        "queued",
        "1200 B, trains of 32, 4 clients",
        clients=4,
        bytes=1200,
        segments=32,
        quick=True,
    ),
    Workload("paced-64-1", "paced", "64 B, 1 client", rate=100000),
    Workload("paced-64-1000", "paced", "64 B, 1000 clients", clients=1000, rate=100000, quick=True),
    Workload(
        "paced-1200-1000", "paced", "1200 B, 1000 clients", clients=1000, bytes=1200, rate=100000
    ),
    Workload(
        "paced-trains",
        "paced",
        "1200 B, trains of 32, 4 clients",
        clients=4,
        bytes=1200,
        segments=32,
        rate=100000,
        quick=True,
    ),
    Workload("plain-64-1", "paced", "64 B, 1 client, offload off", rate=100000),
    Workload(
        "nic-64-1", "paced", "64 B, 1 client, offload on", rate=100000, offload=True, quick=True
    ),
    Workload(
        "plain-1200-16",
        "paced",
        "1200 B, bursts of 16, offload off",
        clients=1000,
        run=16,
        bytes=1200,
        rate=100000,
    ),
    Workload(
        "nic-1200-16",
        "paced",
        "1200 B, bursts of 16, offload on",
        clients=1000,
        run=16,
        bytes=1200,
        rate=100000,
        offload=True,
    ),
    Workload(
        "nic-64-1000",
        "paced",
        "64 B, 1000 clients in turn, offload on",
        clients=1000,
        rate=100000,
        offload=True,
    ),
    Workload("echo-64-1", "echo", "64 B, 1 client", rate=40000, setting=_ANSWERED),
    Workload(
        "echo-64-1000",
        "echo",
        "64 B, 1000 clients",
        clients=1000,
        rate=40000,
        setting=_ANSWERED,
        quick=True,
    ),
    Workload(
        "known-paced",
        "echo",
        "5000 datagrams a second of 1000 known clients",
        clients=1000,
        rate=5000,
        burst=16,
        setting=_ANSWERED,
    ),
    Workload(
        "churn-paced",
        "churn",
        "5000 new clients a second",
        clients=1 << 20,
        rate=5000,
        burst=16,
        setting=_ONE_SHOT,
        needs_sessions=True,
        quick=True,
        warm_seconds=0.6,
    ),
    Workload(
        "churn-flood",
        "churn",
        "as many new clients as are answered",
        clients=1 << 20,
        window=64,
        setting=_ONE_SHOT,
        needs_sessions=True,
        warm_seconds=0.6,
    ),
    Workload(
        "latency",
        "latency",
        "64 B, one request at a time, 1000 a second",
        rate=1000,
        setting=_ANSWERED,
        quick=True,
        seconds=2.0,
    ),
    Workload(
        "storm",
        "latency",
        "the same, beside 10 000 new clients a second",
        rate=1000,
        storm_rate=10000,
        setting=_ONE_SHOT,
        needs_sessions=True,
        seconds=2.0,
    ),
]

SESSIONS_KEPT = 4000
MEMORY = Workload(
    "memory",
    "memory",
    f"{SESSIONS_KEPT} sessions",
    clients=SESSIONS_KEPT,
    rate=20000,
    setting=_ANSWERED,
    needs_sessions=True,
)

SCALING_CLIENTS = (1, 10, 100, 1000, 10000, 19000)


def scaling():
    """Ours alone, one socket a session: cost per datagram as sessions grow, with one and with two
    shards."""
    return [
        Workload(
            f"scaling-{shards}-{clients}",
            "queued",
            f"{clients} session{'s' if clients > 1 else ''}",
            clients=clients,
            setting=Setting(sessions=clients, bare=True, shards=shards),
            only_ours=True,
            warm_seconds=0.3 + clients / 3000,
        )
        for shards in (1, 2)
        for clients in SCALING_CLIENTS
    ]
