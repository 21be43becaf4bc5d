"""A container without an engine: a root of its own with the programs where the Containerfile puts
them, the user nobody, capabilities, a seccomp profile.

    with_container(root, …) is the prefix of a program: harness.program.path() --config FILE, which
    runs as /usr/bin/udpproxy --config /etc/udpproxy/udpproxy.toml

The file itself is the program that does it, in the order of an engine: mounts, capabilities, the
filter, the user.
"""

import argparse
import ctypes
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys

NOBODY = 65534
PROGRAM, CONFIGURATION = "/usr/bin/udpproxy", "/etc/udpproxy/udpproxy.toml"
IO_URING = ("io_uring_setup", "io_uring_enter", "io_uring_register")
CAP_NET_BIND_SERVICE = 10  # linux/capability.h

_CLONE_NEWNS = 0x00020000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38  # linux/prctl.h


def with_container(root, profile, without=(), low_ports=True, no_new_privileges=False):
    """`low_ports`: CAP_NET_BIND_SERVICE is among the capabilities that the container may have."""
    options = {
        "root": str(root),
        "profile": str(profile),
        "without": list(without),
        "low_ports": low_ports,
        "no_new_privileges": no_new_privileges,
    }
    return ["/usr/bin/python3", "-B", __file__, json.dumps(options)]


def inside(pid, *words):
    """The words that run a program in the container of `pid`, as `docker exec` does."""
    user = ["--setuid", str(NOBODY), "--setgid", str(NOBODY)]
    return ["nsenter", "--target", str(pid), "--mount", "--net", "--root", "--wd", *user, *words]


def filter_of(profile, without=()):
    """A profile in the JSON of Docker, as libseccomp's filter. Calls that this libseccomp does not
    know are left out, as engines do."""
    import seccomp  # only here: the tests themselves need it no more than the program does

    errno = profile["defaultErrnoRet"]
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno))
    made.set_attr(seccomp.Attr.CTL_NNP, 0)
    for name in profile["architectures"]:
        architecture = getattr(seccomp.Arch, name.removeprefix("SCMP_ARCH_"))
        if not made.exist_arch(architecture):
            made.add_arch(architecture)
    for rule in profile["syscalls"]:
        action = {
            "SCMP_ACT_ALLOW": seccomp.ALLOW,
            "SCMP_ACT_ERRNO": seccomp.ERRNO(rule.get("errnoRet", errno)),
        }[rule["action"]]
        arguments = [
            seccomp.Arg(
                each["index"],
                getattr(seccomp, each["op"].removeprefix("SCMP_CMP_")),
                each["value"],
                each.get("valueTwo", 0),
            )
            for each in rule.get("args", [])
        ]
        for call in rule["names"]:
            if call not in without and seccomp.resolve_syscall(seccomp.Arch.NATIVE, call) != -1:
                made.add_rule(action, call, *arguments)
    return made


def _mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def _make_root(root, program, configuration):
    """Read-only but for /run/udpproxy; the C library and the others are this machine's."""
    root.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", root)
    for name in ("usr/bin", "proc", "dev", "etc/udpproxy", "run/udpproxy"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ("lib", "lib64"):
        if pathlib.Path("/usr", name).is_dir():
            (root / "usr" / name).mkdir()
            _mount("--bind", f"/usr/{name}", root / "usr" / name)
    _mount("--rbind", "/proc", root / "proc")
    (root / "dev/null").touch()
    _mount("--bind", "/dev/null", root / "dev/null")
    for tool in (program, program.with_name("udpproxyctl"), "/bin/sh", "/bin/sleep"):
        shutil.copy(tool, root / "usr/bin")
    shutil.copyfile(configuration, f"{root}{CONFIGURATION}")
    # setcap cap_net_bind_service=ep: struct vfs_cap_data of linux/capability.h, revision 2, with
    # the bit "effective".
    capability = struct.pack("<5I", 0x02000001, 1 << CAP_NET_BIND_SERVICE, 0, 0, 0)
    os.setxattr(f"{root}{PROGRAM}", "security.capability", capability)
    _mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root / "run/udpproxy")
    _mount("-o", "remount,ro", root)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("options", type=json.loads)
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--config", type=pathlib.Path)
    given, arguments = parser.parse_known_args()
    options = given.options
    made = filter_of(json.loads(pathlib.Path(options["profile"]).read_text()), options["without"])
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function, *parameters):
        if function(*parameters) != 0:
            sys.exit(f"{function.__name__}{parameters}: {os.strerror(ctypes.get_errno())}")

    call(libc.unshare, _CLONE_NEWNS)
    _mount("--make-rprivate", "/")
    _make_root(pathlib.Path(options["root"]), given.program, given.config)
    os.chroot(options["root"])
    os.chdir("/")
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        if capability != CAP_NET_BIND_SERVICE or not options["low_ports"]:
            call(libc.prctl, _PR_CAPBSET_DROP, capability, 0, 0, 0)
    if options["no_new_privileges"]:
        call(libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    made.load()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        os.execv(PROGRAM, [PROGRAM, "--config", CONFIGURATION, *arguments])
    except OSError as error:
        sys.exit(f"{PROGRAM}: {error.strerror}")


if __name__ == "__main__":
    main()
