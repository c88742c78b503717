"""The pools of this process by database, what a fork makes of them, and who closes idle ones."""

from __future__ import absolute_import

import threading

from persistconn import compat
from persistconn.fork import PerProcess
from persistconn.pool import Pool


class Pools(object):
    """The pools of this process by key. A forked child begins with pools of its own."""

    def __init__(self):
        self._keeping = False
        self._process = PerProcess(_OfProcess, self._leave_the_parent_its_own)

    def begin(self):
        """Let go of a parent's connections now, in a child that was just forked."""
        self._process.get()

    def find_or_add(self, key, alias):
        mine = self._process.get()
        pool = mine.by_key.get(key)
        if pool is None:
            with mine.lock:
                pool = mine.by_key.setdefault(key, Pool(key, self._keeping))
        if alias not in pool.aliases:
            pool.aliases.add(alias)
        return pool

    def all(self):
        mine = self._process.get()
        with mine.lock:
            return list(mine.by_key.values())

    def keep(self, keeping):
        """Whether released connections are kept, in all pools, from now on."""
        self._keeping = keeping
        for pool in self.all():
            pool.keep(keeping)

    def drain(self):
        """Close all idle connections now, and those in use when their work ends."""
        for pool in self.all():
            pool.drain()

    def stats(self):
        """Return the counts by alias, as plain data, of those that ever had a connection."""
        by_alias = {}
        for pool in self.all():
            numbers = pool.stats()
            if numbers["opened"] or numbers["discarded"]:
                for alias in list(pool.aliases):
                    _add_up(by_alias.setdefault(alias, {"discarded": {}}), numbers)
        return by_alias

    def expire(self):
        """Close what was idle too long. Return the seconds until the next is, or None."""
        waits = [pool.expire() for pool in self.all()]
        waits = [seconds for seconds in waits if seconds is not None]
        return min(waits) if waits else None

    def _leave_the_parent_its_own(self, mine, parents):
        for key, pool in list(parents.by_key.items()):
            mine.by_key.setdefault(key, Pool(key, self._keeping)).inherit(pool)


class _OfProcess(object):
    def __init__(self):
        self.lock = threading.Lock()
        self.by_key = {}


def _add_up(total, numbers):
    for name, number in numbers.items():
        if isinstance(number, dict):
            _add_up(total[name], number)
        else:
            total[name] = total.get(name, 0) + number


class Housekeeper(object):
    """A thread that closes what was idle longer than MAX_IDLE, while there is something to watch."""

    def __init__(self, pools):
        self._pools = pools
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._running = False

    def wanted(self):
        """Some connection is idle that must not be so for ever."""
        with self._lock:
            self._wanted.set()
            if not self._running:
                # Without a thread they are closed at their next use.
                self._running = compat.start_thread(self._run)

    def _run(self):
        seconds = 0
        while self._goes_on(seconds):
            seconds = self._pools.expire()
            if seconds is not None:
                self._wanted.wait(max(seconds, 0.01))

    def _goes_on(self, seconds):
        with self._lock:
            self._running = seconds is not None or self._wanted.is_set()
            self._wanted.clear()
            return self._running
