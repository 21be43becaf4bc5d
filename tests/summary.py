#!/usr/bin/python3
"""Adds up a run of ./dev: names what failed, ends with `N passed, N failed`.

    summary.py STATUS=NAME[=REPORT]…

NAME is a step that ended with exit code STATUS. REPORT is its JUnit file, as doctest and pytest
write it; each of its test cases counts. A step without a report counts only when it failed. A step
that failed as a whole (a crash, no report or half of one, no test executed, a failure that the
report does not know) counts as one failed. A runner that cannot run here leaves the reason, plain
text, in the report's place. The exit code is 1 when something failed.
"""

import pathlib
import sys
import xml.etree.ElementTree as tree


def read(path):
    """(passed, failures, skipped) of a report; a failure is (name, text)."""
    passed, failures, skipped = 0, [], 0
    for case in tree.parse(path).iter("testcase"):
        found = [child for child in case if child.tag in ("failure", "error")]
        if found:
            text = "\n".join((child.text or child.get("message") or "").strip() for child in found)
            failures.append((f"{case.get('classname')}: {case.get('name')}", text))
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failures, skipped


def reason_in(report):
    """The text in the place of a report, if it is one."""
    path = pathlib.Path(report)
    text = path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""
    return "" if text.startswith("<") else text


def outcome_of(status, name, report):
    """As read(), with what the report cannot know."""
    if report is None:
        return 0, [(name, f"exit code {status}")] if status else [], 0
    try:
        passed, failures, skipped = read(report)
    except (OSError, tree.ParseError) as error:
        why = reason_in(report) or f"exit code {status} and no whole report: {error}"
        return 0, [(name, why)], 0
    if not passed and not failures:
        failures.append((name, "no test was executed"))
    elif status and not failures:
        failures.append((name, f"exit code {status} although no test case failed"))
    return passed, failures, skipped


def line(passed, failed, skipped):
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main(arguments):
    passed, failed, skipped = 0, 0, 0
    for argument in arguments:
        status, name, report = (argument.split("=", 2) + [None])[:3]
        counts = outcome_of(int(status), name, report)
        for title, text in counts[1]:
            print(f"\nFAILED  {name}: {title}" if title != name else f"\nFAILED  {name}")
            print("\n".join(f"    {row}" for row in text.splitlines()))
        passed, failed, skipped = passed + counts[0], failed + len(counts[1]), skipped + counts[2]
    print(f"\n{line(passed, failed, skipped)}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
