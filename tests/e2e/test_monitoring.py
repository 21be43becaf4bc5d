"""What documents, alerts and dashboards say of metrics and log lines is what the program has.

    127.0.0.1:5353, upstream 127.0.0.1:53, in the proxy's namespace
"""

import pathlib
import re

import pytest

from harness.program import REPOSITORY, configuration, table

_OPERATING = (REPOSITORY / "docs" / "operating.md").read_text(encoding="utf-8")


@pytest.fixture
def families(admin, start_proxy):
    """{name: type} of a running program's metrics."""
    start_proxy(configuration(table(listen="127.0.0.1:5353", upstream="127.0.0.1:53"), head=admin.section()))
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", admin.shown("metrics"), re.MULTILINE))


def test_every_metric_is_in_the_operators_page_and_no_other(families):
    told = set(re.findall(r"^\| `(udpproxy_\w+)` \|", _OPERATING, re.MULTILINE))
    assert told == set(families)
    mentioned = set(re.findall(r"\budpproxy_[a-z_]+\b", _OPERATING)) - {"udpproxy_"}
    assert mentioned <= set(families)


def test_every_drop_reason_that_the_page_names_exists(admin, start_proxy):
    start_proxy(configuration(table(listen="127.0.0.1:5353", upstream="127.0.0.1:53"), head=admin.section()))
    known = set(re.findall(r'reason="(\w+)"', admin.shown("metrics")))
    section = _OPERATING[_OPERATING.index("## Drops by reason"):_OPERATING.index("## Log lines")]
    told = {reason for row in re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE) for reason in re.findall(r"`(\w+)`", row)}
    assert told and told <= known


def test_every_log_line_that_warns_is_in_the_operators_page():
    events = set()
    for file in pathlib.Path(REPOSITORY / "src").rglob("*.cpp"):
        events |= set(re.findall(r'log_?\.(?:warn|error)\(\s*"(\w+)"', file.read_text(encoding="utf-8")))
    section = _OPERATING[_OPERATING.index("## Log lines that ask"):_OPERATING.index("## Capacity")]
    assert events and events == set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_every_verb_of_the_command_line_is_in_the_operators_page(admin):
    verbs = set(re.findall(r"^  (\w+) {2,}", admin.shown("--help").split("Subcommands:")[1], re.MULTILINE))
    assert verbs and verbs == set(re.findall(r"^\| `udpproxyctl (\w+)", _OPERATING, re.MULTILINE))
