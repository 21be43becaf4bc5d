#!/usr/bin/python3
"""clang-tidy over src and bench: tidy.py BUILD [FILE…], with the compilation database of BUILD.

What is compiled alike (a room, a program) is looked at as one text: its headers are read once
instead of once for each file, which halves the time. The text is the files one after another, not
their #includes, since some checks look at the main file only. A finding names the file and line
that it came from. A house rule looks for repeated #includes instead of
readability-duplicate-include, which would find those of the next file.
"""

import bisect
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CHECKS = "-checks=-readability-duplicate-include"


class Text:
    """Files one after another, and from which of them a line came."""

    def __init__(self, path, files):
        self.path, self.files, self.first_lines = path, files, []
        lines = []
        for file in files:
            self.first_lines.append(len(lines) + 1)
            lines += file.read_text(encoding="utf-8").splitlines()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def origin(self, found):
        """A regular expression's match of this text's path and a line, as file and line."""
        line = int(found[1])
        index = bisect.bisect_right(self.first_lines, line) - 1
        return f"{self.files[index]}:{line - self.first_lines[index] + 1}:"

    def look(self, directory, flags):
        """(clang-tidy's exit code, what it found)"""
        quotes = sorted({str(file.parent) for file in self.files})
        words = ["clang-tidy", "-quiet", _CHECKS, str(self.path), "--", *flags]
        words += [word for quote in quotes for word in ("-iquote", quote)]
        done = subprocess.run(
            words, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        found = re.sub(rf"{re.escape(str(self.path))}:(\d+):", self.origin, done.stdout)
        noise = [line for line in done.stderr.splitlines() if "warning" not in line and line]
        return done.returncode, "\n".join([found.strip(), *noise]).strip()


def texts_of(build, wanted):
    """The texts with directory and flags of their commands, those that take longest first."""
    groups = collections.defaultdict(list)
    for entry in json.loads((build / "compile_commands.json").read_text(encoding="utf-8")):
        file = pathlib.Path(os.path.normpath(pathlib.Path(entry["directory"]) / entry["file"]))
        inside = file.is_relative_to(_ROOT) and file.relative_to(_ROOT).parts[0] in ("src", "bench")
        if not inside or (wanted and file not in wanted):
            continue
        target = pathlib.Path(entry["output"]).parent
        words = shlex.split(entry["command"])
        words = words[next(i for i, word in enumerate(words) if word.startswith("-")) :]
        flags = []
        while words:
            word = words.pop(0)
            if word in ("-o", "-MQ", "-MF", "-c"):
                words.pop(0)
            elif word != "-MD":
                flags.append(word)
        flags = [flag for flag in flags if not flag.startswith(f"-I{target}")]
        groups[target.name, entry["directory"], tuple(flags)].append(file)
    made = [
        (Text(build / "tidy" / f"{name.removesuffix('.p')}.cpp", sorted(files)), directory, flags)
        for (name, directory, flags), files in groups.items()
    ]
    return sorted(made, key=lambda item: -item[0].path.stat().st_size)


def main(arguments):
    build = pathlib.Path(arguments[0]).resolve()
    wanted = {pathlib.Path(file).resolve() for file in arguments[1:]}
    texts = texts_of(build, wanted)
    if not texts and not wanted:
        sys.exit(f"tidy: {build}/compile_commands.json has no file of src or bench")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = {pool.submit(text.look, where, flags): text for text, where, flags in texts}
        for number, look in enumerate(concurrent.futures.as_completed(looks), 1):
            status, found = look.result()
            failed += status != 0
            print(f"[{number}/{len(looks)}] {looks[look].path.stem}", flush=True)
            if found:
                print(found, flush=True)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
