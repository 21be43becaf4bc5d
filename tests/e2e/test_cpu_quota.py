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
    """outer and inner, in a hierarchy of this version that is mounted for us alone."""

    def __init__(self, version, directory):
        self.directory = directory
        self.root = directory / "cgroup"
        self.root.mkdir()
        self.kind = {"v1": "-t cgroup -o cpu", "v2": "-t cgroup2"}[version]
        done = run("mount", *self.kind.split(), "cgroup", self.root, check=False)
        if done.returncode != 0:
            pytest.skip(f"no cgroups {version} can be mounted here: {done.stderr.strip()}")
        self.outer = self.root / f"udpproxy-e2e-{os.getpid()}"
        self.inner = self.outer / "inner"
        # Where v1 has the cpu controller, cgroups v2 have no cpu.max. There the programs see files
        # of ours in place of outer, and all else is the kernel's.
        self.cover = None
        try:
            controllers = self.root / "cgroup.controllers"
            if version == "v2" and "cpu" in controllers.read_text().split():
                (self.root / "cgroup.subtree_control").write_text("+cpu")
            elif version == "v2":
                self.cover = directory / "cover"
                (self.cover / "inner").mkdir(parents=True)
            self.outer.mkdir()
            if version == "v2" and not self.cover:
                (self.outer / "cgroup.subtree_control").write_text("+cpu")
            self.inner.mkdir()
            self.limit("", 100)
        except OSError as error:
            self.close()
            pytest.skip(f"no cgroup {version} with a CPU quota can be made here: {error}")

    def limit(self, below, percent):
        """Of outer, or of `inner` below it."""
        file = "cpu.max" if self.kind == "-t cgroup2" else "cpu.cfs_quota_us"
        text = f"{percent * 1000}" + (" 100000" if file == "cpu.max" else "")
        ((self.cover or self.outer) / below / file).write_text(text + "\n")

    def close(self):
        for made in (self.inner, self.outer):
            if made.is_dir():
                made.rmdir()
        run("umount", self.root)

    def entering(self, *then):
        """The prefix of a program that runs in inner. Its mounts are its own (ip netns exec)."""
        cover = f"mount --bind {self.cover} {self.outer}" if self.cover else "true"
        enter = f'echo $$ >{self.inner}/cgroup.procs && {cover} && exec "$@"'
        return ["sh", "-c", enter, "sh", *then]

    def entering_a_namespace(self):
        """Likewise, with inner as the root of a cgroup namespace."""
        inside = self.directory / "inside"
        inside.mkdir()
        cover = f"mount --bind {self.cover}/inner {inside}" if self.cover else "true"
        mount = f"umount --recursive {self.root} && mount {self.kind} cgroup {inside} && {cover}"
        own = ["unshare", "--cgroup", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
        return self.entering(*own)


@pytest.fixture(params=["v1", "v2"])
def cgroups(request, tmp_path):
    made = _Cgroups(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def shards_of(network, start_proxy):
    """shards_of(prefix) -> (shards that run, what the log and what --check-config say of them)."""

    def shards_of(prefix, shards='"auto"'):
        proxy = start_proxy(configuration(_TABLE, engine="epoll", shards=shards), prefix=prefix)
        told = [(each["shards"], each["reason"]) for each in proxy.all_events("shards")]
        tasks = pathlib.Path(f"/proc/{proxy.worker_pid}/task").iterdir()
        running = sum((task / "comm").read_text().startswith("shard ") for task in tasks)
        assert proxy.wait_event("ready")["shards"] == str(running)
        proxy.stop()
        check = [*prefix, path(), "--config", str(proxy.configuration_file), "--check-config"]
        return running, told, run(*network.proxy.command(*check)).stdout

    return shards_of


def test_a_quota_above_the_cgroup_bounds_the_shards_and_is_told(cgroups, shards_of):
    cpus = len(os.sched_getaffinity(0))
    running, told, checked = shards_of(cgroups.entering())
    reason = f"{_QUOTA.format(100)} (of {cpus} CPUs)"
    assert (running, told) == (1, [("1", reason)])
    assert f"shards auto (1: {reason})" in checked


def test_at_the_root_of_a_cgroup_namespace_the_quota_counts_too(cgroups, shards_of):
    """A container has its cgroup as /, and a quota of its own there."""
    cgroups.limit("inner", 50)
    running, told, _ = shards_of(cgroups.entering_a_namespace())
    assert running == 1 and _QUOTA.format(50) in told[0][1]


def test_a_number_that_is_configured_is_not_bounded(cgroups, shards_of):
    running, told, checked = shards_of(cgroups.entering(), shards=2)
    assert (running, told) == (2, []) and "shards 2," in checked
