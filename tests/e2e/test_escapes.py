"""Nothing from outside is printed raw: what a terminal obeys (escape sequences, C1, marks that turn
the direction of writing) is written as `\x1b` or `\u001b`, by both programs, whatever they print.
"""

import contextlib
import http.server
import json
import re
import socketserver
import threading

import pytest

from harness.admin import ctl_path
from harness.namespaces import run
from harness.program import configuration, run_once, table
from harness.topology import IPV4

_EVIL = "a\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\u202eb\r\nforged"
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _is_harmless(done, forged=True):
    for text in (done.stdout, done.stderr):
        assert not _OBEYED.search(text), ascii(text)
        if forged:
            assert not any(line.startswith("forged") for line in text.splitlines()), ascii(text)


def _answer(path):
    """What udpproxy would say, with everything in it that is a text replaced."""
    counters = {}
    session = {name: _EVIL for name in ("proxy", "client", "local", "local_endpoint")} | {
        "id": 1,
        "assured": True,
    }
    answers = {
        "/v1/status": {"version": _EVIL, "engine": _EVIL, "config": _EVIL, "log_level": _EVIL},
        "/v1/proxies": {
            "proxies": [
                {
                    "name": _EVIL,
                    "listen": [_EVIL],
                    "upstream": _EVIL,
                    "upstream_endpoint": _EVIL,
                    "counters": counters,
                    "replies": [{"kind": _EVIL, "source": _EVIL, "datagrams": 1}],
                    "drops": {_EVIL: 1},
                }
            ]
        },
        "/v1/sessions": {"sessions": [session], "found": 2},
        "/v1/unlisted": {"unlisted": [{"proxy": _EVIL, "source": _EVIL, "add": _EVIL}]},
        "/v1/drops": {
            "drops": [{"proxy": _EVIL, "reason": _EVIL, "meaning": _EVIL, "datagrams": 1}],
            "queue_drops": [{"proxy": _EVIL, "listen": _EVIL, "datagrams": 1}],
        },
        "/v1/sessions/kill": {"killed": 1, "client": _EVIL, "proxy": _EVIL},
        "/v1/log": {"level": _EVIL},
        "/v1/reload": {"changes": [_EVIL]},
        "/v1/drain": {"proxy": _EVIL, "sessions": 1},
        "/v1/resume": {"proxy": _EVIL},
        "/v1/upgrade": {"version": _EVIL, "pid": 7, "starts": {}, "upgrades_refused": 0},
        "/v1/doctor": {"text": _EVIL, "findings": [{"where": _EVIL}]},
        "/v1/trace": {},
        "/v1/trace/end": {},
        "/v1/trace/take": {
            "missed": 0,
            "records": [
                {
                    "at_ns": 1,
                    "bytes": 1,
                    "tos": 0,
                    "payload": "",
                    "leg": _EVIL,
                    "client": _EVIL,
                    "local": _EVIL,
                    "local_endpoint": _EVIL,
                    "service": _EVIL,
                    "dropped": _EVIL,
                }
            ],
        },
    }
    answers["/v1/status"]["counters"] = counters
    answers["/v1/status"]["problems"] = [{"proxy": _EVIL, "text": _EVIL}]
    answers["/v1/status"]["pid"] = 7
    answers["/v1/status"]["worker"] = {
        **{name: _EVIL for name in ("text", "last_end", "last_refusal")},
        "reason": "upgrade",
        "starts": {"upgrade": 1},
        **{name: 0 for name in ("sessions_adopted", "sessions_closed", "pause_ms")},
    }
    return answers[path]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def _program(path, refuses):
    """A program on this socket that says evil things."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked = self.path.partition("?")[0]
            if refuses:
                text = json.dumps({"error": _EVIL}, ensure_ascii=False)
            elif asked == "/metrics":
                text = f"# HELP {_EVIL}\n"
            else:
                text = json.dumps(_answer(asked), ensure_ascii=False)
            body = text.encode()
            self.send_response(409 if refuses else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

        do_GET = do_POST = answer

        def address_string(self):
            return "unix"

        def log_message(self, *_):
            pass

    Handler.protocol_version = "HTTP/1.1"
    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join(10)


_VERBS = [
    ["status"],
    ["proxies"],
    ["unlisted"],
    ["drops"],
    ["metrics"],
    ["sessions"],
    ["top", "--frames", "1", "--interval", "0.1"],
    ["trace", "--client", "10.1.0.2", "--datagrams", "1"],
    ["session", "kill", "1"],
    ["log", "level"],
    ["reload"],
    ["drain"],
    ["resume", "x"],
    ["upgrade"],
    ["doctor"],
]


@pytest.mark.parametrize("refuses", [False, True], ids=["answers", "refuses"])
def test_udpproxyctl_prints_nothing_raw_of_what_the_program_says(refuses, admin):
    with _program(admin.socket, refuses):
        for verb in _VERBS:
            for option in ([], ["--json"]):
                done = admin.ctl(*option, *verb)
                assert done.stdout or done.stderr
                # The doctor's text, metrics and refusals are several lines by right.
                _is_harmless(done, forged=not refuses and verb[0] not in ("doctor", "metrics"))


def test_every_verb_is_tried():
    listed = re.findall(r"^  ([a-z]+) ", run(ctl_path(), "--help").stdout, re.MULTILINE)
    assert listed and set(listed) == {verb[0] for verb in _VERBS}


def test_complaints_about_a_configuration_print_nothing_of_it_raw(tmp_path):
    file = tmp_path / "evil.toml"
    quoted = json.dumps(_EVIL.replace("\x7f", "").replace("\r\n", ""), ensure_ascii=True)
    raw = '"' + _EVIL.replace("\r\n", "") + '"'
    for word in (quoted, raw):
        for text in (
            f"{word} = 1\n",
            f"[{word}]\n",
            configuration(
                table(listen="10.1.0.1:1", upstream="10.0.0.1:2"), head=f"[log]\nx={word}"
            ),
            f"[[proxy]]\nname = {word}\nlisten = {word}\nupstream = {word}\nreply_aliases = "
            f"[{word}]",
            f"[log]\nlevel = {word}\nfile = {word}\n[runtime]\nengine = {word}\n",
        ):
            file.write_text(text, encoding="utf-8")
            _is_harmless(run_once("--check-config", "--config", file))
            _is_harmless(run_once("--doctor", "--config", file))
            _is_harmless(run_once("--from-caddyfile", file))
    file.write_text(f"proxy :53 {raw[1:-1]} {{\n reply-addr-alias {raw[1:-1]}\n}}\n")
    _is_harmless(run_once("--from-caddyfile", file))
    evil_name = tmp_path / _EVIL
    _is_harmless(run_once("--check-config", "--config", evil_name))
    _is_harmless(run_once(f"--{_EVIL}"), forged=False)


def test_log_lines_and_answers_have_nothing_raw_of_a_request_or_a_file(engine, admin, start_proxy):
    text = configuration(
        table(listen=IPV4.listener(), upstream=IPV4.service(254)),
        engine=engine,
        head=admin.section(),
    )
    proxy = start_proxy(text)
    word = "%1b%5b2J%c2%9b%e2%80%aex"
    for path, method in ((f"/{word}", "GET"), (f"/v1/drain?proxy={word}", "POST")):
        status, _, body = admin.http(path, method=method)
        assert status == 404 and not _OBEYED.search(body.decode().rstrip("\n")), body
    assert proxy.wait_event("admin", verb="drain")["proxy"] == "\x1b[2J\x9b\u202ex"
    proxy.configuration_file.write_text(text + f'"{_EVIL[:30]}" = 1\n', encoding="utf-8")
    refused = admin.ctl("reload")
    assert refused.returncode == 1
    _is_harmless(refused)
    proxy.wait_event("not_reloaded")
    assert not any(_OBEYED.search(line) for line in proxy.lines)
