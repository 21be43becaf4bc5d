"""Puts the tables and the picture of a finished run into docs/: bench/run.sh --write-docs
[results.json].

The prose of docs/benchmarks.md and docs/scaling.md is written by people; only what stands between
`<!-- table: NAME -->` and `<!-- end -->` is replaced. What the run did not measure is said to be
missing instead of keeping an older run's numbers.
"""

import json
import pathlib
import re
import sys

from estimates import estimates_table
from picture import draw
from results import Results
from tables import all_tables

_DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _machine(results):
    machine = results.machine
    busy = (
        ""
        if machine["load_before"] <= 0.5
        else " **The machine was busy with other work**: whole-core figures are wrong, the others "
        "noisy."
    )
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}; {machine['date']}; "
        f"{machine['rounds']} rounds of "
        f"{machine['seconds']:g} s each; load before the run {machine['load_before']:.1f}; cycles: "
        f"{machine['cycles']}.{busy}"
    )


def _contenders(results):
    return "\n\n".join(
        f"{each['name']}  ({each['version'] or 'bench/traffic/floor.cpp'})\n\n"
        + "\n".join(f"    {line}".rstrip() for line in each["configuration"].splitlines())
        for each in results.contenders
    )


def _ownership(results):
    checked = sum(each.get("checked", 0) for each in results.measurements)
    lines = [f"{checked:,} datagrams had their owner checked.".replace(",", " ")]
    by_name = {}
    for each in results.misdelivered():
        found = by_name.setdefault(each["contender"], [0, 0, 0])
        for place, key in enumerate(("foreign", "damaged", "shared_ports")):
            found[place] += each.get(key, 0)
    lines += [
        f"- {name}: {foreign} replies reached another client, {damaged} datagrams were damaged, "
        f"{shared} came from another client's port"
        for name, (foreign, damaged, shared) in by_name.items()
    ]
    return "\n".join(
        lines if by_name else [*lines, "None was foreign or damaged, and no port was shared."]
    )


def blocks_of(results):
    blocks = {name: table for name, (_, table) in all_tables(results).items()}
    estimated = estimates_table(results)
    if estimated:
        blocks["estimates"] = estimated
    return blocks | {
        "machine": _machine(results),
        "contenders": _contenders(results),
        "ownership": _ownership(results),
    }


def written(text, blocks):
    """The document with its blocks replaced."""
    return _BLOCK.sub(
        lambda found: f"{found[1]}{blocks.get(found[2], 'Not measured in this run.')}\n{found[3]}",
        text,
    )


def main(words):
    source = pathlib.Path(words[0] if words else "build/bench/results.json")
    if not source.exists():
        raise SystemExit(f"bench: no {source}; run bench/run.sh first")
    results = Results.from_json(json.loads(source.read_text(encoding="utf-8")))
    blocks = blocks_of(results)
    for name in ("benchmarks.md", "scaling.md"):
        path = _DOCS / name
        path.write_text(written(path.read_text(encoding="utf-8"), blocks), encoding="utf-8")
        print(f"written: docs/{name}")
    (_DOCS / "benchmarks.svg").write_text(draw(results), encoding="utf-8")
    print("written: docs/benchmarks.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
