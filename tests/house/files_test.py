"""What a file of ours looks like: it opens with its sign, is small enough to read standing, has a
name that says what it is, and is built."""

import re

import pytest

from tree import cpp, files, report, without_comments

LINES_MAX = 400
NAMES_OF_NOTHING = {"util", "utils", "common", "misc", "helper", "helpers", "manager"}


def sign_violations(tree):
    return [
        f"{path}:1: opens without its sign (a comment: what lives here, who calls it, what lives "
        "elsewhere)"
        for path, text in tree.items()
        if not re.match(r"//+ ?\S.*|/\*", text)
    ]


def pragma_violations(tree):
    return [
        f"{path}: no #pragma once"
        for path, text in tree.items()
        if path.endswith(".hpp") and not re.search(r"^#pragma once$", text, re.MULTILINE)
    ]


def name_violations(tree):
    violations = []
    for path in tree:
        for part in path.split("/"):
            if NAMES_OF_NOTHING & set(re.split(r"[_.\-]", part)):
                violations.append(f"{path}: `{part}` says nothing about what is in it")
    return violations


def length_violations(tree):
    return [
        f"{path}: {count} lines, at most {LINES_MAX}"
        for path, text in tree.items()
        if (count := len(text.splitlines())) > LINES_MAX
    ]


def tab_violations(tree):
    return [
        f"{path}:{number}: a tab or a blank at the end of the line"
        for path, text in tree.items()
        for number, line in enumerate(text.splitlines(), 1)
        if "\t" in line or line != line.rstrip()
    ]


def include_violations(tree):
    """The same #include twice; behind an #if it may stand again."""
    violations = []
    for path, text in tree.items():
        seen = set()
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("#if"):
                seen = set()
            if found := re.match(r'#include ([<"][^>"]+[>"])', line):
                if found[1] in seen:
                    violations.append(f"{path}:{number}: {found[1]} is included already")
                seen.add(found[1])
    return violations


def listing_violations(sources, listings):
    """Each .cpp below DIRECTORY is named exactly once in DIRECTORY/meson.build (src/main.cpp in the
    top one)."""
    violations = []
    for path in sources:
        directory, name = path.split("/", 1)
        listing = "meson.build" if path == "src/main.cpp" else f"{directory}/meson.build"
        wanted = path if path == "src/main.cpp" else name
        count = listings.get(listing, "").count(f"'{wanted}'")
        if count != 1:
            violations.append(f"{path}: named {count} times in {listing}, should be once")
    return violations


def random_violations(tree):
    return [
        f"{path}:{number}: rand() is neither seeded nor good; pass a seeded engine"
        for path, text in tree.items()
        for number, line in enumerate(without_comments(text).splitlines(), 1)
        if re.search(r"\b(rand|srand|drand48)\s*\(", line)
    ]


def sleep_violations(tree):
    return [
        f"{path}:{number}: unit tests do not sleep; time is a parameter"
        for path, text in tree.items()
        for number, line in enumerate(without_comments(text).splitlines(), 1)
        if re.search(
            r"\b(sleep_for|sleep_until)\b|\b(sleep|usleep|nanosleep|clock_nanosleep)\s*\(", line
        )
    ]


def leftover_violations(tree):
    mark = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
    return [
        f"{path}:{number}: a left-over ({line.strip()[:60]})"
        for path, text in tree.items()
        for number, line in enumerate(text.splitlines(), 1)
        if mark.search(line)
    ]


def _texts():
    return {path: text for path, text in files().items() if not path.endswith(".png")}


def _written(**arguments):
    """Files except golden ones, whose odd bytes are their point."""
    return {path: text for path, text in files(**arguments).items() if "/golden/" not in path}


RULES = {
    "every file of include and src opens with its sign": (
        sign_violations,
        lambda: cpp("include/", "src/"),
    ),
    "every header has pragma once": (pragma_violations, cpp),
    "no file is named after nothing": (
        name_violations,
        lambda: files("include/", "src/", "tests/", "bench/", "fuzz/"),
    ),
    "no file of include and src is too long to read standing": (
        length_violations,
        lambda: cpp("include/", "src/"),
    ),
    "no tabs and no blanks at the end of a line": (
        tab_violations,
        lambda: _written(
            suffixes=(".hpp", ".cpp", ".py", ".build", ".toml", ".example", ".wrap", ".sh")
        ),
    ),
    "nobody calls rand": (random_violations, cpp),
    "unit tests do not sleep": (sleep_violations, lambda: cpp("tests/unit/", "tests/sim/")),
    "nothing is included twice": (include_violations, cpp),
    "no left-overs in the tracked files": (leftover_violations, _texts),
}


@pytest.mark.parametrize("rule, tree", RULES.values(), ids=RULES.keys())
def test_house_rule(rule, tree):
    violations = rule(tree())
    assert not violations, report(violations)


def test_every_source_file_is_built():
    sources = [path for path in cpp("src/", "tests/", "bench/", "fuzz/") if path.endswith(".cpp")]
    violations = listing_violations(sources, files(suffixes=("meson.build",)))
    assert not violations, report(violations)


@pytest.mark.parametrize(
    "rule, path, text",
    [
        (sign_violations, "src/io/x.cpp", '#include "x.hpp"\n// too late\n'),
        (sign_violations, "src/io/x.cpp", "\n// after an empty line\n"),
        (sign_violations, "src/io/x.cpp", "//\n"),
        (pragma_violations, "include/udpproxy/io/x.hpp", "// sign\n// #pragma once\n"),
        (name_violations, "src/io/string_utils.hpp", ""),
        (name_violations, "src/common/x.hpp", ""),
        (length_violations, "src/io/x.cpp", "// line\n" * (LINES_MAX + 1)),
        (tab_violations, "src/io/x.cpp", "\tint x;\n"),
        (tab_violations, "src/io/x.cpp", "int x; \n"),
        (random_violations, "tests/unit/x_test.cpp", "int x = std::rand ();\n"),
        (sleep_violations, "tests/unit/x_test.cpp", "std::this_thread::sleep_for(1s);\n"),
        (sleep_violations, "tests/unit/x_test.cpp", "  usleep(1);\n"),
        (include_violations, "src/io/x.cpp", '#include <map>\n#include "a.hpp"\n#include <map>\n'),
        (leftover_violations, "docs/x.md", "this is a TO" + "DO: later\n"),
        (leftover_violations, "src/io/x.cpp", "// FIX" + "ME\n"),
    ],
)
def test_the_rule_bites_on(rule, path, text):
    assert rule({path: text})


@pytest.mark.parametrize(
    "rule, path, text",
    [
        (sign_violations, "src/io/x.cpp", "// What lives here.\n"),
        (pragma_violations, "include/udpproxy/io/x.hpp", "// sign\n#pragma once\n"),
        (name_violations, "src/session/group_pool.cpp", ""),
        (length_violations, "src/io/x.cpp", "// line\n" * LINES_MAX),
        (
            random_violations,
            "src/io/x.cpp",
            "// rand() is not for us\ngetrandom(key);\noperand(1);\n",
        ),
        (sleep_violations, "tests/unit/x_test.cpp", "/* sleep(1) */ asleep(1);\n"),
        (leftover_violations, "tests/x.sh", "mktemp /tmp/x." + "X" * 6 + "\n"),
    ],
)
def test_the_rule_accepts(rule, path, text):
    assert rule({path: text}) == []


def test_the_listing_rule_bites_on_a_missing_and_on_a_doubled_file():
    listings = {
        "src/meson.build": "files(\n    'io/a.cpp',\n    'io/b.cpp',\n    'io/b.cpp',\n)",
        "meson.build": "'src/main.cpp'",
    }
    assert listing_violations(["src/io/a.cpp", "src/main.cpp"], listings) == []
    assert len(listing_violations(["src/io/a.cpp", "src/io/b.cpp", "src/io/c.cpp"], listings)) == 2


_COLUMNS = 100
# Lines of boxes, or what stands in the columns of a drawing.
_DRAWING = re.compile(r"[─│├┘]|\S {4,}\S|^ {20,}")


def width_violations(tree):
    """Code, and the paragraphs of documents: what stands in a table, in a drawing or in a raw
    string cannot be broken, nor can the name of a test."""
    violations = []
    for path, text in tree.items():
        fenced = False
        for number, line in enumerate(text.splitlines(), 1):
            fenced ^= path.endswith(".md") and line.lstrip().startswith("```")
            if path.endswith(".md"):
                unbreakable = (
                    fenced or line.lstrip().startswith("|") or line.startswith(("    ", "!["))
                )
            elif path.endswith(".py"):
                unbreakable = _DRAWING.search(line) or line.startswith("def test_")
            else:
                unbreakable = 'R"(' in line
            if len(line) > _COLUMNS and not unbreakable:
                violations.append(f"{path}:{number}: {len(line)} columns")
    return violations


def test_lines_have_100_columns_at_most():
    tree = {
        **files("include/", "src/", "tests/", "bench/", "fuzz/", suffixes=(".hpp", ".cpp")),
        **files(suffixes=(".md", ".py", ".sh", "meson.build", "meson_options.txt")),
        **files("dev", "tests/e2e/run", ".ci/run"),
    }
    violations = width_violations(tree)
    assert not violations, report(violations)


@pytest.mark.parametrize(
    "path, line",
    [
        ("src/net/endpoint.cpp", "// " + "x" * 98),
        ("docs/operating.md", "x" * 101),
        ("tests/e2e/conftest.py", "    # " + "x " * 50),
        ("share/meson.build", "# " + "x" * 99),
    ],
)
def test_the_rule_of_columns_bites_on(path, line):
    assert width_violations({path: line})


def test_the_rule_of_columns_accepts_tables_and_drawings():
    assert width_violations({"README.md": "| " + "x" * 120 + "\n    " + "x" * 120}) == []


def printing_violations(tree):
    """Text from outside must not reach a terminal raw: one file prints, and escapes."""
    return [
        f"{path}:{number}: prints; use print() and print_error() of base/printable.hpp"
        for path, text in tree.items()
        if path != "src/base/printable.cpp"
        for number, line in enumerate(without_comments(text).splitlines(), 1)
        if re.search(
            r"\b(fmt::print|printf|fprintf|puts|fputs|putchar|fwrite)\(|\bstd::(cout|cerr|clog)\b"
            r"|STD(OUT|ERR)_FILENO",
            line,
        )
    ]


# Where a descriptor of them is asked about, handed to a child, or is the log's own.
_STREAMS = (
    "src/base/file.cpp",
    "src/ctl/screen.cpp",
    "src/host/child_output.cpp",
    "src/log/writer.cpp",
)


def test_one_file_prints():
    tree = {path: text for path, text in cpp("src/", "include/").items() if path not in _STREAMS}
    violations = printing_violations(tree)
    assert not violations, report(violations)


@pytest.mark.parametrize(
    "line",
    [
        'fmt::print("{}", name);',
        'fmt::print(stderr, "{}", name);',
        'std::printf("%s", name);',
        "std::cout << name;",
        "std::fputs(name, stderr);",
        "::write(STDERR_FILENO, name, length);",
    ],
)
def test_the_rule_about_printing_bites_on(line):
    assert printing_violations({"src/doctor/doctor.cpp": line})
