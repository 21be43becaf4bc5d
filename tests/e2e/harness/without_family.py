"""Runs a program for which socket(2) knows no such address family, as under a seccomp profile or on
a kernel built without it.

    python3 without_family.py AF_INET6 EAFNOSUPPORT PROGRAM [ARGUMENT…]

The program takes the place of this one: pid and exit code are its own.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ALLOW = 0x7FFF0000
_SECCOMP_RET_ERRNO = 0x00050000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16  # in struct seccomp_data
_SYS_SOCKET = {"x86_64": 41, "aarch64": 198}


def prefix(family, error):
    """The words to put before a program's."""
    return ("/usr/bin/python3", __file__, family, error)


def _install(family, error):
    lines = (
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 0, 3, _SYS_SOCKET[platform.machine()]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_JUMP_IF_EQUAL, 0, 1, family),
        (_RETURN, 0, 0, _SECCOMP_RET_ERRNO | error),
        (_RETURN, 0, 0, _SECCOMP_RET_ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(code))
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    for words in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0),
    ):
        if prctl(*words) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {words}")


if __name__ == "__main__":
    _install(getattr(socket, sys.argv[1]), getattr(errno, sys.argv[2]))
    os.execv(sys.argv[3], sys.argv[3:])
