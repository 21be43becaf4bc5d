"""A Debian with nothing in it, made by mmdebstrap with the package sources of this machine."""

import os
import pathlib
import subprocess

# What apt and dpkg write for themselves, and the last state of the files of users.
_NOT_OURS = ("proc", "sys", "dev", "tmp", "var/log", "var/cache", "var/lib/apt", "var/lib/dpkg")
_BACKUPS = ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock")

# On a busy machine a build has taken more than ten minutes.
SECONDS_MAX = 1800


def run(*words, **options):
    """The output of a command; its end in an exception names it and what it printed."""
    done = subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
        **options,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


class Root:
    def __init__(self, directory):
        self.directory = directory
        sources = sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*.sources"))
        sources += sorted(pathlib.Path("/etc/apt/sources.list.d").glob("*.list"))
        if (plain := pathlib.Path("/etc/apt/sources.list")).exists():
            sources.append(plain)
        release = run("sh", "-c", '. /etc/os-release && printf %s "$VERSION_CODENAME"')
        made = ("mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt")
        run(*made, "--include=python3", release, directory, *sources)
        # How this machine's apt reaches its packages.
        options = run("apt-config", "dump", "Acquire")
        (directory / "etc/apt/apt.conf.d/00host").write_text(options, encoding="utf-8")
        for name in ("hosts", "resolv.conf"):
            if pathlib.Path("/etc", name).exists():
                text = pathlib.Path("/etc", name).read_text(encoding="utf-8")
                (directory / "etc" / name).write_text(text, encoding="utf-8")

    def run(self, *words):
        """In the root, with a /proc of its own; what is left of it ends with the command."""
        inside = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        own = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
        return run(*own, "sh", "-c", inside, self.directory, *words, env=environment)

    def apt(self, *words):
        return self.run("apt-get", "-y", "--no-install-recommends", *words)

    def files(self):
        """Every path of it."""
        found = set()
        for where, directories, names in os.walk(self.directory):
            here = pathlib.Path(where).relative_to(self.directory)
            directories[:] = [name for name in directories if str(here / name) not in _NOT_OURS]
            found |= {str(here / name) for name in [*directories, *names]}
        return found - set(_BACKUPS)
