"""What the documents promise is there: the commands of ./dev, and the files that links point to."""

import os
import posixpath
import re

from tree import ROOT, files, paths, read, report

_LINK = re.compile(
    r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE
)


def commands_of(script):
    """The words that ./dev's last `case` accepts."""
    words = set()
    for line in script[script.rindex("case $command in") :].splitlines()[1:]:
        if match := re.match(r"\s+([a-z |-]+)\)", line):
            words |= {
                word for word in re.split(r"[ |]+", match.group(1)) if not word.startswith("-")
            }
    return words


def command_violations(documents, script):
    known = commands_of(script)
    return [
        f"{path}: ./dev has no command {command}"
        for path, text in documents.items()
        for command in re.findall(r"\./dev +([a-z][a-z-]*)", text)
        if command not in known
    ]


def help_violations(script):
    """Help and script name the same commands."""
    told = set(
        re.findall(
            r"^  ([a-z]+)\b",
            script[script.index("<<'HELP'") : script.index("\nHELP\n")],
            re.MULTILINE,
        )
    )
    return [
        f"./dev help and ./dev differ in: {name}"
        for name in sorted(told ^ (commands_of(script) - {"help"}))
    ]


def anchors_of(text):
    """The anchors that GitHub makes of headings."""
    found = set()
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", text, re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", re.sub(r"`", "", heading).lower()).replace(" ", "-")
        found.add(anchor)
    return found


def prose(text):
    """Markdown without code, in which brackets are no links."""
    return re.sub(
        r"`[^`\n]*`",
        "",
        re.sub(r"^ *(```|~~~).*?^ *\1[^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL),
    )


def link_violations(documents, exists):
    violations = []
    for path, text in documents.items():
        for inline, reference in _LINK.findall(prose(text)):
            target = inline or reference
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            file, _, anchor = target.partition("#")
            place = (
                posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
            )
            if not exists(place):
                violations.append(f"{path}: link to {target}: no such file")
            elif anchor and place in documents and anchor not in anchors_of(documents[place]):
                violations.append(f"{path}: link to {target}: no such heading")
    return violations


def test_the_readme_names_its_two_commands():
    text = read("README.md")
    for command in ("./dev demo", "./dev test"):
        assert command in text


def test_every_command_of_the_documents_exists():
    documents = files(suffixes=(".md",))
    assert documents
    violations = command_violations(documents, read("dev"))
    assert not violations, report(violations)


def test_help_lists_every_command():
    violations = help_violations(read("dev"))
    assert not violations, report(violations)


def test_every_relative_link_resolves():
    tracked = set(paths())
    violations = link_violations(
        files(suffixes=(".md",)),
        lambda place: place in tracked or os.path.isdir(os.path.join(ROOT, place)),
    )
    assert not violations, report(violations)


SCRIPT = (
    "<<'HELP'\n  setup   x\n  build [TYPE]\nHELP\ncase $command in\n"
    "    setup | build) x ;;\n    help | -h) y ;;\n    *) z ;;\nesac\n"
)


def test_the_command_rule_bites():
    assert commands_of(SCRIPT) == {"setup", "build", "help"}
    assert command_violations({"README.md": "run `./dev build`"}, SCRIPT) == []
    assert command_violations({"README.md": "run `./dev paint`"}, SCRIPT)
    assert help_violations(SCRIPT) == []
    assert help_violations(SCRIPT.replace("setup   x", "paint"))


def test_the_link_rule_bites():
    documents = {
        "docs/a.md": "# A heading\n\n[b](b.md) [up](../README.md#way-in) [here](#a-heading) "
        "[out](https://example.org) `[x](y)`\n",
        "README.md": "## Way in\n\n[a]: docs/a.md\n",
    }
    here = {*documents, "docs/b.md"}
    assert link_violations(documents, here.__contains__) == []
    assert link_violations(documents, documents.__contains__)
    assert link_violations({"README.md": "[x](docs/gone.md)"}, here.__contains__)
    assert link_violations({"README.md": "![x](gone.png \"a title\")"}, here.__contains__)
    assert link_violations({"README.md": "# One\n[x](#two)"}, here.__contains__)
