"""Tests that run the program as another user than the one that runs the tests."""

import os

import pytest

_USERS_MAPPED = open("/proc/self/uid_map", encoding="ascii").read().split()[2]

several_users = pytest.mark.skipif(
    os.geteuid() != 0 or _USERS_MAPPED == "1", reason="needs several users"
)


_USER = "64321"  # of no other process but those of these tests


def as_its_user(*words, capability="dac_override", user=_USER):
    """The words as a user of its own that still reads and writes all files: limits of threads and
    of locked memory count what is the user's, and do not hold root."""
    return [
        "setpriv",
        "--reuid",
        user,
        "--regid",
        user,
        "--clear-groups",
        "--inh-caps",
        f"+{capability}",
        "--ambient-caps",
        f"+{capability}",
        *words,
    ]
