"""Promises and the figures behind them: told by the tests, shown as one table at the end of the run.

    figures.tell("DNS churn: every query is answered", "3000 of 3000")
    figures.count(result)       real deliveries of a load, for the sum over all tests
"""

_PROMISE, _DELIVERIES, _FOREIGN = "promise", "deliveries", "deliveries_to_a_wrong_client"


class Figures:
    def __init__(self, node):
        self._properties = node.user_properties

    def tell(self, promise, figure):
        self._properties.append((_PROMISE, f"{promise} | {figure}"))

    def count(self, result):
        """`result` is the sums of an `ask` or `churn` of the load tool."""
        self._properties.append((_DELIVERIES, result["replies"]))
        self._properties.append((_FOREIGN, result["foreign"]))


def _engine_of(report):
    return next((engine for engine in ("io_uring", "epoll") if engine in report.nodeid), "-")


def table(reports):
    """Lines: promise, figure, engine, result, test. Several cases of one promise share a line. And the sum of all deliveries."""
    rows = {}
    sums = {_DELIVERIES: 0, _FOREIGN: 0}
    for report in reports:
        for name, value in report.user_properties:
            if name == _PROMISE:
                promise, _, figure = value.partition(" | ")
                place = (report.nodeid.split("/")[-1].split("::")[0], promise, _engine_of(report))
                rows.setdefault(place, []).append((figure, report.outcome))
            elif name in sums:
                sums[name] += int(value)
    if not rows:
        return []
    cells = [("promise", "figure", "engine", "result", "test")]
    cells += [(promise, _sum_up([figure for figure, _ in cases]), engine, _outcome_of([outcome for _, outcome in cases]), test)
              for (test, promise, engine), cases in sorted(rows.items())]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in cells]
    lines.append(f"real deliveries checked: {sums[_DELIVERIES]}, of them to a wrong client: {sums[_FOREIGN]}")
    return lines


def _sum_up(figures):
    return figures[0] if len(figures) == 1 else f"{len(figures)} cases: " + ", ".join(sorted(set(figures)))


def _outcome_of(outcomes):
    failed = sum(outcome != "passed" for outcome in outcomes)
    return "passed" if failed == 0 else f"{failed} of {len(outcomes)} FAILED" if len(outcomes) > 1 else "FAILED"
