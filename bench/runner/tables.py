"""Tables of a run: text that reads well on a terminal and is Markdown as well."""

from contenders import AGAINST
from results import median_of
from targets import TARGETS


def _thousands(value):
    return (
        f"{value / 1000:,.0f} k".replace(",", " ")
        if value >= 10000
        else f"{value:,.0f}".replace(",", " ")
    )


def _whole(value):
    return f"{value:,.0f}".replace(",", " ")


def _micro(value):
    return f"{value / 1000:.1f}"


def _percent(value):
    return f"{value * 100:.1f} %"


FIGURES = {
    "forwarded_per_s": ("datagrams a second", _thousands),
    "replies_per_s": ("sessions a second", _thousands),
    "own_ns": ("own CPU time, ns per datagram", _whole),
    "own_cycles": ("own cycles per datagram", _whole),
    "own_ns_per_session": ("own CPU time, us per session", _micro),
    "core_ns": ("whole core, ns per datagram", _whole),
    "loss": ("loss", _percent),
    "p50_ns": ("round trip p50, us", _micro),
    "p99_ns": ("round trip p99, us", _micro),
    "user_bytes_per_session": ("own memory, bytes per session", _whole),
    "kernel_bytes_per_session": ("kernel memory, bytes per session", _whole),
}

# Title, figure, kind of workload, part of the workload's name.
TABLES = [
    ("flood", "forwarded_per_s", "flood-"),
    ("flood-loss", "loss", "flood-"),
    ("queued", "own_ns", "queued-"),
    ("queued-cycles", "own_cycles", "queued-"),
    ("paced", "core_ns", "paced-"),
    ("paced-own", "own_ns", "paced-"),
    ("paced-loss", "loss", "paced-"),
    ("offload", "core_ns", ("plain-", "nic-")),
    ("echo", "own_ns", "echo-"),
    ("echo-loss", "loss", "echo-"),
    ("churn-sessions", "replies_per_s", "churn-"),
    ("churn-own", "own_ns_per_session", ("known-", "churn-")),
    ("churn-loss", "loss", "churn-"),
    ("latency-p50", "p50_ns", ("latency", "storm")),
    ("latency-p99", "p99_ns", ("latency", "storm")),
    ("latency-loss", "loss", ("latency", "storm")),
    ("memory-user", "user_bytes_per_session", "memory"),
    ("memory-kernel", "kernel_bytes_per_session", "memory"),
    ("scaling-1", "own_ns", "scaling-1-"),
    ("scaling-2", "own_ns", "scaling-2-"),
]


def grid(rows):
    """Aligned Markdown; the first row is the head, the first column the names."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths))
        )
        + " |"
        for row in rows
    ]
    rule = (
        "|"
        + "|".join(
            "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":"
            for column, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def cell(values, show):
    """The median, and the least and most of several rounds."""
    if not values:
        return "–"
    if len(values) == 1:
        return show(values[0])
    return f"{show(median_of(values))} ({show(min(values))} … {show(max(values))})"


def figure_table(results, figure, prefix):
    """(title, Markdown) of one figure, contenders downwards and workloads across; None when nothing
    of it was measured."""
    title, show = FIGURES[figure]
    workloads = [each for each in results.workloads if each["name"].startswith(prefix)]
    names = [each["name"] for each in results.contenders]
    rows = [["", *(each["title"] for each in workloads)]]
    for name in names:
        cells = [cell(results.values(each["name"], name, figure), show) for each in workloads]
        if any(text != "–" for text in cells):
            rows.append([name, *cells])
    return (title, grid(rows)) if len(rows) > 1 else None


def target_table(results):
    rows = [["", "wanted", "measured (least … most)", "met"]]
    for target in TARGETS:
        outcome = target.outcome(results)
        if outcome is None:
            continue
        middle, least, most, met = outcome
        sign = "at least" if target.at_least else "at most"
        rows.append(
            [
                target.what,
                f"{sign} {target.limit:g}",
                f"{middle:.2f} ({least:.2f} … {most:.2f})",
                "yes" if met else "no",
            ]
        )
    return grid(rows) if len(rows) > 1 else None


# What two builds are compared by, where it is not own CPU time per datagram.
_COMPARED = {
    "flood": "forwarded_per_s",
    "churn": "own_ns_per_session",
    "latency": "p50_ns",
    "memory": "user_bytes_per_session",
}


def against_table(results):
    """Ratios of our build to the one it was measured against; None without such a one."""
    rows = [["", "figure", *(name.split()[1] for name in AGAINST)]]
    for workload in results.workloads:
        figure = _COMPARED.get(workload["kind"], "own_ns")
        ratios = [
            results.ratios(figure, workload["name"], name, other) for name, other in AGAINST.items()
        ]
        if any(ratios):
            rows.append(
                [
                    workload["name"],
                    FIGURES[figure][0],
                    *(cell(each, "{:.3f}".format) for each in ratios),
                ]
            )
    return grid(rows) if len(rows) > 1 else None


def all_tables(results):
    """{name: (title, Markdown)} of everything that was measured."""
    found = {}
    for name, figure, prefix in TABLES:
        table = figure_table(results, figure, prefix)
        if table:
            found[name] = table
    targets = target_table(results)
    if targets:
        found["targets"] = ("targets: ratios within one round", targets)
    against = against_table(results)
    if against:
        found["against"] = (
            "new / against: ratios within one round, median (least … most)",
            against,
        )
    return found
