"""Debian's package of the tree as it is: built twice, looked at, installed into a Debian with
nothing in it, removed, purged. Run by ./dev package, which leaves it in build/package; needs root.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from root import SECONDS_MAX, Root, run

_TREE = pathlib.Path(__file__).resolve().parents[2]
_MEGABYTES_MAX = 4
_MUST_HAVE = """
usr/bin/udpproxy usr/bin/udpproxyctl
usr/share/man/man8/udpproxy.8.gz usr/share/man/man8/udpproxyctl.8.gz
usr/share/man/man5/udpproxy.toml.5.gz
usr/share/bash-completion/completions/udpproxy usr/share/bash-completion/completions/udpproxyctl
usr/share/zsh/site-functions/_udpproxy usr/share/zsh/site-functions/_udpproxyctl
usr/share/fish/vendor_completions.d/udpproxy.fish
usr/share/fish/vendor_completions.d/udpproxyctl.fish
usr/share/udpproxy/monitoring/alerts.yml usr/share/udpproxy/monitoring/dashboard.json
usr/share/doc/udpproxy/udpproxy.spdx.json usr/share/doc/udpproxy/udpproxy.toml.example
usr/share/doc/udpproxy/copyright
etc/udpproxy/udpproxy.toml usr/lib/sysusers.d/udpproxy.conf
""".split()


def _source(directory):
    """A copy of the tracked files: the tree may have gigabytes of builds."""
    source = directory / "udpproxy"
    for path in run("git", "-C", _TREE, "ls-files", "-z").split("\0")[:-1]:
        if (_TREE / path).exists():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_TREE / path, source / path)
    return source


def _build(directory, umask=0o022, **environment):
    """The packages made in `directory`."""
    run(
        *("dpkg-buildpackage", "-us", "-uc", "-b"),
        cwd=_source(directory),
        umask=umask,
        env={**os.environ, "CCACHE_DISABLE": "1", **environment},
    )
    return {path.name: path for path in directory.glob("*.deb")}


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """The future of a bare Debian: mmdebstrap makes it while the compiler runs."""
    directory = tmp_path_factory.mktemp("root")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield pool.submit(Root, directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def builds(bare, tmp_path_factory):
    """Two builds at once, as different as two people's."""
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("a-longer-name") / "deep"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(_build, one, TZ="UTC", LC_ALL="C", DEB_BUILD_OPTIONS="parallel=1")
        second = pool.submit(
            *(_build, other, 0o077),
            TZ="Pacific/Auckland",
            LC_ALL="C.UTF-8",
            DEB_BUILD_OPTIONS="parallel=2",
            HOME="/nonexistent",
        )
        made = first.result(), second.result()
    kept = _TREE / "build" / "package"
    kept.mkdir(parents=True, exist_ok=True)
    for path in one.glob("udpproxy*_*"):
        shutil.copy2(path, kept)
    return made


@pytest.fixture(scope="session")
def package(builds):
    (path,) = (path for name, path in builds[0].items() if "dbgsym" not in name)
    return path


@pytest.fixture(scope="session")
def unpacked(package, tmp_path_factory):
    directory = tmp_path_factory.mktemp("unpacked")
    run("dpkg-deb", "-x", package, directory)
    return directory


@pytest.fixture(scope="session")
def root(bare, package):
    """A Debian that has what the package depends on, and nothing of the package."""
    made = bare.result()
    depends = run("dpkg-deb", "-f", package, "Depends").strip()
    made.apt("satisfy", depends)
    made.before = made.files()
    shutil.copy(package, made.directory / "tmp")
    return made


def test_two_builds_are_the_same_to_the_byte(builds):
    one, other = builds
    assert len(one) == 2 and set(one) == set(other)
    for name, path in one.items():
        hashes = {hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, other[name])}
        assert len(hashes) == 1, name


def test_lintian_has_neither_an_error_nor_a_warning(package):
    (changes,) = package.parent.glob("*.changes")
    found = run("lintian", "--allow-root", "--fail-on", "error,warning", changes)
    assert not re.search("^[EW]:", found, re.MULTILINE), found


def test_it_has_what_an_installation_brings(unpacked):
    assert [path for path in _MUST_HAVE if not (unpacked / path).exists()] == []
    units = {path.name for path in unpacked.glob("**/lib/systemd/system/*")}
    assert units == {"udpproxy.service", "udpproxy@.service"}


def test_the_programs_are_small_and_their_symbols_are_elsewhere(unpacked, builds):
    for name in ("udpproxy", "udpproxyctl"):
        program = unpacked / "usr/bin" / name
        assert program.stat().st_size < _MEGABYTES_MAX * 1_000_000
        sections = run("readelf", "--wide", "--sections", program)
        assert ".symtab" not in sections and ".debug_info" not in sections
    (symbols,) = (path for name, path in builds[0].items() if "dbgsym" in name)
    assert "usr/lib/debug/.build-id" in run("dpkg-deb", "-c", symbols)


def test_the_list_of_its_parts_is_spdx_and_is_true(unpacked):
    text = (unpacked / "usr/share/doc/udpproxy/udpproxy.spdx.json").read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert re.match(r"\w+://[^#]+$", document["documentNamespace"])
    packages = {package["SPDXID"]: package for package in document["packages"]}
    assert len(packages) == len(document["packages"])
    for name, package in packages.items():
        assert re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", name)
        assert package["versionInfo"] and package["licenseConcluded"] and package["name"]
        assert package["downloadLocation"] == "NOASSERTION" and package["filesAnalyzed"] is False
    related = [
        (each["relationshipType"], packages[each["relatedSpdxElement"]]["name"].lower())
        for each in document["relationships"]
    ]
    assert ("DESCRIBES", "udpproxy") in related
    # A shared library of its own is listed as one, and no other is.
    needed = set()
    for program in ("udpproxy", "udpproxyctl"):
        found = run("readelf", "--dynamic", unpacked / "usr/bin" / program)
        needed |= set(re.findall(r"NEEDED.*\[(?:lib)?([\w+-]+)\.so", found))
    of_the_system = {"c", "m", "gcc_s", "ld-linux-x86-64", "ld-linux-aarch64"}
    linked = {re.sub(r"^lib|-(?=ares)", "", name) for kind, name in related if "LINK" in kind}
    assert linked == needed - of_the_system


def test_every_dependency_is_in_the_list_of_parts(unpacked):
    text = (unpacked / "usr/share/doc/udpproxy/udpproxy.spdx.json").read_text(encoding="utf-8")
    listed = {
        package["name"].lower().replace("c-ares", "libcares")
        for package in json.loads(text)["packages"]
    }
    meson = (_TREE / "meson.build").read_text(encoding="utf-8")
    dependencies = set(re.findall(r"\bdependency\(\s*'([^']+)'", meson))
    for_tests = {"threads", "doctest", "benchmark"}
    assert {name.lower() for name in dependencies - for_tests} <= listed


# What runs in the bare Debian has a stand-in for systemd, which says that the unit runs.
_UPGRADE = """
set -e
mkdir -p /run/systemd/system /run/udpproxy
cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
echo "systemctl $*" >>/tmp/asked
case $* in *list-units*) echo udpproxy.service loaded active running UDP reverse proxy ;; esac
END
chmod 755 /usr/local/bin/systemctl
printf '[[proxy]]\\nname = "one"\\nlisten = "127.0.0.1:12399"\\nupstream = "127.0.0.1:12398"\\n' \
    >/tmp/one.toml
udpproxy --config /tmp/one.toml >/tmp/log 2>&1 &
await() {
    for _ in $(seq 300); do
        if udpproxyctl --json status 2>&1 | tr -d ' ' | grep -q "$1"; then return; fi
        sleep 0.1
    done
    echo "not $1" && cat /tmp/log && exit 1
}
await '"sessions":0,'
python3 -c 'import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 12399))'
await '"sessions":1,'
dpkg -i "$1"
await '"sessions":1,'
kill $! && wait $!
cat /tmp/asked /tmp/log
rm -r /usr/local/bin/systemctl /run/systemd /run/udpproxy
"""


def _goes_on_in_a_newer_package(root, package):
    """The same package stands for a newer one."""
    told = root.run("sh", "-c", _UPGRADE, "sh", f"/tmp/{package.name}")
    upgraded = r"^udpproxy\.service: upgraded: (\S+) -> \1, 1 session adopted, 0 closed, pause "
    assert re.search(upgraded, told, re.MULTILINE), told
    asked = re.findall("^systemctl (.*)", told, re.MULTILINE)
    assert not [words for words in asked if "stop" in words or "restart" in words], told


def test_it_is_installed_answers_is_removed_and_purged(root, package):
    """In this order, in one root."""
    root.apt("install", f"/tmp/{package.name}")
    assert "udpproxy 0." in root.run("udpproxy", "--version")
    for name in ("tests/demo/demo.py", "udpproxy.toml.example"):
        shutil.copy(_TREE / name, root.directory / "tmp")
    told = root.run(
        *("python3", "/tmp/demo.py", "--program", "/usr/bin/udpproxy"),
        *("--config", "/tmp/udpproxy.toml.example"),
    )
    assert "All 192 replies came home through udpproxy." in told
    assert "udpproxy:" in (root.directory / "etc/passwd").read_text(encoding="utf-8")
    _goes_on_in_a_newer_package(root, package)
    root.apt("remove", "udpproxy")
    # What Debian's own tool notes about the unit, until the purge.
    noted = "var/lib/systemd/deb-systemd-helper-enabled/udpproxy.service.dsh-also"
    assert root.files() - root.before <= {"etc/udpproxy", "etc/udpproxy/udpproxy.toml", noted}
    root.run("dpkg", "--purge", "udpproxy")
    assert root.files() - root.before == set()


def test_debian_s_own_runner_passes_its_test(root, package, tmp_path):
    """autopkgtest, in the same root; it copies the source into it."""
    source = _source(tmp_path)
    done = subprocess.run(
        ["autopkgtest", "--no-built-binaries", package, source, "--", "chroot", root.directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == 0 and re.search(r"^demo +PASS", done.stdout, re.M), done.stdout
