"""What tests/summary.py makes of a run: a step that failed as a whole is one failed test."""

import os
import subprocess
import sys

import pytest

from tree import ROOT

PASSED = '<testcase classname="a" name="one"/>'
FAILED = '<testcase classname="a" name="two"><failure>a.cpp:3: it broke</failure></testcase>'
BROKEN = '<testcase classname="a" name="three"><error>no fixture</error></testcase>'
SKIPPED = '<testcase classname="a" name="four"><skipped/></testcase>'


def summary(*steps):
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "summary.py"), *steps],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "status, cases, code, line",
    [
        (0, PASSED * 3, 0, "3 passed, 0 failed"),
        (0, PASSED + SKIPPED, 0, "1 passed, 0 failed, 1 skipped"),
        (1, PASSED + FAILED + BROKEN, 1, "1 passed, 2 failed"),
        (0, "", 1, "0 passed, 1 failed"),
        (0, SKIPPED, 1, "0 passed, 1 failed, 1 skipped"),
        (9, PASSED, 1, "1 passed, 1 failed"),
    ],
)
def test_each_case_counts(tmp_path, status, cases, code, line):
    report = tmp_path / "unit.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>", encoding="utf-8")
    returned, told = summary(f"{status}=unit={report}")
    assert (returned, told.splitlines()[-1]) == (code, line)


def test_a_failure_is_named_with_its_text(tmp_path):
    report = tmp_path / "unit.xml"
    report.write_text(f"<testsuites>{FAILED}</testsuites>", encoding="utf-8")
    told = summary(f"1=unit={report}")[1]
    assert "FAILED  unit: a: two" in told and "a.cpp:3: it broke" in told


@pytest.mark.parametrize("text", [None, "", f"<testsuites><testsuite>{PASSED}"])
def test_a_crash_leaves_no_whole_report_and_is_one_failure(tmp_path, text):
    report = tmp_path / "unit.xml"
    if text is not None:
        report.write_text(text, encoding="utf-8")
    returned, told = summary(f"139=unit={report}")
    assert (returned, told.splitlines()[-1]) == (1, "0 passed, 1 failed")


def refused_namespaces(directory):
    unshare = directory / "unshare"
    unshare.write_text("#!/bin/sh\necho 'unshare: a < b & c' >&2\nexit 1\n", encoding="utf-8")
    unshare.chmod(0o755)
    command = [os.path.join(ROOT, "tests", "e2e", "run")]
    return command, {"PATH": f"{directory}:{os.environ['PATH']}"}


def other_than_root(_):
    program = "import os, sys, pytest; os.geteuid = lambda: 1; sys.exit(pytest.main(sys.argv[1:]))"
    return [sys.executable, "-B", "-c", program, os.path.join(ROOT, "tests", "package")], {}


# It said "exit code 1 and no whole report"; the reason was a screen above.
@pytest.mark.parametrize(
    "refused, reason",
    [
        (refused_namespaces, "e2e: not run, namespaces cannot be had here"),
        (other_than_root, "package: not run, a bare Debian can only be made by root"),
    ],
)
def test_why_a_stage_was_not_run_is_told_again(tmp_path, refused, reason):
    report = tmp_path / "report.xml"
    command, environment = refused(tmp_path)
    done = subprocess.run(
        [*command, "-q", f"--junitxml={report}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode != 0 and reason in done.stdout + done.stderr
    returned, told = summary(f"{done.returncode}=stage={report}")
    assert returned == 1 and told.count("\n    ") == 1 and f"\n    {reason}" in told
    assert ("a < b & c" in told) == (refused is refused_namespaces)


def test_a_step_without_a_report_counts_when_it_failed():
    returned, told = summary("0=lint: format", "2=build: asan")
    assert (returned, told.splitlines()[-1]) == (1, "0 passed, 1 failed")
    assert "build: asan" in told and "lint: format" not in told
