"""The ledger: what every unit of work has been told, against the rows of the table at the end."""

from __future__ import absolute_import

import itertools
import time

import support

#: How far a unit of work came. The outcome of a unit that failed at its COMMIT is unknown.
OPENING, STATEMENT, COMMIT, DONE = range(4)

#: The unit behind each key, for the views.
under_way = {}

numbers = itertools.count(1)


class Unit(object):
    """One request that inserts one unique key, or only reads."""

    pid = sent = checked = began = ended = status = error = None
    stage = OPENING
    #: Whether the unit was abandoned because it took longer than PATIENCE.
    is_hanging = False

    def __init__(self, view, pause=0, on_hold=None, first="SELECT 1", alias="default"):
        self.key = "key-%d" % next(numbers)
        self.view, self.pause, self.on_hold, self.first = view, pause, on_hold, first
        self.alias = alias

    def run(self):
        under_way[self.key] = self
        self.began = time.time()
        try:
            self.status = support.get("/%s/%s/" % (self.view, self.key)).status
        except Exception as error:
            self.status, self.error = 500, error
        finally:
            self.ended = time.time()
            del under_way[self.key]
        return self

    @property
    def is_acknowledged(self):
        return self.status == 200

    @property
    def is_visible(self):
        """Whether a user saw an error."""
        return self.ended is not None and not self.is_acknowledged

    @property
    def has_failed(self):
        """Whether an error was raised before a COMMIT can have been sent."""
        return self.is_visible and self.stage < COMMIT

    @property
    def seconds(self):
        return (self.ended or time.time()) - self.began

    def __repr__(self):
        times = [at and round(at - self.began, 4) for at in (self.checked, self.sent, self.ended)]
        words = (self.view, self.key, self.status, self.stage, self.pid, self.began, times)
        return "<%s %s: %s, stage %s, pid %s, began %.3f, then %s, %r>" % (words + (self.error,))


class Ledger(object):
    """All units of a scenario."""

    writing = ("transactional", "autocommitting", "twice")

    def __init__(self):
        self.units = []

    def unit(self, *arguments, **options):
        unit = Unit(*arguments, **options)
        self.units.append(unit)
        return unit

    def balance(self, cluster):
        """Return the keys that are lost, doubled, or present although their unit failed."""
        # Abandoned units may still end: only what was acknowledged before must be in the table.
        acknowledged = [u for u in self.units if u.view in self.writing and u.is_acknowledged]
        failed = [u for u in self.units if u.has_failed]
        rows = dict(cluster.query("SELECT name, count(*) FROM ledger GROUP BY name"))
        return {
            "lost": [u.key for u in acknowledged if u.key not in rows],
            "doubled": [u.key for u in self.units if rows.get(u.key, 0) > 1],
            "present": [u.key for u in failed if u.key in rows],
        }

    def visible(self):
        return [unit for unit in self.units if unit.is_visible]

    def hanging(self):
        return [unit for unit in self.units if unit.is_hanging]
