"""The pools of this process by database, what a fork makes of them, and who closes idle ones."""

from __future__ import absolute_import

import threading

from persistconn import compat
from persistconn.pool import Pool


class Pools(object):
    """The pools of this process by key. A forked child begins with pools of its own."""

    def __init__(self):
        self._keeping = False
        self._start_afresh()

    def _start_afresh(self):
        self._lock = threading.Lock()
        self._by_key = {}
        self._pid = compat.getpid()

    def find(self, key):
        """Return the pool for a key, or None."""
        self.leave_the_parent_its_own()
        return self._by_key.get(key)

    def find_or_add(self, key, alias):
        pool = self.find(key)
        if pool is None:
            with self._lock:
                pool = self._by_key.setdefault(key, Pool(key, self._keeping))
        if alias not in pool.aliases:
            pool.aliases.add(alias)
        return pool

    def all(self):
        self.leave_the_parent_its_own()
        with self._lock:
            return list(self._by_key.values())

    def keep(self, keeping):
        """Whether released connections are kept, in all pools, from now on."""
        self._keeping = keeping
        for pool in self.all():
            pool.keep(keeping)

    def leave_the_parent_its_own(self):
        """Begin anew if this is a forked child. Called at each fork, or else at each use."""
        # Without a lock: a child starts with one thread, and an inherited lock may be held for
        # ever by a thread that only the parent has.
        if self._pid == compat.getpid():
            return
        inherited = self._by_key
        self._start_afresh()
        for key, parents in inherited.items():
            self._by_key[key] = Pool(key, self._keeping)
            self._by_key[key].inherit(parents)

    def expire(self):
        """Close what was idle too long. Return the seconds until the next is, or None."""
        waits = [pool.expire() for pool in self.all()]
        waits = [seconds for seconds in waits if seconds is not None]
        return min(waits) if waits else None


class Housekeeper(object):
    """A thread that closes what was idle longer than MAX_IDLE, while there is something to watch."""

    def __init__(self, pools):
        self._pools = pools
        self._start_afresh()

    def _start_afresh(self):
        self._pid = compat.getpid()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._running = False

    def wanted(self):
        """Some connection is idle that must not be so for ever."""
        if self._pid != compat.getpid():
            # A forked child has no such thread, and perhaps a lock that nobody will release.
            self._start_afresh()
        with self._lock:
            self._wanted.set()
            if not self._running:
                self._running = True
                thread = threading.Thread(target=self._run, name="persistconn housekeeper")
                thread.daemon = True
                thread.start()

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
