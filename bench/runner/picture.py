"""The picture: bars for datagrams a second and for CPU time per datagram, as SVG with nothing from
outside."""

from html import escape

from results import median_of

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _HEAD = 860, 190, 90, 18, 8, 44
_PANELS = [
    (
        "Datagrams a second, two cores: 64 B from 1000 clients",
        "flood-64-1000",
        "forwarded_per_s",
        "longer is better",
        1e-3,
        "k",
    ),
    (
        "Datagrams a second, two cores: 1200 B in trains of 32",
        "flood-trains",
        "forwarded_per_s",
        "longer is better",
        1e-3,
        "k",
    ),
    (
        "CPU time of the whole core per datagram: 64 B from 1000 clients",
        "paced-64-1000",
        "core_ns",
        "shorter is better",
        1,
        "ns",
    ),
    (
        "CPU time of the whole core per datagram: 1200 B in trains of 32",
        "paced-trains",
        "core_ns",
        "shorter is better",
        1,
        "ns",
    ),
]


def _colour(name):
    if name.startswith("udpproxy"):
        return "#1f77b4"
    return "#9aa5b1" if name.startswith(("floor", "kernel")) else "#d98c3f"


def _number(value):
    return f"{value:,.0f}".replace(",", "\u202f")


def _panel(results, top, title, workload, figure, note, scale, unit):
    bars = [
        (name, median_of(values))
        for name in results.names(workload)
        if (values := results.values(workload, name, figure))
    ]
    bars = [(name, value) for name, value in bars if value > 0]
    if not bars:
        return [], top
    longest = max(value for _, value in bars)
    lines = [
        f'<text x="12" y="{top + 22}" class="title">{escape(title)}</text>',
        f'<text x="{_WIDTH - 12}" y="{top + 22}" class="note" '
        f'text-anchor="end">{escape(note)}</text>',
    ]
    y = top + _HEAD - 10
    for name, value in bars:
        width = max(1.0, (_WIDTH - _LEFT - _RIGHT) * value / longest)
        lines += [
            f'<text x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" '
            f'fill="{_colour(name)}"/>',
            f'<text x="{_LEFT + width + 6:.1f}" y="{y + 13}">{_number(value * scale)} '
            f'{unit}</text>',
        ]
        y += _BAR + _GAP
    return lines, y + 10


def draw(results):
    """The SVG's text."""
    body, top = [], 8
    for panel in _PANELS:
        lines, top = _panel(results, top, *panel)
        body += lines
    machine = (
        f'{results.machine["cpu"]}, Linux {results.machine["kernel"]}, '
        f'medians of {results.machine["rounds"]} interleaved rounds'
    )
    body.append(f'<text x="12" y="{top + 14}" class="note">{escape(machine)}</text>')
    style = (
        "text{font:13px sans-serif;fill:#222}"
        ".title{font-weight:bold}.note{font-size:12px;fill:#666}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 26}" viewBox="0 '
        f'0 {_WIDTH} {top + 26}">\n'
        f'<style>{style}</style>\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )
