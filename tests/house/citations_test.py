"""What the documents cite exists: files and rooms, names of the code, and tests by the beginning of
their names."""

import fnmatch
import re

import pytest

from tree import files, paths, report

# Documents name files from the root, from a room, or from the folder that they speak of.
_BASES = ("", "include/udpproxy/", "src/", "tests/", "tests/unit/", "tests/e2e/", "bench/")
_NOT_OURS = ("./dev", "build/", "include/udpproxy/<room>", "src/<room>", "native/TYPE")
_DOCTEST = re.compile(r'TEST_CASE(?:_TEMPLATE)?\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)')


def path_violations(documents, tracked):
    """`room/file.cpp`, `room/file` (whatever its ending), `folder/` and `folder/pattern*`."""
    known = set(tracked) | {path.rsplit(".", 1)[0] for path in tracked}
    for path in tracked:
        known.update(path[:at] for at, letter in enumerate(path) if letter == "/")
    return [
        f"{document}: cites {cited}: no such file"
        for document, text in documents.items()
        for cited in re.findall(r"`([\w.*<>-]+(?:/[\w.*<>-]+)+)/?`", text)
        if not cited.startswith(_NOT_OURS)
        and not any(fnmatch.filter(known, base + cited) for base in _BASES)
    ]


def name_violations(documents, code):
    """`TypeOfOurs`, `TypeOfOurs::member` and `function_of_ours`."""
    words = set(re.findall(r"\w+", code))
    return [
        f"{document}: cites {cited}: the code has no such name"
        for document, text in documents.items()
        for cited in re.findall(r"`([A-Z]\w*[a-z]\w*|[a-z]+_\w+)(?:::|\{[^`]*`|`)", text)
        if cited not in words
    ]


def plain(text):
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", text.lower().replace("'", "")).split())


def test_names(sources):
    """{unit, contract, e2e: the names of its tests, plain}"""
    found = {"unit": [], "contract": [], "e2e": []}
    for path, text in sources.items():
        kind = path.split("/")[1]
        if path.endswith(".cpp"):
            for literals in _DOCTEST.findall(text):
                found[kind].append(plain("".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals))))
        else:
            found[kind] += [plain(name) for name in re.findall(r"def test_(\w+)", text)]
    return found


test_names.__test__ = False


def test_violations(documents, names):
    """The last cell of a table's row: `unit: NAME; NAME; e2e: NAME`. Files are for another rule."""
    violations = []
    for document, text in documents.items():
        for row in re.findall(r"^\|.*\|$", text, re.MULTILINE):
            kind = None
            for cited in row.rstrip(" |").rsplit(" | ", 1)[-1].split(";"):
                if match := re.match(r" *(unit|contract|e2e): ", cited):
                    kind, cited = match.group(1), cited[match.end() :]
                if kind and "`" not in cited:
                    if not any(name.startswith(plain(cited)) for name in names[kind]):
                        violations.append(
                            f"{document}: no {kind} test begins with: {cited.strip()}"
                        )
    return violations


test_violations.__test__ = False


def test_cited_files_exist():
    documents = files(suffixes=(".md",))
    violations = path_violations(documents, paths())
    assert not violations, report(violations)


def test_cited_names_exist():
    documents = files("docs/architecture.md")
    code = "\n".join(files("include/", "src/", suffixes=(".cpp", ".hpp")).values())
    violations = name_violations(documents, code)
    assert not violations, report(violations)


def test_cited_tests_exist():
    documents = files(suffixes=(".md",))
    sources = files("tests/unit/", "tests/contract/", "tests/e2e/test_", suffixes=(".cpp", ".py"))
    violations = test_violations(documents, test_names(sources))
    assert not violations, report(violations)


@pytest.mark.parametrize("cited", ["io/backend.hpp", "io/backend", "src/io/", "io/back*"])
def test_the_path_rule_knows(cited):
    assert (
        path_violations(
            {"a.md": f"see `{cited}`"}, ["include/udpproxy/io/backend.hpp", "src/io/x.cpp"]
        )
        == []
    )


def test_the_rules_bite():
    assert path_violations({"a.md": "see `io/backends.hpp`"}, ["include/udpproxy/io/backend.hpp"])
    assert (
        name_violations({"a.md": "a `Shard` asks `its_pool`"}, "class Shard { int its_pool; };")
        == []
    )
    assert name_violations({"a.md": "a `Shard::leg`"}, "class Loop {};")
    assert name_violations({"a.md": "by `run_turns`"}, "void turn();")
    names = test_names({"tests/unit/a_test.cpp": 'TEST_CASE("a port\'s rest "\n    "is over")'})
    row = "| fact | guard | unit: {} |"
    assert test_violations({"a.md": row.format("a port's rest is")}, names) == []
    assert test_violations({"a.md": row.format("a port; is over")}, names)
