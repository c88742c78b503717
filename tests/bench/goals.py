"""The goals that the figures must reach."""

import dataclasses

from contenders import (
    CHECKS,
    DB_POOL,
    DB_POOL_TEST,
    DJORM,
    DJORM_PESSIMISTIC,
    HAND,
    MAX_AGE,
    NEW,
    OLD,
    PERSISTCONN,
    POOL_CHECKS,
    PSYCOPG3,
    STOCK,
)
from results import compare


def ratio(ours, theirs):
    return ours / theirs


def difference(ours, theirs):
    return ours - theirs


@dataclasses.dataclass(frozen=True)
class Goal:
    what: str
    metric: str
    against: str
    environments: tuple
    at_least: float = None
    at_most: float = None
    how: object = ratio
    unit: str = "times"

    @property
    def words(self):
        sign, bound = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        return f"{sign} {bound:g} {self.unit}"

    def measured(self, values):
        """The Spread of the measured figures, or None."""
        return compare(values.get(self.metric, {}), PERSISTCONN, self.against, self.how)

    def is_reached(self, median):
        return median >= self.at_least if self.at_most is None else median <= self.at_most


ONE, CONNECTION, CURSOR = (
    "one-query requests per second",
    "connection cost of a request without a query",
    "extra cost of one cursor on an open connection",
)
ALL = [
    Goal(ONE, "one", STOCK, NEW, at_least=20),
    Goal(ONE, "one", HAND, NEW, at_least=0.97),
    Goal(ONE, "one", CHECKS, NEW, at_least=1.2),
    Goal(ONE, "one", POOL_CHECKS, (PSYCOPG3,), at_least=1.15),
    Goal(ONE, "one", DJORM_PESSIMISTIC, (OLD,), at_least=2.0),
    Goal(ONE, "one", DB_POOL_TEST, (OLD,), at_least=2.0),
    Goal(ONE, "one", DJORM, (OLD,), at_least=1.5),
    Goal(ONE, "one", DB_POOL, (OLD,), at_least=1.5),
    Goal(CONNECTION, "connection", MAX_AGE, NEW, at_most=1.1),
    Goal(CURSOR, "cursor", STOCK, NEW, at_most=1.5, how=difference, unit="µs"),
]

#: The most sessions that a thousand threads may have, which share them.
SESSIONS = 8
