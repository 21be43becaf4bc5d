"""Runs a command as a unit of systemd confines it: its system calls, families, limits and rights.

    prefix=sandbox.confining(settings, script)     goes before the command

The manager itself is not there; libseccomp puts up the same filters. `settings` are {key: [values]}
of [Service]. Run as a program it confines itself and becomes the command.
"""

import errno
import json
import mmap
import os
import resource
import socket
import subprocess
import sys

_FAMILIES_MAX = 64
_SHM_EXEC = 0o100000


def calls_of(words):
    """The system calls that SystemCallFilter= names, groups expanded."""
    found = set()
    for word in words:
        if not word.startswith("@"):
            found.add(word)
            continue
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True
        ).stdout.splitlines()[1:]
        found |= calls_of(line.strip() for line in listed if not line.strip().startswith("#"))
    return found


def filtered(values):
    """What is allowed by several SystemCallFilter=, in order: a list, and then what it lacks."""
    allowed = set()
    for value in values:
        words = value.removeprefix("~").split()
        allowed = allowed - calls_of(words) if value.startswith("~") else allowed | calls_of(words)
    return allowed


def confining(settings, script, user="nobody", group="nogroup"):
    """`script` is a copy of this file that the user may read."""
    what = {
        "calls": sorted(filtered(settings["SystemCallFilter"])),
        "refusal": getattr(errno, settings["SystemCallErrorNumber"][0]),
        "families": settings["RestrictAddressFamilies"][0].split(),
        "limits": {
            "RLIMIT_NOFILE": int(settings["LimitNOFILE"][0]),
            "RLIMIT_MEMLOCK": int(settings["LimitMEMLOCK"][0].removesuffix("M")) << 20,
        },
        "umask": int(settings["UMask"][0], 8),
        "is_writable_never_executable": settings["MemoryDenyWriteExecute"] == ["yes"],
    }
    rights = "".join(
        f",+{name.lower().removeprefix('cap_')}" for name in settings["AmbientCapabilities"]
    )
    return [
        *("setpriv", "--reuid", user, "--regid", group, "--clear-groups"),
        *(f"--{kind}=-all{rights}" for kind in ("inh-caps", "ambient-caps", "bounding-set")),
        *(["--no-new-privs"] if settings["NoNewPrivileges"] == ["yes"] else []),
        *(sys.executable, "-B", str(script), json.dumps(what)),
    ]


def _main():
    import seccomp  # of Debian's python3-seccomp

    what = json.loads(sys.argv[1])
    os.umask(what["umask"])
    for name, limit in what["limits"].items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(number, (limit, limit))

    narrow = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    families = {getattr(socket, name).value for name in what["families"]}
    for family in set(range(_FAMILIES_MAX)) - families:
        refusal = seccomp.ERRNO(errno.EAFNOSUPPORT)
        narrow.add_rule(refusal, "socket", seccomp.Arg(0, seccomp.EQ, family))
    if what["is_writable_never_executable"]:
        both = mmap.PROT_WRITE | mmap.PROT_EXEC
        for call, bits in (
            ("mmap", both),
            ("mprotect", mmap.PROT_EXEC),
            ("pkey_mprotect", mmap.PROT_EXEC),
            ("shmat", _SHM_EXEC),
        ):
            refusal = seccomp.ERRNO(errno.EPERM)
            narrow.add_rule(refusal, call, seccomp.Arg(2, seccomp.MASKED_EQ, bits, bits))
    narrow.load()

    calls = seccomp.SyscallFilter(defaction=seccomp.ERRNO(what["refusal"]))
    for name in what["calls"]:
        try:
            number = seccomp.resolve_syscall(seccomp.Arch(), name)
        except ValueError:
            continue  # newer than this libseccomp
        if number >= 0:  # else of another architecture
            calls.add_rule(seccomp.ALLOW, name)
    calls.load()
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    _main()
