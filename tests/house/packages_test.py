"""packages.sh with an apt of ours: what it asks as which user, and what is told when it cannot."""

import os
import pathlib
import subprocess

import pytest

_REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# As apt-get: a lock that is root's, a package that is not in its lists, one that is.
_APT = r"""#!/bin/sh
echo "apt-get $*" >>"$CALLS"
case $* in
    *update*) exit ;;
    *unknown*) echo "E: Unable to locate package unknown" >&2; exit 100 ;;
    *--assume-no*)
        case $* in *NoLocking*) ;; *) echo "E: are you root?" >&2; exit 100 ;; esac
        echo "0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded."
        exit 1 ;;
esac
"""
_SUDO = '#!/bin/sh\necho "sudo" >>"$CALLS"\nexec "$@"\n'


@pytest.fixture
def install(tmp_path):
    """install(package) -> (what packages.sh prints, its exit code, the calls of apt-get)"""
    tools = {"apt-get": _APT, "sudo": _SUDO, "dpkg-query": "#!/bin/sh\nexit 1\n"}
    for name, text in tools.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script = (_REPOSITORY / "packages.sh").read_text(encoding="utf-8")
    (tmp_path / "packages.sh").write_text(script, encoding="utf-8")

    def run(package):
        (tmp_path / "packages.txt").write_text(f"[programs]\n{package}\n", encoding="utf-8")
        calls = tmp_path / "calls"
        done = subprocess.run(
            ["bash", tmp_path / "packages.sh", "programs"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        return done.stdout, done.returncode, calls.read_text(encoding="utf-8").splitlines()

    return run


def test_how_much_it_is_needs_no_lock(install):
    """For a user with sudo the question failed for want of the lock, twice, and nothing was
    installed or said."""
    told, code, calls = install("known")
    assert (code, "1 newly installed" in told) == (0, True), told
    assert not [call for call in calls if "update" in call]
    assert " install -y --no-install-recommends known" in calls[-1]


def test_a_package_that_apt_does_not_know_is_named(install):
    told, code, _ = install("unknown")
    assert code != 0 and "E: Unable to locate package unknown" in told
