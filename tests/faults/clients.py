"""Threads that work as a web server's do: through Django's WSGI handler, one unit after the other."""

from __future__ import absolute_import

import random
import threading
import time
from functools import partial

import contenders
from support import wait_until

try:
    import queue
except ImportError:
    import Queue as queue

#: Seconds after which a unit of work is left alone, and its thread with it.
PATIENCE = 20


class Clients(object):
    """``with Clients(ledger, 4, idle=(0.05, 0.1)) as clients:`` they work as long as the block.

    Between two units they are idle for a time between two, or for what a function says. With as many
    ``aliases`` as threads each thread has a database alias for itself.
    """

    def __init__(
        self,
        ledger,
        threads=4,
        idle=None,
        views=("transactional",),
        most=None,
        aliases=("default",),
        **unit
    ):
        self.ledger, self.views, self.most = ledger, views, most
        self._idle = partial(random.uniform, *idle) if isinstance(idle, tuple) else idle
        self._unit, self._served = unit, []
        self._ended = threading.Event()
        self.threads = [
            threading.Thread(target=self._run, name="client", args=(aliases[n % len(aliases)],))
            for n in range(threads)
        ]

    def _run(self, alias):
        try:
            while not self._ended.is_set() and not self._have_done_all():
                unit = self.ledger.unit(random.choice(self.views), alias=alias, **self._unit).run()
                if unit.is_acknowledged:
                    self._served.append(unit)
                if self._idle is not None:
                    self._ended.wait(self._idle())
        finally:
            contenders.end_of_thread()

    def _have_done_all(self):
        return self.most is not None and len(self.ledger.units) >= self.most

    def __enter__(self):
        for thread in self.threads:
            thread.daemon = True
            thread.start()
        return self

    def __exit__(self, *exception):
        self._ended.set()
        end = time.time() + PATIENCE
        for thread in self.threads:
            thread.join(max(0, end - time.time()))
        for unit in self.ledger.units:
            unit.is_hanging = unit.is_hanging or unit.ended is None

    def have_served(self, more):
        """Return whether so many more units are acknowledged in time."""
        wanted = len(self._served) + more
        return wait_until(lambda: len(self._served) >= wanted, PATIENCE)

    def are_done(self):
        return not any(thread.is_alive() for thread in self.threads)


class Worker(object):
    """A thread that runs the units it is given. One that hangs is left alone."""

    def __init__(self):
        self._orders = queue.Queue()
        self.thread = threading.Thread(target=self._run, name="worker")
        self.thread.daemon = True
        self.thread.start()

    def _run(self):
        try:
            for unit, done in iter(self._orders.get, None):
                unit.run()
                done.set()
        finally:
            contenders.end_of_thread()

    def begin(self, unit):
        """Return an event that is set when the unit is done."""
        done = threading.Event()
        self._orders.put((unit, done))
        return done

    def end(self):
        self._orders.put(None)


class Workers(object):
    """``with Workers(ledger, 8) as workers:`` as many threads, each told what to do."""

    def __init__(self, ledger, threads=1):
        self.ledger = ledger
        self.workers = [Worker() for _ in range(threads)]

    def do(self, view="transactional", **unit):
        """Run a unit to its end, or to that of our patience."""
        return self.do_at_once(view, workers=[0], **unit)[0]

    def do_at_once(self, view="transactional", workers=None, **options):
        chosen = range(len(self.workers)) if workers is None else workers
        units = [self.ledger.unit(view, **options) for _ in chosen]
        events = [self.workers[n].begin(unit) for n, unit in zip(chosen, units)]
        end = time.time() + PATIENCE
        for number, unit, event in zip(chosen, units, events):
            if not event.wait(max(0, end - time.time())):
                unit.is_hanging, self.workers[number] = True, Worker()
        return units

    def at_once(self, view="transactional", then=None):
        """Have as many connections in use at once as there are threads; ``then()``. Return the
        units."""
        together, lock, ready = [], threading.Lock(), threading.Event()
        first = len(self.ledger.units)

        def wait_for_all():
            with lock:
                together.append(None)
                is_last = len(together) == len(self.workers)
            if is_last:
                if then is not None:
                    then()
                ready.set()
            # One that fails will never come.
            while not ready.wait(0.005) and not any(u.ended for u in self.ledger.units[first:]):
                pass

        return self.do_at_once(view, on_hold=wait_for_all)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers:
            worker.end()
        for worker in self.workers:
            worker.thread.join(0.5 if self.ledger.hanging() else 10)
