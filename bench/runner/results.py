"""What a run has found: every measurement, the medians and their spread, and ratios that are taken
within one round before their median is."""

import statistics

from contenders import NOTHING


def median_of(values):
    return statistics.median(values) if values else None


class Results:
    """measurements: dictionaries with workload, contender, round and the figures of measure.py."""

    def __init__(self, machine, contenders, workloads, measurements):
        self.machine, self.contenders, self.workloads, self.measurements = (
            machine,
            contenders,
            workloads,
            measurements,
        )
        self._by_key = {
            (each["workload"], each["contender"], each["round"]): each for each in measurements
        }

    @classmethod
    def from_json(cls, loaded):
        return cls(
            loaded["machine"], loaded["contenders"], loaded["workloads"], loaded["measurements"]
        )

    def as_json(self):
        return {
            "machine": self.machine,
            "contenders": self.contenders,
            "workloads": self.workloads,
            "measurements": self.measurements,
        }

    def rounds(self, workload):
        return sorted({each["round"] for each in self.measurements if each["workload"] == workload})

    def names(self, workload):
        """The contenders that were measured with the workload, in the order of their list."""
        measured = {each["contender"] for each in self.measurements if each["workload"] == workload}
        return [each["name"] for each in self.contenders if each["name"] in measured]

    def value(self, workload, contender, figure, turn):
        each = self._by_key.get((workload, contender, turn))
        if each is None:
            return None
        if figure == "core_ns":
            return self._core_ns(each)
        if figure == "own_ns_per_session":
            return (
                each["own_cpu"] * 1e9 / each["replies_per_s"]
                if each["own_cpu"] and each["replies_per_s"]
                else None
            )
        return each.get(figure)

    def _core_ns(self, each):
        """What a forwarded datagram costs the whole core, less what the clients alone cost at the
        same rate."""
        alone = self._by_key.get((each["workload"], NOTHING.name, each["round"]))
        if (
            alone is None
            or each["busy"] is None
            or alone["busy"] is None
            or not each["forwarded_per_s"]
        ):
            return None
        clients = alone["busy"] * each["sent_per_s"] / alone["sent_per_s"]
        return (each["busy"] - clients) * 1e9 / each["forwarded_per_s"]

    def values(self, workload, contender, figure):
        found = (self.value(workload, contender, figure, turn) for turn in self.rounds(workload))
        return [value for value in found if value is not None]

    def ratios(self, figure, workload, contender, reference, other_workload=None):
        """contender / reference, round by round."""
        found = []
        for turn in self.rounds(workload):
            above = self.value(workload, contender, figure, turn)
            below = self.value(other_workload or workload, reference, figure, turn)
            if above is not None and below:
                found.append(above / below)
        return found

    def misdelivered(self):
        """Measurements in which somebody got what was not his, or not as it was sent."""
        return [
            each
            for each in self.measurements
            if each.get("foreign") or each.get("damaged") or each.get("shared_ports")
        ]
