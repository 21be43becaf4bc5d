"""What documents, alerts and dashboards say of metrics and log lines is what the program has.

    127.0.0.1:5353, upstream 127.0.0.1:53, in the proxy's namespace
"""

import json
import pathlib
import re
import subprocess

import pytest

from harness.program import REPOSITORY, configuration, table

_OPERATING = (REPOSITORY / "docs" / "operating.md").read_text(encoding="utf-8")


@pytest.fixture
def families(admin, start_proxy):
    """{name: type} of a running program's metrics."""
    start_proxy(
        configuration(table(listen="127.0.0.1:5353", upstream="127.0.0.1:53"), head=admin.section())
    )
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", admin.shown("metrics"), re.MULTILINE))


def test_every_metric_is_in_the_operators_page_and_no_other(families):
    told = set(re.findall(r"^\| `(udpproxy_\w+)` \|", _OPERATING, re.MULTILINE))
    assert told == set(families)
    mentioned = set(re.findall(r"\budpproxy_[a-z_]+\b", _OPERATING)) - {"udpproxy_"}
    assert mentioned <= set(families)


def test_the_page_says_what_to_do_about_every_drop_reason_and_no_other(admin, start_proxy):
    start_proxy(
        configuration(table(listen="127.0.0.1:5353", upstream="127.0.0.1:53"), head=admin.section())
    )
    known = set(re.findall(r'udpproxy_drops_total.*reason="(\w+)"', admin.shown("metrics")))
    section = _OPERATING[_OPERATING.index("## Drops by reason") : _OPERATING.index("## Log lines")]
    told = {
        reason
        for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
        for reason in re.findall(r"`(\w+)`", row)
    }
    assert told == known


def test_every_log_line_that_warns_is_in_the_operators_page():
    events = set()
    for file in pathlib.Path(REPOSITORY / "src").rglob("*.[ch]pp"):
        events |= set(
            re.findall(
                r'(?:log_?\.(?:warn|error)\(|LogLevel::(?:warn|error),)\s*"(\w+)"',
                file.read_text(encoding="utf-8"),
            )
        )
    section = _OPERATING[
        _OPERATING.index("## Log lines that ask") : _OPERATING.index("## What is wrong now")
    ]
    assert events and events == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_verb_of_the_command_line_is_in_the_operators_page(admin):
    verbs = set(
        re.findall(r"^  (\w+) {2,}", admin.shown("--help").split("Subcommands:")[1], re.MULTILINE)
    )
    assert verbs and verbs == set(re.findall(r"^\| `udpproxyctl (\w+)", _OPERATING, re.MULTILINE))


_MONITORING = REPOSITORY / "share" / "monitoring"
_METRIC = re.compile(r"\budpproxy_[a-z_]+\b")


def _as_families(names, families):
    """A histogram's samples carry suffixes that its family does not."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name)
        if re.sub(r"_(bucket|sum|count)$", "", name) in families
        else name
        for name in names
    }


def test_every_metric_of_the_alerts_exists_and_promtool_accepts_them(families):
    rules = _MONITORING / "alerts.yml"
    done = subprocess.run(
        ["promtool", "check", "rules", str(rules)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = set(_METRIC.findall(rules.read_text(encoding="utf-8")))
    assert len(named) > 5 and _as_families(named, families) <= set(families)


def test_no_panel_of_the_dashboard_mixes_rates_and_states():
    dashboard = json.loads((_MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        kinds = {"rate(" in target["expr"] for target in panel["targets"]}
        assert len(kinds) == 1, panel["title"]


def test_every_metric_of_the_dashboard_exists_and_its_expressions_parse(families, tmp_path):
    dashboard = json.loads((_MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    assert _as_families(set(_METRIC.findall(" ".join(expressions))), families) <= set(families)
    for variable in dashboard["templating"]["list"][1:]:
        assert set(_METRIC.findall(variable["definition"])) <= set(families)
    # promtool has no check for a single expression; a recording rule is one.
    rules = [
        {"record": f"panel_{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(
        json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8"
    )
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stdout + done.stderr
