"""Threads that work as a web server's do, through Django's WSGI handler, one unit after another."""

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

#: Seconds after which a unit of work counts as hanging, and its thread is abandoned.
PATIENCE = 20


class Clients(object):
    """``with Clients(ledger, 4, idle=(0.05, 0.1)) as clients:`` threads that work during the block.

    ``idle``: the range of the seconds between two units of a thread, or a function that returns
    them. With as many ``aliases`` as threads each thread has a database alias for itself.
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
        """Return whether ``more`` further units are acknowledged in time."""
        wanted = len(self._served) + more
        return wait_until(lambda: len(self._served) >= wanted, PATIENCE)

    def are_done(self):
        return not any(thread.is_alive() for thread in self.threads)


class Worker(object):
    """A thread that runs the units it is given. If it hangs, it is abandoned."""

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
    """``with Workers(ledger, 8) as workers:`` eight threads that run the units they are given."""

    def __init__(self, ledger, threads=1):
        self.ledger = ledger
        self.workers = [Worker() for _ in range(threads)]

    def do(self, view="transactional", **unit):
        """Run a unit until it ends or PATIENCE is over."""
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
        """Have all threads use a connection at once, then call ``then()``. Return the units."""
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
            # A unit that fails never comes here.
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
