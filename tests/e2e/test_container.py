"""share/container: the Containerfile, the seccomp profile and the manifest are read, and what they
say is held against the program, the source tree and Debian's packages. Docker, Podman and
Kubernetes are not here: harness/container.py does what their engines do, as far as it goes.

    client                        the container                     service
    10.1.0.2  ────────  10.1.0.1:12345 │ 10.0.0.1  ────────  10.0.0.254:12345 .253 .252
"""

import json
import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from harness.container import CONFIGURATION, IO_URING, NOBODY, PROGRAM, inside, with_container
from harness.namespaces import run
from harness.program import REPOSITORY, configuration, help_of, is_sanitised, path, run_once, table
from harness.service import from_each
from harness.topology import IPV4
from harness.users import several_users

_FILES = REPOSITORY / "share" / "container"
_PROFILE = _FILES / "seccomp.json"
_VERSION = run_once("--version").stdout.split()[1]

runs_in_a_container = pytest.mark.skipif(
    is_sanitised(), reason="a sanitiser asks for calls that the profile refuses"
)


def _instructions():
    """[(stage, instruction, its words)] of the Containerfile."""
    text = re.sub(r"^#.*\n", "", (_FILES / "Containerfile").read_text(), flags=re.MULTILINE)
    stage = -1
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            stage += name == "FROM"
            words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
            found.append((stage, name, words))
    return found


def _all(stage, name):
    return [words for at, each, words in _instructions() if (at, each) == (stage, name)]


def _commands(stage):
    """The shell's commands of a stage, each as words."""
    commands = [[]]
    for words in _all(stage, "RUN"):
        for word in words:
            if word == "&&":
                commands.append([])
            else:
                commands[-1].append(word)
        commands.append([])
    return [command for command in commands if command]


def _one_command(stage, *words):
    (found,) = [each for each in _commands(stage) if set(words) <= set(each)]
    return found


def _manifest():
    """{kind: document}"""
    documents = yaml.safe_load_all((_FILES / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def _pod():
    return _manifest()["DaemonSet"]["spec"]["template"]["spec"]


def _manifests_configuration():
    (text,) = _manifest()["ConfigMap"]["data"].values()
    return text


def _seconds(duration):
    return int(re.fullmatch(r"(\d+)s", duration)[1])


def test_what_the_containerfile_copies_is_enough_for_meson_and_what_it_makes_is_copied(tmp_path):
    source, build = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    for *from_, to in _all(0, "COPY"):
        to = source / to.removeprefix("/source").strip("/")
        for each in from_:
            run("cp", "-r", REPOSITORY / each, to)
    setup = _one_command(0, "meson", "setup")
    setup = [{"/build": build, "/source": source}.get(word, word) for word in setup]
    run(*map(str, setup), timeout=80)
    plan = json.loads(run("meson", "introspect", build, "--installed").stdout)
    installed = {f"/image{to}" for to in plan.values()}
    for from_, *files, _ in _all(1, "COPY"):
        assert from_ == "--from=builder" and set(files) <= installed
    assert ["/source/packages.sh", "programs"] in _commands(0)
    assert {PROGRAM, f"{PROGRAM}ctl"} == {
        to + file.rpartition("/")[2]
        for _, *files, to in _all(1, "COPY")
        for file in files
        if to == "/usr/bin/"
    }


def _libraries():
    """The packages of the libraries that the programs themselves name."""
    names = set()
    for program in (path(), f"{path()}ctl"):
        read = run("readelf", "--dynamic", program).stdout
        names |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", read))
    paths = {
        name: where
        for program in (path(), f"{path()}ctl")
        for name, where in re.findall(r"(\S+) => (/\S+)", run("ldd", program).stdout)
    }
    packages = set()
    for name in names & paths.keys():
        # dpkg knows the path without or with /usr.
        found = run("dpkg", "-S", f"*{paths[name].removeprefix('/usr')}").stdout
        packages |= {line.partition(":")[0] for line in found.splitlines()}
    return packages


def _why_no_packages():
    """Why Debian 12's packages cannot be looked up here; empty when they can."""
    if 'VERSION_ID="12"' not in pathlib.Path("/etc/os-release").read_text():
        return "this is not Debian 12, which the image is made of"
    if not list(pathlib.Path("/var/lib/apt/lists").glob("*_Packages*")):
        return "apt has no lists of packages here"
    return "a sanitiser brings libraries of its own" if is_sanitised() else ""


@pytest.mark.skipif(bool(_why_no_packages()), reason=_why_no_packages())
def test_the_packages_of_the_image_are_there_and_have_the_programs_libraries():
    install = _one_command(1, "apt-get", "install")
    packages = set(install[install.index("--no-install-recommends") + 1 :])
    purge = _one_command(1, "apt-get", "purge")
    removed = set(purge[purge.index("--auto-remove") + 1 :])
    assert removed < packages
    shown = run("apt-cache", "show", "--no-all-versions", *packages).stdout
    assert set(re.findall(r"^Package: (\S+)$", shown, re.MULTILINE)) == packages
    # libstdc++6 depends on libgcc-s1 and both on libc6.
    assert _libraries() - {"libc6", "libgcc-s1"} == packages - removed


def test_the_image_runs_the_program_as_nobody_with_options_that_it_has():
    ((user,), (entry,), command) = (_all(1, name)[0] for name in ("USER", "ENTRYPOINT", "CMD"))
    assert user == f"{NOBODY}:{NOBODY}"
    assert [entry, *command] == [PROGRAM, "--config", CONFIGURATION]
    assert ["setcap", "cap_net_bind_service=ep", PROGRAM] in _commands(1)
    assert f"udpproxy:{_VERSION} " in (_FILES / "Containerfile").read_text()


def test_the_operators_commands_name_the_images_version_user_paths_and_verbs():
    page = (REPOSITORY / "docs" / "operating.md").read_text(encoding="utf-8")
    section = page[page.index("## In a container") : page.index("## In a cluster")]
    block = "\n".join(re.findall(r"^    (.*)", section, re.MULTILINE)).replace("\\\n", " ")
    build, start, look = map(shlex.split, block.splitlines())
    file = build[build.index("-f") + 1]
    assert REPOSITORY / file == _FILES / "Containerfile"
    assert f"-f {file} ." in (_FILES / "Containerfile").read_text()
    (profile,) = [word.removeprefix("seccomp=") for word in start if word.startswith("seccomp=")]
    assert REPOSITORY / profile == _PROFILE
    assert f"udpproxy:{_VERSION}" == start[-1] == build[build.index("-t") + 1]
    assert [start[start.index("--user") + 1]] == _all(1, "USER")[0]
    _, verbs = help_of(f"{path()}ctl")
    told = re.findall(r"udpproxyctl\s+(\w+)", " ".join(look) + section)
    assert {"status", "drain"} == set(told) <= set(verbs)


def test_the_manifest_names_the_programs_options_version_paths_and_probes(tmp_path):
    manifest, pod = _manifest(), _pod()
    (container,) = pod["containers"]
    options, _ = help_of(path())
    assert container["image"].endswith(f"/udpproxy:{_VERSION}")
    assert {word for word in container["args"] if word.startswith("--")} <= options
    assert container["args"][:2] == ["--config", CONFIGURATION]
    labels = manifest["DaemonSet"]["spec"]["selector"]["matchLabels"]
    assert labels == manifest["DaemonSet"]["spec"]["template"]["metadata"]["labels"]

    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (volume,) = [each for each in pod["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == manifest["ConfigMap"]["metadata"]["name"]
    (file,) = manifest["ConfigMap"]["data"]
    assert f"{mounts[volume['name']]}/{file}" == CONFIGURATION
    assert "/run/udpproxy" in mounts.values()
    assert mounts.keys() == {each["name"] for each in pod["volumes"]}

    drain = container["args"][container["args"].index("--drain-timeout") + 1]
    assert pod["terminationGracePeriodSeconds"] > _seconds(drain)
    security = {**pod["securityContext"], **container["securityContext"]}
    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, NOBODY)
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}

    file = tmp_path / "udpproxy.toml"
    file.write_text(_manifests_configuration())
    checked = run_once("--config", file, "--check-config")
    assert checked.returncode == 0, checked.stderr


@several_users
@runs_in_a_container
def test_a_pod_serves_answers_its_probes_and_drains_before_it_ends(
    network, start_proxy, open_service, open_client, admin, tmp_path
):
    pod = _pod()
    (container,) = pod["containers"]
    sources = [IPV4.service(last, 12345) for last in (254, 253, 252)]
    open_service(sources, from_each(sources))
    arguments = container["args"][2:]
    arguments[arguments.index("--drain-timeout") + 1] = "4s"
    proxy = start_proxy(
        _manifests_configuration(),
        prefix=with_container(tmp_path / "root", _PROFILE, IO_URING, no_new_privileges=True),
        arguments=arguments,
    )
    client, late, listener = open_client(), open_client(), IPV4.listener(12345)
    client.send(b"question", listener)
    assert all(client.receive() is not None for _ in sources)

    def probe(kind):
        get = container[f"{kind}Probe"]["httpGet"]
        address = f"{get['host']}:{get['port']}"
        return admin.http(get["path"], tcp=address, headers={"Host": address})[0]

    assert (probe("liveness"), probe("readiness")) == (200, 200)

    command = container["lifecycle"]["preStop"]["exec"]["command"]
    hook = subprocess.Popen(inside(proxy.pid, *command), stdout=subprocess.DEVNULL)
    try:
        proxy.wait_until(lambda: probe("readiness") == 503, what="not ready")
        assert probe("liveness") == 200 and hook.poll() is None
        late.send(b"late", listener)
        client.send(b"another", listener)
        assert all(client.receive() is not None for _ in sources)
        assert late.receive(0.1) is None
        assert hook.wait(timeout=30) == 0  # not before the program's end, which an engine waits for
        assert proxy.stopped()["drop_draining"] == 1
    finally:
        hook.kill()
        hook.wait()


@several_users
@runs_in_a_container
def test_under_the_profile_nobody_serves_a_low_port_from_a_read_only_root(
    engine, start_proxy, open_service, open_crowd, tmp_path
):
    sources = [IPV4.service(254), IPV4.service(253)]
    open_service(sources, from_each(sources))
    proxy = start_proxy(
        configuration(
            table(listen=IPV4.listener(53), upstream=sources[0], reply_aliases=sources[1:]),
            engine=engine,
        ),
        prefix=with_container(tmp_path / "root", _PROFILE),
    )
    status = dict(
        line.split(":", 1)
        for line in run("cat", f"/proc/{proxy.worker_pid}/status").stdout.splitlines()
    )
    low_ports = f"{1 << 10:016x}"
    assert status["Uid"].split() == [str(NOBODY)] * 4 and status["Groups"].split() == []
    assert status["CapEff"].strip() == status["CapBnd"].strip() == low_ports
    assert status["Seccomp"].strip() == "2"
    touch = run(*inside(proxy.pid, "/bin/sh", "-c", ": >/run/udpproxy/x && : >/x"), check=False)
    assert "/x: Read-only file system" in touch.stderr
    (event,) = proxy.all_events("engine")
    assert event["engine"] == engine
    got = open_crowd(20).ask_all(IPV4.listener(53), lambda client: b"%d" % client, replies=2)
    assert len(got) == 40
    assert "sessions" in run(*inside(proxy.pid, "/usr/bin/udpproxyctl", "status")).stdout
    assert proxy.stop().drops() == {}


@several_users
@runs_in_a_container
@pytest.mark.parametrize(
    "options, told",
    [
        ({"low_ports": False}, f"{PROGRAM}: Operation not permitted"),
        ({"no_new_privileges": True}, "Permission denied"),
    ],
    ids=["no capability", "no new privileges"],
)
def test_a_low_port_needs_the_capability_and_leave_to_gain_it(options, told, start_proxy, tmp_path):
    """What the Containerfile and the manifest say of CAP_NET_BIND_SERVICE and of no_new_privs."""
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(53), upstream=IPV4.service(254))),
        prefix=with_container(tmp_path / "root", _PROFILE, **options),
        ready=False,
    )
    assert proxy.wait() == 1
    assert told in proxy.text()


@several_users
@runs_in_a_container
@pytest.mark.parametrize("call", [*IO_URING, None])
def test_where_the_profile_lacks_io_uring_auto_takes_epoll_and_says_why(
    call, start_proxy, tmp_path
):
    """Without one of the three calls, and without all of them as in Docker's own profile."""
    proxy = start_proxy(
        configuration(table(listen=IPV4.listener(), upstream=IPV4.service(254)), engine="auto"),
        prefix=with_container(tmp_path / "root", _PROFILE, [call] if call else IO_URING),
    )
    (event,) = proxy.all_events("engine")
    assert event["engine"] == "epoll" and "Operation not permitted" in event["reason"]
