"""What this project wants to reach, as ratios within one run. docs/benchmarks.md explains what is
missed."""

import dataclasses

from results import median_of

URING, EPOLL, NGINX, FLOOR, GRO_FLOOR = (
    "udpproxy io_uring",
    "udpproxy epoll",
    "nginx stream",
    "floor",
    "floor, GRO/GSO",
)


@dataclasses.dataclass(frozen=True)
class Target:
    what: str
    figure: str
    workload: str
    contender: str
    reference: str
    limit: float
    other_workload: str = ""  # the reference's, where it differs
    at_least: bool = False

    def outcome(self, results):
        """(median, least, most, whether it is met), or None where it was not measured."""
        ratios = results.ratios(
            self.figure, self.workload, self.contender, self.reference, self.other_workload or None
        )
        if not ratios:
            return None
        middle = median_of(ratios)
        return (
            middle,
            min(ratios),
            max(ratios),
            middle >= self.limit if self.at_least else middle <= self.limit,
        )


TARGETS = [
    Target(
        "single datagrams, 1000 clients: own CPU time against the floor's",
        "own_ns",
        "queued-64-1000",
        URING,
        FLOOR,
        1.15,
    ),
    Target("the same, whole core", "core_ns", "paced-64-1000", URING, FLOOR, 1.3),
    Target(
        "single datagrams, 1000 clients: own CPU time against nginx",
        "own_ns",
        "queued-64-1000",
        URING,
        NGINX,
        0.40,
    ),
    Target("the same, whole core", "core_ns", "paced-64-1000", URING, NGINX, 0.65),
    Target(
        "the same, datagrams a second",
        "forwarded_per_s",
        "flood-64-1000",
        URING,
        NGINX,
        1.9,
        at_least=True,
    ),
    Target(
        "trains: own CPU time against the floor with GRO and GSO",
        "own_ns",
        "queued-trains",
        URING,
        GRO_FLOOR,
        1.2,
    ),
    Target("trains: own CPU time against nginx", "own_ns", "queued-trains", URING, NGINX, 0.12),
    Target(
        "trains: datagrams a second against nginx",
        "forwarded_per_s",
        "flood-trains",
        URING,
        NGINX,
        10,
        at_least=True,
    ),
    Target(
        "one client, receive offload against none: whole core",
        "core_ns",
        "nic-64-1",
        URING,
        URING,
        0.4,
        "plain-64-1",
    ),
    Target(
        "burst of single datagrams of one client against the floor: own CPU time",
        "own_ns",
        "queued-64-1",
        URING,
        FLOOR,
        0.45,
    ),
    Target(
        "epoll against io_uring: own CPU time, 1 client", "own_ns", "queued-64-1", EPOLL, URING, 1.2
    ),
    Target(
        "epoll against io_uring: own CPU time, 1000 clients",
        "own_ns",
        "queued-64-1000",
        EPOLL,
        URING,
        1.2,
    ),
    Target(
        "epoll against io_uring: own CPU time, trains", "own_ns", "queued-trains", EPOLL, URING, 1.2
    ),
    Target(
        "a new client's request and reply against a known one's: own CPU time",
        "own_ns",
        "churn-paced",
        URING,
        URING,
        2.0,
        "known-paced",
    ),
    Target("latency p50 against the floor", "p50_ns", "latency", URING, FLOOR, 1.05),
    Target(
        "19 000 sessions against 100: own CPU time",
        "own_ns",
        "scaling-1-19000",
        URING,
        URING,
        1.25,
        "scaling-1-100",
    ),
]
