"""The manual pages have what the programs have, and are shown without a warning.

    127.0.0.1:5353, upstream 127.0.0.1:53, in the proxy's namespace
"""

import re
import subprocess
import sys

import pytest

from harness.admin import ctl_path
from harness.program import REPOSITORY, commands_of, configuration, help_of, path, table

_MAN = REPOSITORY / "share" / "man"
_PAGES = ("udpproxy.8", "udpproxyctl.8", "udpproxy.toml.5")


def _run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, **options)
    assert done.returncode == 0, done.stderr
    return done


def _source(page):
    return _run(sys.executable, "-B", _MAN / "pages.py", _MAN / f"{page}.scd").stdout


def _section(page, heading):
    return re.search(rf"^# {heading}\n(.*?)(?=^# |\Z)", _source(page), re.M | re.S)[1]


def _terms(section):
    """Every term of a section with its description."""
    return re.findall(r"^(\*.+)\n\t((?:.+\n)+)", section, re.MULTILINE)


def _named_options(text):
    """-t and --check-config, wherever a text has them."""
    return set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", text.replace("*", "")))


@pytest.mark.parametrize("page", _PAGES)
def test_a_page_is_shown_without_a_warning(page, tmp_path):
    made = tmp_path / page
    made.write_text(_run("scdoc", input=_source(page)).stdout, encoding="utf-8")
    shown = _run(
        *("man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", made),
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert shown.stderr == "" and "SEE ALSO" in shown.stdout


@pytest.mark.parametrize("page, program", [("udpproxy.8", path), ("udpproxyctl.8", ctl_path)])
def test_a_page_has_the_options_that_help_has(page, program):
    told = set()
    for term, _ in _terms(_section(page, "OPTIONS")):
        told |= _named_options(term)
    assert told and told == help_of(program())[0]


def test_the_page_of_udpproxyctl_has_the_commands_that_help_has_with_their_options():
    told = {}
    for term, description in _terms(_section("udpproxyctl.8", "COMMANDS")):
        words = re.match(r"\*udpproxyctl ([a-z ]+)", term)[1]
        told[tuple(words.split())] = _named_options(term + description)
    told[("drain",)] -= {"--drain-timeout"}  # an option of udpproxy
    assert told == commands_of(ctl_path())


def test_the_environment_that_the_programs_read_is_in_the_pages():
    read = set()
    for file in (REPOSITORY / "src").rglob("*.cpp"):
        text = file.read_text(encoding="utf-8")
        read |= set(re.findall(r'(?:envname|getenv|variable)\("([A-Z_]{5,})"\)', text))
    told = {
        name
        for page in ("udpproxy.8", "udpproxyctl.8")
        for name in re.findall(r"\*([A-Z_]{5,})\*", _section(page, "ENVIRONMENT"))
    }
    resolver = {"LOCALDOMAIN", "RES_OPTIONS"}  # read by c-ares
    assert "UDPPROXY_SOCKET" in read and told == read | resolver


def test_the_page_of_the_file_has_every_key_with_its_facts():
    """The table that it is made from is compared with the code by a unit test."""
    example = (REPOSITORY / "udpproxy.toml.example").read_text(encoding="utf-8")
    keys = set(re.findall(r"^#?(\w+) = ", example, re.MULTILINE))
    told = {
        term.strip("*").replace("\\", "")
        for term, description in _terms(_source("udpproxy.toml.5"))
        if "_takes effect_" in description
    }
    assert len(keys) > 30 and told == keys


def test_the_page_of_udpproxyctl_has_every_metric_and_every_drop_reason(admin, start_proxy):
    start_proxy(
        configuration(table(listen="127.0.0.1:5353", upstream="127.0.0.1:53"), head=admin.section())
    )
    metrics = admin.shown("metrics")

    def told(heading):
        terms = _terms(_section("udpproxyctl.8", heading))
        return {term.strip("*").replace("\\", "") for term, _ in terms}

    assert told("METRICS") == set(re.findall(r"^# TYPE (\w+)", metrics, re.MULTILINE))
    assert told("DROP REASONS") == set(re.findall(r'udpproxy_drops_total.*reason="(\w+)"', metrics))
