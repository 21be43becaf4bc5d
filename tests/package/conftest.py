"""The package can only be tried by root, who may make a bare Debian and change into it."""

import os
import pathlib

import pytest


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        reason = "package: not run, a bare Debian can only be made by root"
        if report := session.config.getoption("xmlpath"):
            pathlib.Path(report).write_text(reason, encoding="utf-8")  # for tests/summary.py
        pytest.exit(reason, 2)
