"""The package can only be tried by root, who may make a bare Debian and change into it."""

import os

import pytest


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        pytest.exit("package: not run, a bare Debian can only be made by root", 2)
