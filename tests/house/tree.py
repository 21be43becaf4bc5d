"""The project's files as the house rules see them. A rule is a function over a dictionary {path:
text}, so that the same function checks the real tree and a planted violation."""

import functools
import os
import re
import subprocess

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
_NOT_OURS = {".git", "build", "b", "__pycache__", ".pytest_cache", ".cache"}


@functools.cache
def paths():
    """What git tracks or would track; without git (a source archive) every file outside of the
    build directories."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        found = listed.stdout.splitlines()
    else:
        found = []
        for directory, below, names in os.walk(ROOT):
            below[:] = [name for name in below if name not in _NOT_OURS]
            found += [os.path.relpath(os.path.join(directory, name), ROOT) for name in names]
    return sorted(path for path in set(found) if os.path.isfile(os.path.join(ROOT, path)))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def files(*prefixes, suffixes=("",)):
    """{path: text} of the files below the prefixes."""
    return {
        path: read(path)
        for path in paths()
        if path.startswith(prefixes or ("",)) and path.endswith(tuple(suffixes))
    }


def cpp(*prefixes):
    return files(
        *(prefixes or ("include/", "src/", "tests/", "bench/", "fuzz/")), suffixes=(".hpp", ".cpp")
    )


def without_comments(text):
    """C++ text whose comments are gone and whose lines are still where they were. String literals
    stay."""

    def replacement(match):
        return match.group(1) or "\n" * match.group(0).count("\n")

    return re.sub(
        r'("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')|//[^\n]*|/\*.*?\*/',
        replacement,
        text,
        flags=re.DOTALL,
    )


def includes(text):
    """[(line number, '<' or '\"', path)] of the #include lines."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line):
            found.append((number, match.group(1), match.group(2)))
    return found


def report(violations):
    """The message of a failed rule: one violation a line."""
    return "\n" + "\n".join(violations)
