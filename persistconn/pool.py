"""The connections of this process, by database. Knows neither Django nor a driver.

The words are SQLAlchemy's and HikariCP's: connections are acquired, released and discarded, and an
Entry is one physical connection with what must be known of it. Decisions are taken under the
lock; connections are closed outside it.
"""

from __future__ import absolute_import

import collections
import logging
import os
import random
import threading
import weakref

from persistconn import compat

logger = logging.getLogger("persistconn")

#: Connections opened together live up to this share shorter, so that they do not expire together.
JITTER = 0.05


#: The states of an entry. One that is gone is not on the pool's account any more.
IN_USE, IDLE, GONE = "in use", "idle", "gone"


class Entry(object):
    """One physical connection, for as long as it is open.

    While a wrapper closes, the entry stands in for the raw connection, which stays open: its
    ``close()`` does nothing, and what else a backend's own close() asks goes to the connection.
    """

    __slots__ = (
        "raw driver pool pid state generation opened_at jitter used_at poll flags suspect doom"
        " carried __weakref__"
    ).split()

    def __init__(self, raw, driver, pool):
        self.raw = raw
        self.driver = driver
        self.pool = pool
        self.pid = os.getpid()
        self.state = IN_USE
        self.generation = None
        self.opened_at = self.used_at = compat.monotonic()
        self.jitter = 1 - JITTER * random.random()
        self.poll = _poll_of(driver.fileno(raw))
        self.flags = driver.flags(raw)
        self.suspect = False  # it must answer SELECT 1 before it is handed out again
        self.doom = None  # the reason why it is not to be kept
        self.carried = {}  # what Django noted on the wrapper when it opened the connection

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def close(self):
        pass

    def outlived(self, max_age, now):
        return max_age is not None and now - self.opened_at >= max_age * self.jitter

    def is_inherited(self):
        """Whether it belongs to the process that this one was forked from."""
        return self.pid != os.getpid()


def _poll_of(fd):
    return compat.poller(fd) if fd is not None else list


class Pool(object):
    """The connections to one database. The last one released is acquired first, so that those
    which a quiet time does not need grow old."""

    def __init__(self, keeping=True):
        self.aliases = set()
        self._lock = threading.Lock()
        self._keeping = keeping
        self._generation = 0
        self._idle = []
        # Weak references: a connection whose owner is gone must not stay open on our account.
        self._known = set()
        self._lost = collections.deque()
        self._opened = self._reused = 0
        self._discarded = collections.defaultdict(int)

    def __repr__(self):
        stats = self.stats()
        numbers = "%d in use, %d idle" % (stats["in_use"], stats["idle"])
        return "<Pool of %s: %s>" % (", ".join(sorted(list(self.aliases))), numbers)

    def add(self, raw, driver):
        """Take a connection that was opened just now into account. It is in use."""
        entry = Entry(raw, driver, self)
        with self._lock:
            entry.generation = self._generation
            self._opened += 1
            self._known.add(weakref.ref(entry, self._lost.append))
        logger.debug("%s: opened a connection", self)
        return entry

    def acquire(self, find_fault):
        """Return an idle entry in which ``find_fault(entry)`` finds none, or None.

        Those with a fault, the reason it returns, are discarded.
        """
        while True:
            with self._lock:
                if not self._idle:
                    return None
                entry = self._idle.pop()
                entry.state = IN_USE
                self._reused += 1
            fault = find_fault(entry)
            if fault is None:
                return entry
            with self._lock:
                self._reused -= 1
            self.discard(entry, fault)

    def release(self, entry):
        """Take an entry back: keep it, or close it if it is doomed or not to be kept any more."""
        with self._lock:
            wanted = self._keeping and entry.generation == self._generation
            if wanted and entry.doom is None:
                entry.state = IDLE
                self._idle.append(entry)
                return
        self.discard(entry, entry.doom or "closed by caller")

    def discard(self, entry, reason):
        """Close an entry that is in use, and count it under its reason."""
        self.forget(entry, reason)
        if entry.is_inherited():
            entry.driver.abandon(entry.raw)
        else:
            entry.driver.close(entry.raw)

    def forget(self, entry, reason):
        """Count an entry as discarded that somebody else closes."""
        with self._lock:
            if entry.state == GONE:
                return
            entry.state = GONE
            self._known.discard(weakref.ref(entry))
            self._discarded[reason] += 1
        logger.debug("%s: discarded a connection: %s", self, reason)

    def drain(self):
        """Close all idle connections now, and those in use when they are released."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for entry in idle:
            self.discard(entry, "closed by caller")

    def keep(self, keeping):
        """Whether connections are kept from now on. If not, the idle ones are closed, and those in
        use are left to their users to close."""
        self._keeping = keeping
        if not keeping:
            self.drain()
            for entry in [ref() for ref in list(self._known)]:
                if entry is not None:
                    self.forget(entry, "closed by caller")

    def inherit(self, parents):
        """Let go of what lay idle in the pool of the process that this one was forked from."""
        self.aliases = parents.aliases
        for entry in parents._idle:
            entry.driver.abandon(entry.raw)
            self._discarded["fork"] += 1
        parents._idle = []

    def stats(self):
        """Return the counts of this pool as plain data."""
        with self._lock:
            self._count_lost()
            return {
                "opened": self._opened,
                "reused": self._reused,
                "idle": len(self._idle),
                "in_use": len(self._known) - len(self._idle),
                "discarded": dict(self._discarded),
            }

    def _count_lost(self):
        while self._lost:
            self._known.discard(self._lost.popleft())
            self._discarded["lost"] += 1


class Pools(object):
    """The pools of this process by key. A forked child begins with pools of its own."""

    def __init__(self):
        self._keeping = False
        self._start_afresh()

    def _start_afresh(self):
        self._lock = threading.Lock()
        self._by_key = {}
        self._pid = os.getpid()

    def find(self, key):
        """Return the pool for a key, or None."""
        self._leave_the_parent_its_own()
        return self._by_key.get(key)

    def find_or_add(self, key, alias):
        pool = self.find(key)
        if pool is None:
            with self._lock:
                pool = self._by_key.setdefault(key, Pool(self._keeping))
        pool.aliases.add(alias)
        return pool

    def all(self):
        self._leave_the_parent_its_own()
        with self._lock:
            return list(self._by_key.values())

    def keep(self, keeping):
        """Whether released connections are kept, in all pools, from now on."""
        self._keeping = keeping
        for pool in self.all():
            pool.keep(keeping)

    def _leave_the_parent_its_own(self):
        # Without a lock: a child starts with one thread, and an inherited lock may be held for
        # ever by a thread that only the parent has.
        if self._pid == os.getpid():
            return
        inherited = self._by_key
        self._start_afresh()
        for key, parents in inherited.items():
            self._by_key[key] = Pool(self._keeping)
            self._by_key[key].inherit(parents)
