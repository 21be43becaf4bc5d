"""Every Python file of the tree parses, also those that no test imports. (Shell scripts have
shellcheck.)"""

import ast

from tree import files, report


def parse_violations(tree):
    violations = []
    for path, text in tree.items():
        try:
            ast.parse(text, path)
        except SyntaxError as error:
            violations.append(f"{path}:{error.lineno}: {error.msg}")
    return violations


def test_every_python_file_parses():
    violations = parse_violations(files(suffixes=(".py",)))
    assert not violations, report(violations)


def test_the_rule_bites():
    assert parse_violations({"x.py": "def f(:\n"})
    assert parse_violations({"x.py": "x = 1\n"}) == []
