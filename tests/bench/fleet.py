"""All contenders of an environment, started and asked in the same way.

They take turns in slices of a fraction of a second, in a new random order each time: the machine's
other work affects all of them alike.
"""

import contextlib
import statistics
from collections import defaultdict

import contenders
import database
from processes import Failed, Gunicorn, Worker
from results import Results

ENGINES = {contenders.OLD: "django.db.backends.postgresql_psycopg2"}


def address(name, server, port):
    """The entry in an environment's DATABASES for a server at this port."""
    return {
        "ENGINE": ENGINES.get(name, server.engine),
        "NAME": database.NAME,
        "USER": database.USER,
        "PASSWORD": database.PASSWORD,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "OPTIONS": server.options,
    }


class Fleet:
    """The contenders of one environment. Those that fail are reported and left out."""

    def __init__(self, environment, server, package, random):
        self.environment, self.results = environment, Results()
        self._server, self._package, self._random = server, package, random
        self._rows = [row for row in contenders.of(environment.name) if self._is_installed(row)]

    def _is_installed(self, row):
        failure = self.environment.failure(row.requires)
        if failure:
            self.results.fail(row, "pip install", failure)
        return not failure

    def start(self, row, latency=0):
        """A contender's process, which may not be ready yet."""
        return Worker(self.environment.python, *self._where(row, latency))

    def serve(self, row, threads):
        """A contender's process behind gunicorn."""
        return Gunicorn(self.environment.python, *self._where(row), threads=threads)

    def _where(self, row, latency=0):
        port = self._port(row, latency)
        return row, address(self.environment.name, self._server, port), self._package

    def _port(self, row, latency):
        if row.through_pgbouncer:
            return self._server.through_pgbouncer(latency)
        return self._server.at(latency)

    @contextlib.contextmanager
    def running(self, start, what, **options):
        """A dict of the processes of all contenders. Those that fail are removed from it."""
        with contextlib.ExitStack() as stack:
            fleet = {}
            for row in self._rows:
                with self._noting(row, what, fleet):
                    fleet[row] = stack.enter_context(contextlib.closing(start(row, **options)))
            for row in list(fleet):
                with self._noting(row, what, fleet):
                    fleet[row].ready()
            yield fleet

    @contextlib.contextmanager
    def _noting(self, row, what, fleet=None):
        try:
            yield
        except (Failed, OSError) as error:
            self.results.fail(row, what, error)
            (fleet or {}).pop(row, None)

    def take_turns(self, what, fleet, passes, ask):
        """Note the median of each contender's slices. ``ask(process)`` returns values by metric."""
        taken = defaultdict(lambda: defaultdict(list))
        for _number in range(passes):
            for row in self._random.sample(list(fleet), len(fleet)):
                with self._noting(row, what, fleet):
                    for metric, value in ask(fleet[row]).items():
                        taken[metric][row].append(value)
        for metric, values in taken.items():
            medians = {row.name: statistics.median(values[row]) for row in fleet}
            self.results.add(metric, {row.name: medians.get(row.name) for row in self._rows})

    def alone(self, what, only=None, **order):
        """The answers of contenders, or of one, each started for this order only."""
        answers = {}
        for row in [only] if only else self._rows:
            with self._noting(row, what), contextlib.closing(self.start(row)) as process:
                process.ready()
                answers[row.name] = process.ask(do=what, **order)
        return answers
