"""What bash, zsh and fish offer for a begun command line is what the programs take.

    127.0.0.1:5353 and 5354, upstream 127.0.0.1:53, in the proxy's namespace
"""

import os
import re
import subprocess

import pytest

from harness.admin import ctl_path
from harness.program import REPOSITORY, commands_of, configuration, help_of, path, table

_FILES = REPOSITORY / "share" / "completions"

# Completes as readline does it: for bash a word ends at = too.
_BASH = r"""
. /usr/share/bash-completion/bash_completion
. "$FILES/udpproxy.bash"
. "$FILES/udpproxyctl.bash"
compopt() { :; }
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
mapfile -t COMP_WORDS < <(grep -o '=\|[^= ]\+' <<<"$LINE")
[[ $LINE != *[\ =] ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"_${COMP_WORDS[0]}"
printf '%s\n' "${COMPREPLY[@]}" >"$OFFERED"
"""

# Completions need the line editor, and so a terminal; what is added to its list is written down.
_ZSH = r"""
fpath=($FILES $fpath)
autoload -Uz compinit && compinit -u -D
compadd() {
    local -a matches
    if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        builtin compadd -A matches "$@"
        (( ! $#matches )) || print -rl -- $matches >>$OFFERED
    fi
    builtin compadd "$@"
}
zle -C offer list-choices _main_complete
zle-line-init() { BUFFER=$LINE; CURSOR=$#BUFFER; zle offer; exit 0 }
zle -N zle-line-init
"""

_FISH = r"""
source $FILES/udpproxy.fish
source $FILES/udpproxyctl.fish
complete -C $LINE | cut -f 1 >$OFFERED
"""


@pytest.fixture(params=["bash", "zsh", "fish"])
def offered(request, tmp_path):
    """offered(line) -> the set of words that the shell offers at the end of the line, with the
    programs of the directory `tools`."""
    (tmp_path / ".zshrc").write_text(_ZSH, encoding="utf-8")
    command = {
        "bash": ["bash", "--norc", "-c", _BASH],
        "zsh": ["script", "-qec", "zsh -d -i", "/dev/null"],
        "fish": ["fish", "--no-config", "-c", _FISH],
    }[request.param]

    def ask(line, tools=os.path.dirname(path())):
        answer = tmp_path / "offered"
        answer.write_text("")
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            check=True,
            env={
                "PATH": f"{tools}:/usr/bin:/bin",
                "LC_ALL": "C.UTF-8",
                "TERM": "xterm",
                "HOME": str(tmp_path),
                "ZDOTDIR": str(tmp_path),
                "FILES": str(_FILES),
                "OFFERED": str(answer),
                "LINE": line,
            },
        )
        return set(answer.read_text().split())

    ask.shell = request.param
    return ask


def _long(options):
    return {option for option in options if option.startswith("--")}


def test_the_options_of_udpproxy(offered):
    assert offered("udpproxy --") == _long(help_of(path())[0])


def test_the_other_keys_of_a_proxy_with_the_words_that_they_take(offered):
    """The table that they are compared with is compared with the code by a unit test."""
    text = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ((?:\\\||[^|])*) \|", text.split("## [[proxy]]")[1], re.M
    )
    wanted = set()
    for name, kind, values in rows:
        words = values.split(" \\| ") if kind == "word" else [""]
        wanted |= {f"{name}={word}" for word in words}
    wanted -= {"name=", "listen=", "upstream=", "reply_aliases="}
    assert len(wanted) > 25 and offered("udpproxy --set ") == wanted
    # bash puts in only what stands behind the last =.
    begin = "" if offered.shell == "bash" else "on_change="
    assert offered("udpproxy --set on_change=") == {f"{begin}keep", f"{begin}close"}


def test_the_commands_of_udpproxyctl_with_their_options(offered):
    common = {"--help", "--json", "--socket"}
    options, commands = help_of(ctl_path())
    assert offered("udpproxyctl ") == set(commands)
    assert offered("udpproxyctl --") == _long(options) == common | {"--version"}
    for words, options in commands_of(ctl_path()).items():
        if len(words) == 2:
            assert words[1] in offered(f"udpproxyctl {words[0]} ")
        line = f"udpproxyctl --socket /nowhere {' '.join(words)} --"
        assert offered(line) == options | common, line


def test_the_words_that_udpproxyctl_takes(offered):
    assert offered("udpproxyctl log level ") == {"error", "warn", "info"}
    assert offered("udpproxyctl sessions --sort ") == {"bytes", "age", "idle"}


def test_the_proxies_of_the_running_program(offered, admin, start_proxy):
    lines = [
        f"udpproxyctl --socket {admin.socket} {words} "
        for words in ("drain", "resume", "sessions --proxy", "doctor --probe 00 --probe-proxy")
    ]
    for line in lines:
        assert offered(line) == set(), "nothing runs"
    start_proxy(
        configuration(
            table(name="dns", listen="127.0.0.1:5353", upstream="127.0.0.1:53"),
            table(name="dns.second-1", listen="127.0.0.1:5354", upstream="127.0.0.1:53"),
            head=admin.section(),
        )
    )
    for line in lines:
        assert offered(line) == {"dns", "dns.second-1"}, line


def test_what_a_program_sends_instead_of_names_is_not_executed(offered, tmp_path):
    """bash expands the words that completions choose from: a name `$(…)` ran as the person at the
    terminal."""
    program, mark = tmp_path / "udpproxyctl", tmp_path / "mark"
    names = (f"$(touch${{IFS}}{mark})", "dns")
    answer = "\n".join(f'udpproxy_sessions{{proxy="{name}"}} 1' for name in names)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n", encoding="utf-8")
    program.chmod(0o755)
    assert offered("udpproxyctl drain ", tools=tmp_path) == {"dns"}
    assert not mark.exists()
