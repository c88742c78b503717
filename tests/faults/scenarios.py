"""A scenario: a fault, how often it strikes, the outcome of the work, and what is expected."""

from __future__ import absolute_import

import contextlib
import sys
import time

import clients
import contenders
import support
from ledger import Ledger

#: Seconds that a fault is repeated for contenders that recover slowly.
ENOUGH = 8

full = False
cluster = None
#: The rows of the table, in the order of the tests.
rows = []


def number(of_all):
    """How many faults to inject: all, or in the short form a tenth."""
    return of_all if full else max(1, of_all // 10)


def repeat(of_all):
    """Yield so many turns.

    Contenders other than persistconn may hang or sleep: for them it ends after ENOUGH seconds.
    """
    began = time.time()
    for turn in range(number(of_all)):
        if not is_enough(began):
            yield turn


def is_enough(began):
    return not contenders.is_ours() and time.time() - began > ENOUGH


class Scenario(object):
    """``with Scenario("fault") as scenario:`` counts ``injected`` faults, and has a ledger."""

    #: The cluster that has the ledger's table, if not the usual one.
    cluster = None

    def __init__(self, fault):
        self.fault, self.injected, self.note = fault, 0, ""
        self.ledger = Ledger()
        #: The units whose times the table shows; None: all.
        self.timed = None
        self.complaints = []

    def require(self, fulfilled, *words):
        """Require what persistconn promises. For other contenders the outcome is only recorded."""
        if contenders.is_ours() and not fulfilled:
            self.complaints.append(" ".join(str(word) for word in words))

    def require_success(self, units=None):
        for unit in self.ledger.units if units is None else units:
            self.require(unit.is_acknowledged, "not served:", unit)

    def require_in_use(self, faults):
        """Require that errors hit only units whose session was in use when a fault struck."""
        visible = self.ledger.visible()
        hit = [unit for unit in visible if faults.hit_in_use(unit)]
        self.note = "%d in use" % len(hit)
        for unit in visible:
            self.require(unit in hit, "its session was not in use:", unit)

    def require_within(self, seconds, units):
        """Require that the units took no longer, and show their times in the table."""
        self.timed = (self.timed or []) + list(units)
        for unit in units:
            self.require(unit.seconds <= seconds, "longer than %.3f s:" % seconds, unit)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        contenders.close_all()
        if kind is not None:
            self.complaints.append("%s: %s" % (kind.__name__, error))
        row = self._row()
        rows.append(row)
        for unit in self.ledger.hanging():
            self.require(False, "a unit of work hangs:", unit)
        for what in ("lost", "doubled", "present"):
            self.require(not row[what], row[what], "rows are", what)
        row["passed"] = not self.complaints
        if kind is None and self.complaints:
            more = len(self.complaints) - 10
            text = "\n".join(self.complaints[:10] + ["and %d more" % more] * (more > 0))
            raise AssertionError("%s, injected %d:\n%s" % (self.fault, self.injected, text))

    def _row(self):
        server = self.cluster or cluster
        server.ensure_it_is_up()
        balance = self.ledger.balance(server)
        row = dict((what, len(keys)) for what, keys in balance.items())
        timed = self.ledger.units if self.timed is None else self.timed
        answered = [unit.seconds for unit in timed if unit.ended]
        row.update(fault=self.fault, injected=self.injected, note=self.note)
        row.update(units=len(self.ledger.units), visible=len(self.ledger.visible()))
        row.update(hanging=len(self.ledger.hanging()), worst=max(answered or [0]))
        return row


@contextlib.contextmanager
def through(server, **options):
    """Let the clients connect to ``server``, with these OPTIONS."""
    with support.database_as(
        HOST=server.host, PORT=str(server.port), OPTIONS=contenders.options(**options)
    ):
        try:
            yield server
        finally:
            contenders.close_all()


@contextlib.contextmanager
def settings(**values):
    """Set PERSISTCONN_ settings, which are given by their names without that prefix."""
    values = dict(("PERSISTCONN_" + name, value) for name, value in values.items())
    with support.settings_as(**values):
        yield


def seconds_to_connect():
    """The seconds that one connection takes to open here and now: the median of several."""
    times = []
    for _ in range(9):
        began = time.time()
        cluster.connect().close()
        times.append(time.time() - began)
    return sorted(times)[4]


def table():
    """The rows as lines of text."""
    heads = ["injected", "units", "visible", "lost", "doubled", "present"]
    line = "%-56s" + "%9s" * len(heads) + "%10s  %s"
    lines = [line % tuple(["fault"] + heads + ["worst", ""])]
    for row in rows:
        worst = "> %d s" % clients.PATIENCE if row["hanging"] else "%.3f s" % row["worst"]
        end = [worst, row["note"] + ("" if row["passed"] else " FAILED")]
        lines.append(line % tuple([row["fault"]] + [row[head] for head in heads] + end))
    return lines


def versions():
    import django

    chosen = support.chosen
    words = (sys.version.split()[0], django.get_version(), chosen.driver.__name__)
    words += (
        chosen.DRIVER_VERSION.split()[0],
        cluster.name,
        cluster.ask(chosen.VERSION).split()[0],
    )
    return "Python %s, Django %s, %s %s, %s %s" % words
