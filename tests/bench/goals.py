"""The goals that the figures must reach."""

import dataclasses

from contenders import (
    CHECKS,
    DB_POOL,
    DB_POOL_TEST,
    DJORM,
    DJORM_PESSIMISTIC,
    HAND,
    HAND_AUTOCOMMIT,
    MARIADB,
    MAX_AGE,
    NEW,
    OLD,
    PERSISTCONN,
    PERSISTCONN_AUTOCOMMIT,
    POOL_CHECKS,
    PSYCOPG2,
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
    ours: str = PERSISTCONN
    how: object = ratio
    unit: str = "times"

    @property
    def words(self):
        sign, bound = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        return f"{sign} {bound:g} {self.unit}"

    def measured(self, values):
        """The Spread of the measured figures, or None."""
        return compare(values.get(self.metric, {}), self.ours, self.against, self.how)

    def is_reached(self, median):
        return median >= self.at_least if self.at_most is None else median <= self.at_most


ONE, CONNECTION, CURSOR = (
    "one-query requests per second",
    "connection cost of a request without a query",
    "extra cost of one cursor on an open connection",
)
ALL = [
    Goal(ONE, "one", STOCK, NEW, at_least=20),
    Goal(ONE, "one", HAND, NEW, at_least=0.95),
    Goal(ONE, "one", CHECKS, (PSYCOPG3,), at_least=1.17),
    Goal(ONE, "one", CHECKS, (PSYCOPG2,), at_least=1.13),
    Goal(ONE, "one", POOL_CHECKS, (PSYCOPG3,), at_least=1.15),
    Goal(ONE, "one", STOCK, MARIADB, at_least=10),
    Goal(ONE, "one", HAND, MARIADB, at_least=0.95),
    Goal(ONE, "one", CHECKS, MARIADB, at_least=1.1),
    Goal(f"{ONE}, 1 ms", "one, 1 ms", CHECKS, MARIADB, at_least=1.8),
    Goal(ONE, "one", DJORM_PESSIMISTIC, (OLD,), at_least=2.0),
    Goal(ONE, "one", DB_POOL_TEST, (OLD,), at_least=2.0),
    Goal(ONE, "one", DJORM, (OLD,), at_least=1.5),
    Goal(ONE, "one", DB_POOL, (OLD,), at_least=1.5),
    *(
        Goal(
            f"{ONE} with autocommit{far}",
            f"one{far}",
            HAND_AUTOCOMMIT,
            (OLD,),
            0.9,
            ours=PERSISTCONN_AUTOCOMMIT,
        )
        for far in ("", ", 1 ms", ", 20 ms")
    ),
    *(
        Goal(f"ten-query requests per second, {threads} threads", metric, MAX_AGE, NEW, 0.97)
        for threads, metric in ((4, "ten, HTTP, 4"), (16, "ten, HTTP, 16"))
    ),
    Goal(CONNECTION, "connection", MAX_AGE, NEW, at_most=1.08),
    Goal(CURSOR, "cursor", STOCK, NEW, at_most=1.5, how=difference, unit="µs"),
]

#: The most sessions that a thousand threads may have, which share them.
SESSIONS = 8
