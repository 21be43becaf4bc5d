"""Third-party code stays where it was let in: each library in the files that need it, so that
replacing it stays a matter of those files."""

import re

import pytest

from tree import cpp, includes, report

# What an #include line of the library looks like, and the files that may have one.
FENCES = {
    "liburing": (r"liburing(\.h|/.*)", r"src/io/uring[^/]*"),
    "toml++": (r"(toml\+\+|tomlplusplus)/.*", r"src/config/toml_reader\.cpp"),
    "nlohmann-json": (r"nlohmann/.*", r"src/(host/packet_filter\.cpp|ctl/.*)"),
    "libmnl": (r"libmnl/.*", r"src/host/(netlink|route_answers|routes|packet_filter_reader)\.cpp"),
    "c-ares": (r"ares(_\w+)?\.h", r"src/host/lookups\.cpp"),
    "libmicrohttpd": (r"microhttpd\.h", r"src/admin/(server\.cpp|responses\.[ch]pp)"),
    "CLI11": (
        r"CLI/.*",
        r"src/(ctl/(main|usage)\.cpp|main\.cpp)|bench/traffic/(clients|floor|service|soak)\.cpp",
    ),
    # Not in a shard and not below one; formatting an endpoint is the one exception.
    "fmt": (
        r"fmt/.*",
        r"src/((config|host|doctor|log|runtime|admin|daemon|ctl)/.*|main\.cpp|net/endpoint\.cpp)",
    ),
    "doctest": (r"doctest.*", r"(tests|fuzz)/.*"),
    "benchmark": (r"benchmark/.*", r"bench/.*"),
}


def fence_violations(tree):
    violations = []
    for path, text in tree.items():
        for number, _, target in includes(text):
            for library, (header, home) in FENCES.items():
                if re.fullmatch(header, target) and not re.fullmatch(home, path):
                    violations.append(f"{path}:{number}: {library} is fenced in: {home}")
    return violations


def test_third_party_headers_stay_inside_their_fences():
    violations = fence_violations(
        {path: text for path, text in cpp().items() if not path.startswith(("tests/", "fuzz/"))}
    )
    assert not violations, report(violations)


@pytest.mark.parametrize(
    "path, text",
    [
        ("src/io/epoll.cpp", "#include <liburing.h>"),
        ("include/udpproxy/io/backend.hpp", "#include <liburing/io_uring.h>"),
        ("src/runtime/plan.cpp", "#include <toml++/toml.h>"),
        ("src/shard/loop.cpp", "#include <nlohmann/json.hpp>"),
        ("src/session/table.cpp", '#include "fmt/format.h"'),
        ("src/net/socket.cpp", "#include <fmt/core.h>"),
        ("src/base/time.cpp", "#include <CLI/CLI.hpp>"),
        ("src/admin/routes.cpp", "#include <microhttpd.h>"),
        ("src/doctor/collect.cpp", "#include <libmnl/libmnl.h>"),
        ("src/base/time.cpp", "#include <doctest/doctest.h>"),
        ("src/base/time.cpp", "#include <benchmark/benchmark.h>"),
    ],
)
def test_the_rule_bites_on(path, text):
    assert fence_violations({path: text})


@pytest.mark.parametrize(
    "path, text",
    [
        ("src/io/uring_send.cpp", "#include <liburing.h>"),
        ("src/config/toml_reader.cpp", "#include <toml++/toml.h>"),
        ("src/main.cpp", "#include <CLI/CLI.hpp>"),
        ("src/log/log.cpp", "#include <fmt/format.h>"),
    ],
)
def test_the_rule_accepts(path, text):
    assert fence_violations({path: text}) == []
