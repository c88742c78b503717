"""The measurements as plain data, and the figures that follow from them."""

import statistics
from collections import defaultdict


class Results:
    """``values[metric][contender]``: one for each round, None where it failed."""

    def __init__(self):
        self.values = defaultdict(lambda: defaultdict(list))
        self.failures = {}
        self.once = {}

    def add(self, metric, values):
        for name, value in values.items():
            self.values[metric][name].append(value)

    def fail(self, row, what, error):
        """Note the first failure of a contender only: later ones often follow from it."""
        self.failures.setdefault(row.name, f"{what}: {error}")

    def as_data(self):
        return {"values": self.values, "failures": self.failures, "once": self.once}


class Spread:
    """The median of some numbers, with the least and the greatest."""

    def __init__(self, numbers):
        numbers = list(numbers)
        self.median = statistics.median(numbers)
        self.least, self.greatest = min(numbers), max(numbers)


def spread(values, name):
    """The Spread of a contender's values, or None if there are none."""
    numbers = [number for number in values.get(name, ()) if number is not None]
    return Spread(numbers) if numbers else None


def compare(values, name, other, how):
    """The Spread of ``how(value, the other's value)`` in each round, or None."""
    pairs = zip(values.get(name, ()), values.get(other, ()))
    numbers = [how(*pair) for pair in pairs if None not in pair]
    return Spread(numbers) if numbers else None
