"""Each dependency of meson.build has a wrap for systems without the package, and a reason in
docs/dependencies.md."""

import configparser
import re

from tree import files, read, report

# Part of the C library.
WITHOUT_WRAP = {"threads"}


def dependencies_of(meson):
    return set(re.findall(r"\bdependency\(\s*'([^']+)'", meson)) - WITHOUT_WRAP


def provided_by(text):
    """The names of dependencies that a wrap provides. Raises on a text that is no wrap."""
    wrap = configparser.ConfigParser(interpolation=None)
    wrap.optionxform = str
    wrap.read_string(text)
    source = wrap["wrap-git"]
    if not re.fullmatch(
        r"https://(github\.com/[\w.-]+/[\w.-]+\.git|git\.netfilter\.org/[\w.-]+)", source["url"]
    ):
        raise ValueError(f"url = {source['url']}")
    # A release, never a branch that moves.
    if not re.search(r"\d", source["revision"]):
        raise ValueError(f"revision = {source['revision']}")
    names = set()
    for key, value in wrap["provide"].items():
        names |= {name.strip() for name in value.split(",")} if key == "dependency_names" else {key}
    return names


def wrap_violations(wraps, meson, document):
    violations = []
    provided = {}
    for path, text in wraps.items():
        try:
            names = provided_by(text)
        except (KeyError, ValueError, configparser.Error) as trouble:
            violations.append(f"{path}: {type(trouble).__name__}: {trouble}")
            continue
        for name in names:
            if name in provided:
                violations.append(f"{path}: {name} is provided by {provided[name]} already")
            provided[name] = path
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", document) for name in names):
            violations.append(
                f"{path}: docs/dependencies.md does not say why {', '.join(sorted(names))}"
            )
    wanted = dependencies_of(meson)
    violations += [
        f"meson.build: dependency('{name}') has no wrap in subprojects/"
        for name in sorted(wanted - provided.keys())
    ]
    violations += [
        f"{provided[name]}: meson.build has no dependency('{name}')"
        for name in sorted(provided.keys() - wanted)
    ]
    return violations


def test_wraps_and_dependencies_match_one_to_one():
    wraps = files("subprojects/", suffixes=(".wrap",))
    assert wraps
    violations = wrap_violations(wraps, read("meson.build"), read("docs/dependencies.md"))
    assert not violations, report(violations)


GOOD = (
    "[wrap-git]\nurl = https://github.com/a/one.git\nrevision = v1.0\n"
    "[provide]\ndependency_names = one\n"
)
MESON = "one_dep = dependency('one')\nthreads = dependency('threads')\n"


def test_the_rule_accepts_a_wrap_that_matches():
    assert wrap_violations({"subprojects/one.wrap": GOOD}, MESON, "- **one**: because") == []


def test_the_rule_bites_on_each_kind_of_mismatch():
    path = "subprojects/one.wrap"
    document = "- **one**: because"
    assert wrap_violations({path: "no wrap"}, MESON, document)
    assert wrap_violations({path: GOOD.replace("revision = v1.0\n", "")}, MESON, document)
    assert wrap_violations({path: GOOD.replace("v1.0", "main")}, MESON, document)
    assert wrap_violations({path: GOOD.replace("wrap-git", "wrap-file")}, MESON, document)
    assert wrap_violations({path: GOOD}, MESON, "nothing about it, only one-way streets")
    assert wrap_violations({path: GOOD}, MESON + "dependency('two')", document)
    assert wrap_violations({path: GOOD}, "", document)
    assert wrap_violations({path: GOOD, "subprojects/again.wrap": GOOD}, MESON, document)
