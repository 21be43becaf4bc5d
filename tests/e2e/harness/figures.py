"""Promises and the figures behind them: told by the tests, shown as one table at the end of the
run.

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
    """Each promise with the test file that holds it, below it a line for each engine and case:
    result, figure. Then the sum of all deliveries."""
    promises = {}
    sums = {_DELIVERIES: 0, _FOREIGN: 0}
    for report in reports:
        for name, value in report.user_properties:
            if name == _PROMISE:
                promise, _, figure = value.partition(" | ")
                file = report.nodeid.split("/")[-1].split("::")[0]
                promises.setdefault((file, promise), []).append(
                    (_engine_of(report), report.outcome, figure)
                )
            elif name in sums:
                sums[name] += int(value)
    if not promises:
        return []
    lines = []
    for (file, promise), cases in sorted(promises.items()):
        lines.append(f"{promise}  ({file})")
        lines += [
            f"    {engine:8}  {outcome if outcome == 'passed' else outcome.upper():6}  {figure}"
            for engine, outcome, figure in sorted(cases)
        ]
    lines.append(
        f"real deliveries checked: {sums[_DELIVERIES]}, of them to a wrong client: {sums[_FOREIGN]}"
    )
    return lines
