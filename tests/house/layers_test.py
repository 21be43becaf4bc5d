"""Who may include whom: main -> daemon -> admin -> runtime -> shard -> {session, io, ledger} ->
net -> base, and main, daemon -> keeper -> base. A room may include any room below it along the
arrows; session and io never see each other; what lies in src/<room>/ is private to that room."""

import pytest

from tree import cpp, includes, report

BELOW = {
    "base": set(),
    "keeper": {"base"},
    "net": {"base"},
    "session": {"net", "base"},
    "io": {"net", "base"},
    "ledger": {"net", "base"},
    "shard": {"session", "io", "ledger", "net", "base"},
    "log": {"base"},
    "config": {"log", "session", "net", "base"},
    "host": {"io", "session", "net", "base"},
    "doctor": {"config", "host", "io", "session", "net", "base"},
    "runtime": {
        "config",
        "host",
        "keeper",
        "log",
        "shard",
        "session",
        "io",
        "ledger",
        "net",
        "base",
    },
    "admin": {
        "doctor",
        "runtime",
        "config",
        "host",
        "log",
        "shard",
        "session",
        "io",
        "net",
        "base",
    },
    "daemon": {
        "admin",
        "doctor",
        "runtime",
        "config",
        "host",
        "log",
        "shard",
        "session",
        "io",
        "ledger",
        "net",
        "keeper",
        "base",
    },
    "main": {"daemon", "keeper", "ledger", "doctor", "runtime", "config", "net", "base"},
    # udpproxyctl, a program of its own: it talks to the other one and shares values with it only.
    "ctl": {"net", "base"},
}
# The session room takes values from net (endpoint, train), never sockets.
NOT_FOR = {
    "session": {"net/socket.hpp", "net/listener.hpp", "net/group_sockets.hpp", "net/cmsg.hpp"}
}


def room_of(path):
    """The room a file of ours lies in, and whether it is public."""
    parts = path.split("/")
    if path.startswith("include/udpproxy/") and len(parts) == 4:
        return parts[2], True
    if path.startswith("src/") and len(parts) in (3, 4):
        return parts[1], False
    if path == "src/main.cpp":
        return "main", False
    return None, False


def resolve(includer, target, tree):
    """The path of an included file of ours, or None."""
    beside = f"{includer.rsplit('/', 1)[0]}/{target}"
    for candidate in (beside, f"include/{target}", f"src/{target}"):
        if candidate in tree:
            return candidate
    return None


def layer_violations(tree):
    violations = []
    for path, text in tree.items():
        room, public = room_of(path)
        if room not in BELOW:
            violations.append(f"{path}: lies in no room of the drawing ({', '.join(BELOW)})")
            continue
        for number, _, target in includes(text):
            where = f"{path}:{number}: {target}"
            if (
                target.startswith("udpproxy/")
                or target.count("/") == 0
                or target.split("/")[0] in BELOW
            ):
                included = resolve(path, target, tree)
            else:
                included = None
            if ".." in target:
                violations.append(f"{where}: goes up; name the room instead")
            if included is None:
                if target.startswith("udpproxy/"):
                    violations.append(f"{where}: there is no such header")
                continue
            other, other_public = room_of(included)
            if other != room and other not in BELOW[room]:
                violations.append(f"{where}: {room} may not include {other}")
            if other != room and not other_public:
                violations.append(f"{where}: private to {other}")
            if public and not other_public:
                violations.append(f"{where}: a public header includes a private one")
            if included.removeprefix("include/udpproxy/") in NOT_FOR.get(room, ()):
                violations.append(f"{where}: {room} takes only values from net, no sockets")
    return violations


def test_every_include_follows_an_arrow_of_the_drawing():
    violations = layer_violations(cpp("include/", "src/"))
    assert not violations, report(violations)


PLANTED = {
    "io includes session": ("src/io/epoll.cpp", '#include "udpproxy/session/table.hpp"'),
    "session includes io": (
        "include/udpproxy/session/extra.hpp",
        '#include "udpproxy/io/traffic.hpp"',
    ),
    "session includes a socket": ("src/session/group.cpp", '#include "udpproxy/net/socket.hpp"'),
    "the ledger includes a session": (
        "src/ledger/ledger.cpp",
        '#include "udpproxy/session/table.hpp"',
    ),
    "net includes shard": ("src/net/endpoint.cpp", '#  include "udpproxy/shard/loop.hpp"'),
    "the log includes the configuration": (
        "src/log/log.cpp",
        '#include "udpproxy/config/config.hpp"',
    ),
    "the configuration includes a shard": (
        "src/config/caddyfile/x.cpp",
        '#include "udpproxy/shard/loop.hpp"',
    ),
    "the doctor includes the runtime": (
        "src/doctor/x.cpp",
        '#include "udpproxy/runtime/reload.hpp"',
    ),
    "the runtime includes the daemon": (
        "src/runtime/x.cpp",
        '#include "udpproxy/daemon/daemon.hpp"',
    ),
    "the keeper includes the network": ("src/keeper/x.cpp", '#include "udpproxy/net/endpoint.hpp"'),
    "main includes a shard": ("src/main.cpp", '#include "udpproxy/shard/loop.hpp"'),
    "another room's private header": ("src/shard/loop.cpp", '#include "io/ring.hpp"'),
    "a public header includes a private one": (
        "include/udpproxy/io/extra.hpp",
        '#include "io/ring.hpp"',
    ),
    "a way up": ("src/io/epoll.cpp", '#include "../io/ring.hpp"'),
    "a room that is not in the drawing": ("src/extras/x.cpp", ""),
    "a header that does not exist": ("src/io/epoll.cpp", '#include "udpproxy/io/gone.hpp"'),
}
HOUSE = {
    "include/udpproxy/session/table.hpp": '#include "udpproxy/net/endpoint.hpp"',
    "include/udpproxy/io/traffic.hpp": '#include "udpproxy/net/endpoint.hpp"',
    "include/udpproxy/net/socket.hpp": "#include <vector>",
    "include/udpproxy/net/endpoint.hpp": "",
    "include/udpproxy/shard/loop.hpp": '#include "udpproxy/session/table.hpp"\n'
    '#include "udpproxy/io/traffic.hpp"',
    "src/io/ring.hpp": "",
    "src/io/ring.cpp": '#include "ring.hpp"\n#include "io/ring.hpp"\n#include <sys/socket.h>',
    "include/udpproxy/log/log.hpp": '#include "udpproxy/base/result.hpp"',
    "include/udpproxy/base/result.hpp": "",
    "include/udpproxy/config/config.hpp": '#include "udpproxy/log/log.hpp"',
    "src/config/caddyfile/lexer.cpp": '#include "udpproxy/config/config.hpp"',
    "include/udpproxy/runtime/reload.hpp": '#include "udpproxy/shard/loop.hpp"',
    "include/udpproxy/daemon/daemon.hpp": '#include "udpproxy/runtime/reload.hpp"',
    "src/main.cpp": '#include "udpproxy/daemon/daemon.hpp"',
}


def test_the_rule_accepts_a_house_that_follows_the_drawing():
    assert layer_violations(HOUSE) == []


@pytest.mark.parametrize("path, text", PLANTED.values(), ids=PLANTED.keys())
def test_the_rule_bites_on(path, text):
    assert layer_violations({**HOUSE, path: text})
