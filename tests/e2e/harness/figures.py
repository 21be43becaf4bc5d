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
    """Lines: promise, figure, engine, result, test. And the sum of all deliveries."""
    rows = []
    sums = {_DELIVERIES: 0, _FOREIGN: 0}
    for report in reports:
        for name, value in report.user_properties:
            if name == _PROMISE:
                promise, _, figure = value.partition(" | ")
                rows.append((promise, figure, _engine_of(report), report.outcome, report.nodeid.split("/")[-1].split("[")[0]))
            elif name in sums:
                sums[name] += int(value)
    if not rows:
        return []
    rows.sort(key=lambda row: (row[4].split("::")[0], row[0], row[2]))
    rows.insert(0, ("promise", "figure", "engine", "result", "test"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in rows]
    lines.append(f"real deliveries checked: {sums[_DELIVERIES]}, of them to a wrong client: {sums[_FOREIGN]}")
    return lines
