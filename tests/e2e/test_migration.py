"""From a Caddyfile to a proxy that runs: what --from-caddyfile prints is what --check-config
accepts and clients are served by.

    client                        proxy                             service
    10.1.0.2  ────────  10.1.0.1:12345 │ 10.0.0.1  ────────  10.0.0.254:12345 the upstream, .253 and .252 answer as well
"""

import pytest

from harness.program import run_once
from harness.service import from_each

_BLOCK = """proxy 10.1.0.1:12345 10.0.0.254:12345 {
    reply-addr-alias 10.0.0.253:12345 10.0.0.252:12345
}
"""


@pytest.fixture
def caddyfile(tmp_path):
    def write(text):
        file = tmp_path / "Caddyfile"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_what_is_printed_passes_the_check_and_serves_as_the_block_did(
    caddyfile, tmp_path, start_proxy, open_service, open_client
):
    printed = run_once("--from-caddyfile", caddyfile(_BLOCK))
    assert (printed.returncode, printed.stderr) == (0, "")
    toml = tmp_path / "migrated.toml"
    toml.write_text(printed.stdout, encoding="utf-8")
    checked = run_once("--check-config", "--config", toml)
    assert checked.returncode == 0, checked.stderr
    sources = [f"10.0.0.{last}:12345" for last in (254, 253, 252)]
    open_service(sources, from_each(sources))
    start_proxy(printed.stdout)
    client = open_client()
    client.send(b"question", "10.1.0.1:12345")
    replies = [client.receive() for _ in sources]
    assert {reply.payload for reply in replies} == {
        b"question via " + source.encode() for source in sources
    }
    assert {reply.source for reply in replies} == {"10.1.0.1:12345"}


def test_variables_of_the_environment_are_written_out(caddyfile):
    prefix = ("env", "-u", "NOWHERE", "WHERE=10.0.0.254")
    file = caddyfile("proxy :12345 {$WHERE}:12345 {\n}\n")
    assert (
        'upstream = "10.0.0.254:12345"' in run_once("--from-caddyfile", file, prefix=prefix).stdout
    )
    refused = run_once(
        "--from-caddyfile", caddyfile("proxy :12345 {$NOWHERE}:12345 {\n}\n"), prefix=prefix
    )
    assert refused.returncode == 78
    assert f'{file}:1:14: ' in refused.stderr and '"NOWHERE" is not set' in refused.stderr


def test_a_wrong_caddyfile_exits_78_and_prints_nothing_but_complaints_with_their_places(
    caddyfile, tmp_path
):
    file = caddyfile(_BLOCK.replace("}", "    tls off\n    gzip\n}"))
    refused = run_once("--from-caddyfile", file)
    assert (refused.returncode, refused.stdout) == (78, "")
    assert [line.split(" ")[:2] for line in refused.stderr.splitlines()] == [
        [f"{file}:3:5:", '"tls":'],
        [f"{file}:4:5:", '"gzip":'],
    ]
    missing = run_once("--from-caddyfile", tmp_path / "missing")
    assert missing.returncode == 78 and "No such file" in missing.stderr
