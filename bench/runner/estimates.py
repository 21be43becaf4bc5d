"""What a machine with 64 cores would need, estimated from the figures of a run. Arithmetic only:
nobody has measured such a machine."""

from results import median_of
from tables import grid
from targets import URING

_CORES, _USE = 64, 0.7
_SESSIONS, _NEW_PER_S, _COOLDOWN_S = 1_000_000, 10_000, 10
_MEMBERS = 3
_PORTS = 65535 - 1024 + 1
_LISTENER_BYTES = 2 * (4 << 20) * 2  # both buffers, doubled by the kernel
_BUFFERS = 1024  # of each leg, with more than sixteen shards
_POOL_BYTES = 2 * _BUFFERS * (64 << 10)  # both legs


def _number(value):
    return f"{value:,.0f}".replace(",", " ")


def _millions(value):
    return f"{value / 1e6:.1f} M"


def estimates_table(results):
    """Markdown; None when the run lacks what the estimates are made from."""
    core = median_of(results.values("paced-64-1000", URING, "core_ns"))
    user = median_of(results.values("memory", URING, "user_bytes_per_session"))
    kernel = median_of(results.values("memory", URING, "kernel_bytes_per_session"))
    if not core or user is None or kernel is None:
        return None
    per_core = 1e9 / core * _USE
    groups = _SESSIONS + _NEW_PER_S * _COOLDOWN_S
    return grid(
        [
            ["what", "arithmetic", "result"],
            [
                "datagrams a second and core",
                f"1 s / {_number(core)} ns, of which {_USE:.0%} are used",
                _number(per_core),
            ],
            [
                "datagrams a second, both ways together",
                f"{_CORES} cores x {_number(per_core)}",
                _millions(per_core * _CORES),
            ],
            ["of it requests, when each is answered", "half", _millions(per_core * _CORES / 2)],
            [
                "on the wire, 1200 B, each way",
                f"{_millions(per_core * _CORES / 2)} x (1200 + 66) B x 8",
                f"{_number(per_core * _CORES / 2 * 1266 * 8 / 1e9)} Gbit/s",
            ],
            [
                "groups, cooling ones included",
                f"{_number(_SESSIONS)} sessions + {_number(_NEW_PER_S)} new a second x "
                f"{_COOLDOWN_S} s",
                _number(groups),
            ],
            [
                "descriptors, two aliases",
                f"{_number(groups)} x {_MEMBERS}",
                _number(groups * _MEMBERS),
            ],
            ["descriptors, one socket a session", f"{_number(groups)} x 1", _number(groups)],
            [
                "source addresses",
                f"{_number(groups)} / {_number(_PORTS)} ports of 1024-65535, rounded up",
                _number(-(-groups // _PORTS)),
            ],
            [
                "ports of one address for each shard",
                f"{_number(_PORTS)} / {_CORES}",
                _number(_PORTS // _CORES),
            ],
            [
                "memory of sessions",
                f"{_number(groups)} x ({_number(user)} + {_number(kernel)}) B",
                f"{groups * (user + kernel) / 1e9:.1f} GB",
            ],
            [
                "memory of receive buffers, at most",
                f"{_CORES} shards x 2 legs x {_BUFFERS} x 64 KiB",
                f"{_CORES * _POOL_BYTES / 1e9:.1f} GB",
            ],
            [
                "memory of listeners' queues, at most",
                f"{_CORES} shards x 2 x 8 MiB for each address",
                f"{_CORES * _LISTENER_BYTES / 1e9:.1f} GB",
            ],
        ]
    )
