"""shards = "auto" in a cgroup with a CPU quota, made for the test where the machine lets us.

    /           no quota
    └── outer   100 % of a CPU
        └── inner   no quota; the program runs here

Once a container with a quota of two CPUs on a host with 64 had 64 shards: they used the quota up in
a part of each period, and stood still for the rest of it.
"""

import os
import pathlib

import pytest

from harness.namespaces import run
from harness.program import configuration, path, table
from harness.topology import IPV4

_TABLE = table(listen=IPV4.listener(), upstream=IPV4.service(254))
_QUOTA = "the cgroup's CPU quota of {} %"

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="one CPU: a quota can make no difference"
)


class _Cgroups:
    """outer and inner, in whichever hierarchy has the cpu controller, mounted for us alone."""

    def __init__(self, mount_point):
        self.root = mount_point
        self.root.mkdir()
        self.type = ["cgroup", "-o", "cpu"]
        if run("mount", "-t", *self.type, "cgroup", self.root, check=False).returncode != 0:
            self.type = ["cgroup2"]
            done = run("mount", "-t", *self.type, "cgroup", self.root, check=False)
            if done.returncode != 0:
                pytest.skip(f"no cgroups can be made here: {done.stderr.strip()}")
        self.outer = self.root / f"udpproxy-e2e-{os.getpid()}"
        self.inner = self.outer / "inner"
        self.file = "cpu.max" if self.type == ["cgroup2"] else "cpu.cfs_quota_us"
        try:
            if self.type == ["cgroup2"]:
                (self.root / "cgroup.subtree_control").write_text("+cpu")
            self.outer.mkdir()
            if self.type == ["cgroup2"]:
                (self.outer / "cgroup.subtree_control").write_text("+cpu")
            self.inner.mkdir()
            self.limit(self.outer, 100)
        except OSError as error:
            self.close()
            pytest.skip(f"no cgroup with a CPU quota can be made here: {error}")

    def limit(self, cgroup, percent):
        (cgroup / self.file).write_text(f"{percent * 1000}\n")

    def close(self):
        for made in (self.inner, self.outer):
            if made.is_dir():
                made.rmdir()
        run("umount", self.root)

    def entering(self, cgroup, *then):
        return ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh", *then]


@pytest.fixture
def cgroups(tmp_path):
    made = _Cgroups(tmp_path / "cgroup")
    yield made
    made.close()


@pytest.fixture
def shards_of(network, start_proxy):
    """shards_of(prefix) -> (shards that run, what the log and what --check-config say of them)."""

    def shards_of(prefix, shards='"auto"'):
        proxy = start_proxy(configuration(_TABLE, engine="epoll", shards=shards), prefix=prefix)
        told = [(each["shards"], each["reason"]) for each in proxy.all_events("shards")]
        tasks = pathlib.Path(f"/proc/{proxy.pid}/task").iterdir()
        running = sum((task / "comm").read_text().startswith("shard ") for task in tasks)
        assert proxy.wait_event("ready")["shards"] == str(running)
        proxy.stop()
        check = [*prefix, path(), "--config", str(proxy.configuration_file), "--check-config"]
        return running, told, run(*network.proxy.command(*check)).stdout

    return shards_of


def test_a_quota_above_the_cgroup_bounds_the_shards_and_is_told(cgroups, shards_of):
    cpus = len(os.sched_getaffinity(0))
    running, told, checked = shards_of(cgroups.entering(cgroups.inner))
    reason = f"{_QUOTA.format(100)} (of {cpus} CPUs)"
    assert (running, told) == (1, [("1", reason)])
    assert f"shards auto (1: {reason})" in checked


def test_at_the_root_of_a_cgroup_namespace_the_quota_counts_too(cgroups, shards_of, tmp_path):
    """A container has its cgroup as /, and a quota of its own there."""
    inside = tmp_path / "inside"
    inside.mkdir()
    cgroups.limit(cgroups.inner, 50)
    mount = (
        f'umount {cgroups.root} && mount -t {" ".join(cgroups.type)} cgroup {inside} && exec "$@"'
    )
    own = ["unshare", "--cgroup", "--mount", "sh", "-c", mount, "sh"]
    running, told, _ = shards_of(cgroups.entering(cgroups.inner, *own))
    assert running == 1 and _QUOTA.format(50) in told[0][1]


def test_a_number_that_is_configured_is_not_bounded(cgroups, shards_of):
    running, told, checked = shards_of(cgroups.entering(cgroups.inner), shards=2)
    assert (running, told) == (2, []) and "shards 2," in checked
