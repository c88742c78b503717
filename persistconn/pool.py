"""The connections to one database. Knows neither Django nor a driver.

The words are SQLAlchemy's and HikariCP's: connections are acquired, released and discarded.
Decisions are taken under the lock; connections are closed outside it.
"""

from __future__ import absolute_import

import collections
import logging
import threading
import weakref

from persistconn import compat
from persistconn.entry import GONE, IDLE, IN_USE, Entry
from persistconn.gate import Gate

logger = logging.getLogger("persistconn")

#: The reasons to discard one that can be true of all others, too.
LOSSES = frozenset(["dead", "check failed", "read only"])

#: Seconds after which a waiting thread looks for connections whose owners are gone.
SLICE = 0.5


class Exhausted(Exception):
    """No connection became free in time."""


class Waiter(object):
    """A thread that waits for an entry, whose turn comes in the order of arrival."""

    def __init__(self, max_conns):
        self.max_conns = max_conns
        self.entry = None
        self.event = threading.Event()

    def give(self, entry):
        self.entry = entry
        self.event.set()


class Pool(object):
    """The connections to one database. The last one released is acquired first, so that those
    which a quiet time does not need grow old.

    The entries that it knows are its slots. It knows them weakly: one that everybody has lost, by
    an error at whatever point, is not held against the bound.
    """

    def __init__(self, key=None, keeping=True):
        self.key = key
        self.aliases = set()
        self.gate = Gate()
        self.losses = 0
        self._lock = threading.Lock()
        self._keeping = keeping
        self._generation = 0
        self._idle = []
        self._max_idle = None
        self._waiters = collections.deque()
        self._known = set()
        self._lost = collections.deque()
        self._opened = self._reused = 0
        self._wait_seconds = 0.0
        self._discarded = collections.defaultdict(int)

    def __repr__(self):
        stats = self.stats()
        numbers = "%(in_use)d in use, %(idle)d idle, %(waiting)d waiting" % stats
        return "<Pool of %s: %s>" % (", ".join(sorted(list(self.aliases))), numbers)

    def acquire(self, find_fault, max_conns=None, timeout=0):
        """Return an idle entry in which ``find_fault(entry)`` finds none, or a new one to open.

        Those with a fault, the reason it returns, are discarded. A new one has no raw connection
        yet and is CONNECTING: ``opened()`` or ``forget()`` it. With ``max_conns`` entries in use it
        waits up to ``timeout`` seconds, and raises Exhausted.
        """
        # Not by ``with``, which is twice as dear where it matters, here and in release().
        self._lock.acquire()
        try:
            # Whoever waits has been served before: nothing is free while somebody does.
            if self._lost:
                self._look_for_lost()
            entry = self._free_one(max_conns)
        finally:
            self._lock.release()
        if entry is None:
            entry = self._wait(max_conns, timeout)
        while entry.raw is not None:
            fault = find_fault(entry)
            if fault is None:
                break
            entry = self._exchange(entry, fault)
        return entry

    def _free_one(self, max_conns):
        if self._idle:
            entry = self._idle.pop()
            entry.state = IN_USE
            self._reused += 1
        elif max_conns is None or len(self._known) < max_conns:
            entry = self._new_slot()
        else:
            entry = None
        return entry

    def _new_slot(self):
        entry = Entry(self, self._generation)
        self._known.add(weakref.ref(entry, self._lost.append))
        return entry

    def _exchange(self, entry, fault):
        """Discard a faulty entry for another idle one, or for its own slot with nothing in it."""
        self._close(entry)
        with self._lock:
            self._reused -= 1
            self._count_discarded(entry, fault)
            # Whoever has waited for one answer in vain is not made to wait for the next.
            other = self._new_slot() if fault == "check failed" else self._free_one(None)
            self._serve_waiters()
        return other

    def _wait(self, max_conns, timeout):
        waiter, began = Waiter(max_conns), compat.monotonic()
        with self._lock:
            self._waiters.append(waiter)
            self._serve_waiters()
        try:
            waited = self._wait_for(waiter, began, timeout)
        except BaseException:
            self._give_up(waiter)
            if waiter.entry is not None:
                self.release(waiter.entry, max_idle=self._max_idle)
            raise
        self._give_up(waiter, waited)
        if waiter.entry is None:
            raise Exhausted(waited)
        return waiter.entry

    def _wait_for(self, waiter, began, timeout):
        waited = 0
        while waiter.entry is None and waited < timeout:
            waiter.event.wait(min(timeout - waited, SLICE))
            with self._lock:
                self._look_for_lost()
            waited = compat.monotonic() - began
        return waited

    def _give_up(self, waiter, waited=0):
        with self._lock:
            self._wait_seconds += waited
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _serve_waiters(self):
        while self._waiters:
            entry = self._free_one(self._waiters[0].max_conns)
            if entry is None:
                break
            self._waiters.popleft().give(entry)

    def add(self):
        """Return a slot for a connection that somebody has opened already, whatever the bound."""
        with self._lock:
            return self._new_slot()

    def count_opened(self, entry):
        with self._lock:
            entry.state = IN_USE
            self._opened += 1
        logger.debug("%s: opened a connection", self)

    def release(self, entry, max_kept=None, max_idle=None):
        """Take an entry back: keep it, or close it if it is doomed or not to be kept any more."""
        self._lock.acquire()
        try:
            self._max_idle = max_idle
            reason = entry.doom or self._why_not_keep(entry, max_kept)
            if reason is None:
                entry.state = IDLE
                self._idle.append(entry)
                if self._waiters:
                    self._serve_waiters()
                return
        finally:
            self._lock.release()
        self.discard(entry, reason)

    def _why_not_keep(self, entry, max_kept):
        if entry.state != IN_USE or entry.generation != self._generation or not self._keeping:
            return "closed by caller"
        if max_kept is not None and len(self._idle) >= max_kept and not self._waiters:
            return "surplus"
        return None

    def discard(self, entry, reason):
        """Close an entry that is in use, and count it under its reason."""
        # Closed first: a slot is not free before its connection is.
        self._close(entry)
        self.forget(entry, reason)

    def _close(self, entry):
        if entry.raw is None:
            return
        if entry.is_inherited():
            entry.driver.abandon(entry.raw)
        else:
            entry.driver.close(entry.raw)

    def forget(self, entry, reason):
        """Free the slot of an entry that somebody else closes, or that was never opened."""
        with self._lock:
            self._count_discarded(entry, reason)
            self._serve_waiters()
        logger.debug("%s: discarded a connection: %s", self, reason)

    def _count_discarded(self, entry, reason):
        if entry.state != GONE:
            self._known.discard(weakref.ref(entry))
            if entry.raw is not None:
                self._discarded[reason] += 1
                if reason in LOSSES:
                    self.losses += 1
            entry.state = GONE

    def drain(self):
        """Close all idle connections now, and those in use when they are released."""
        with self._lock:
            self._generation += 1
            idle, self._idle = self._idle, []
        for entry in idle:
            self.discard(entry, "closed by caller")

    def expire(self):
        """Close what has been idle for ``max_idle``. Return the seconds until the next, or None."""
        now = compat.monotonic()
        with self._lock:
            if self._max_idle is None:
                return None
            expired = [entry for entry in self._idle if now - entry.used_at >= self._max_idle]
            self._idle = [entry for entry in self._idle if entry not in expired]
            oldest = min([entry.used_at for entry in self._idle] or [None])
            wait = None if oldest is None else oldest + self._max_idle - now
        for entry in expired:
            self.discard(entry, "idle")
        return wait

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
        """Let go of the connections of the process that this one was forked from.

        Those in use are only detached: a thread that this process does not have may have had their
        locks. Whoever holds one here finds out what it is.
        """
        self.aliases |= parents.aliases
        parents._idle, idle = [], parents._idle
        for entry in idle:
            entry.driver.abandon(entry.raw)
            self._discarded["fork"] += 1
        for entry in [ref() for ref in parents._known]:
            if entry is not None and entry.state == IN_USE:
                entry.driver.detach(entry.raw)

    def stats(self):
        """Return the counts of this pool as plain data."""
        with self._lock:
            self._look_for_lost()
            return {
                "opened": self._opened,
                "reused": self._reused,
                "idle": len(self._idle),
                "in_use": len(self._known) - len(self._idle),
                "waiting": len(self._waiters),
                "wait_seconds": self._wait_seconds,
                "discarded": dict(self._discarded),
            }

    def _look_for_lost(self):
        while self._lost:
            self._known.discard(self._lost.popleft())
            self._discarded["lost"] += 1
        self._serve_waiters()
