"""The connections to one database. Knows neither Django nor a driver.

The words are SQLAlchemy's and HikariCP's: connections are acquired, released and discarded.

There is no lock. A signal handler, a destructor or an exception of another thread's making
(Ctrl-C, a time limit) can come between any two steps, and a lock would then be held for ever, or
be wanted by its own holder. Instead each step is one operation of a list, deque or dict, which
CPython does not interrupt, with or without the GIL. Two rules keep the steps together:

* A thread that changes something looks for waiters afterwards, and a waiter tries again after it
  has queued. One of them sees the other.
* An entry that is nowhere, because its thread was interrupted while it held it, dies; a weak
  reference frees its slot.
"""

from __future__ import absolute_import

import collections
import logging
import threading
import weakref

from persistconn import compat
from persistconn.entry import Entry
from persistconn.gate import Gate

logger = logging.getLogger("persistconn")

#: The reasons to discard one connection that can be true of all others, too.
LOSSES = frozenset(["dead", "check failed", "read only"])

#: Seconds after which a waiting thread looks again, in case a release was interrupted.
SLICE = 0.5


class Exhausted(Exception):
    """No connection became free in time."""


class Slot(object):
    """The right to one open connection. It lasts as long as the connection, whoever holds that."""

    __slots__ = (
        "pool",
        "driver",
        "is_taken",
        "is_open",
        "is_counted",
        "reused",
        "_entry",
        "_watched",
    )

    def __init__(self, pool):
        self.pool = pool
        self.is_taken = False  # whether it is within the bound
        self.is_open = False  # whether its connection has been counted as opened
        self.is_counted = False  # whether its end has been counted under a reason
        self.reused = 0
        self._entry = self._watched = None

    def give_to(self, entry):
        """Be an entry's, and be freed when the last reference to it is gone, unless it is opened."""
        self._entry = weakref.ref(entry)
        self._watch(entry)

    def has_entry(self):
        """Whether its entry lives, in a lease, in the pool, or in the hands of a thread."""
        return self._entry() is not None

    def is_idle(self):
        entry = self._entry()
        return entry is not None and entry.is_idle

    def _watch(self, entry_or_raw):
        self._watched = weakref.ref(entry_or_raw, self._lost)

    def _lost(self, reference):
        # A thread inside has_ended() can keep the reference to what the slot had before alive.
        if reference is self._watched:
            self.pool.on_lost(self)

    def unwatch(self):
        self._watched = None  # its callback refers to this slot

    def filled(self, entry):
        """Note that the connection of its entry is open now."""
        self.driver = entry.driver
        try:
            # A cursor in another thread may outlive the entry, and the session with it.
            self._watch(entry.raw)
        except TypeError:
            pass  # the driver's connections cannot be referenced weakly
        if not self.is_open:
            self.is_open = True
            self.pool.opened(self)

    def has_ended(self):
        """Whether its connection is gone, or is closed and only referred to by its last user."""
        # Read once: another thread may unwatch this slot. Read again: or give it to another entry.
        reference = self._watched
        watched = None if reference is None else reference()
        if watched is None:
            return reference is None or reference is self._watched
        raw = raw_of(watched) if self.is_counted else None
        return raw is not None and self.driver.is_closed(raw)

    def raw(self):
        """Return the connection, or None while it is not open, or is no more."""
        reference = self._watched  # read once, as above
        return None if reference is None else raw_of(reference())


def raw_of(watched):
    return watched.raw if isinstance(watched, Entry) else watched


class Waiter(object):
    """A thread that waits for an entry. Waiters are served in the order of arrival."""

    def __init__(self, max_conns):
        self.max_conns = max_conns
        self.ref = weakref.ref(self)
        self._outcome = {}
        self._bell = threading.Lock()
        self._bell.acquire()

    def give(self, entry):
        """Hand over an entry. Return False if the waiter has gone."""
        given = self._outcome.setdefault("entry", entry) is entry
        if given:
            self._bell.release()
        return given

    def wait(self, seconds):
        """Return the entry once there is one, or None after so many seconds."""
        compat.acquire(self._bell, seconds)
        return self._outcome.get("entry")

    def go(self):
        """Take no entry from now on. Return the one that has come, or None."""
        return self._outcome.setdefault("entry", None)


class Nobody(object):
    """Stands in for the housekeeper of a pool that needs none."""

    is_running = True


NOBODY = Nobody()


class Pool(object):
    """The connections to one database. The last one released is acquired first, so that the
    connections that a quiet time does not need grow old.
    """

    is_retired = False  # no wrapper uses it any more, and the registry has forgotten it

    def __init__(self, key=None, alias=None, keeping=True, housekeeper=NOBODY):
        self.key = key
        self.alias = alias
        self.gate = Gate()
        self.losses = 0
        self.users = set()  # weak references to the databases that lead here
        self.noted = set()  # names of the attributes that opening sets on wrappers
        self._keeping = keeping
        self._housekeeper = housekeeper
        self.generation = 0
        self._idle = []
        self._waiters = collections.deque()  # weak references, in the order of arrival
        self._slots = []
        self._opened = self._reused = 0
        self._wait_seconds = 0.0
        self._discarded = collections.defaultdict(int)

    def __repr__(self):
        numbers = "%(in_use)d in use, %(idle)d idle, %(waiting)d waiting" % self.stats()
        return "<Pool of %s: %s>" % (self.alias, numbers)

    def acquire(self, find_fault, max_conns=None, timeout=0):
        """Return an idle entry in which ``find_fault(entry)`` finds none, or a new one to open.

        An entry with a fault, which is the reason that it returns, is discarded. A new entry has no
        raw connection: call its ``opened()``, or ``forget()`` it. With ``max_conns`` entries in use
        it waits up to ``timeout`` seconds, and raises Exhausted.
        """
        entry = None if self._waiters else self._take(max_conns)
        if entry is None:
            entry = self._wait(max_conns, timeout)
        while entry.raw is not None:
            try:
                fault = find_fault(entry)
            except BaseException:
                self.discard(entry, "error")
                raise
            if fault is None:
                entry.slot.reused += 1
                break
            entry = self._exchange(entry, fault)
        return entry

    def _take(self, max_conns):
        try:
            entry = self._idle.pop()
        except IndexError:
            return self._new_entry(max_conns)
        entry.is_idle = False
        return entry

    def _new_entry(self, max_conns=None):
        slot = Slot(self)
        entry = Entry(self, slot, self.generation)
        self._slots.append(slot)
        # Of two threads that come at once, the slot that was appended first has the place.
        if max_conns is not None and self._slots.index(slot) >= max_conns:
            self._slots.remove(slot)
            return None
        slot.is_taken = True
        return entry

    def _exchange(self, entry, fault):
        """Discard an entry for another idle one, or for a new one in its slot."""
        entry.close()
        self._count(fault)
        try:
            # After one failed ping a new connection is opened, instead of a ping of another.
            other = None if fault == "check failed" else self._idle.pop()
        except IndexError:
            other = None
        if other is None:
            entry.slot.is_open = False
            return Entry(self, entry.slot, self.generation)
        other.is_idle = False
        self._free(entry.slot)
        return other

    def _wait(self, max_conns, timeout):
        waiter, began, waited = Waiter(max_conns), compat.monotonic(), 0
        try:
            while self._is_waiting(waiter, min(timeout - waited, SLICE)) and waited < timeout:
                waited = compat.monotonic() - began
            waited = compat.monotonic() - began
            self._stop_waiting(waiter, waited)
            entry = waiter.go()
        except BaseException:
            entry = waiter.go()
            _remove(self._waiters, waiter.ref)
            self._put_back(entry)
            raise
        if entry is None:
            raise Exhausted(waited)
        return entry

    def _is_waiting(self, waiter, seconds):
        """Wait for so many seconds. Return whether there is no entry yet."""
        # A thread that was about to serve it may have been interrupted.
        if waiter.ref not in self._waiters:
            self._waiters.append(waiter.ref)
        self._free_ended()
        self._serve_waiters()
        return waiter.wait(max(0, seconds)) is None

    def _stop_waiting(self, waiter, waited):
        _remove(self._waiters, waiter.ref)
        self._wait_seconds += waited

    def _serve_waiters(self):
        entry = None
        while self._waiters:
            try:
                ref = self._waiters[0]
            except IndexError:
                break
            waiter = ref()
            if waiter is None:  # it was interrupted
                _remove(self._waiters, ref)
                continue
            entry = entry or self._take(waiter.max_conns)
            if entry is None:
                return
            if _remove(self._waiters, ref) and waiter.give(entry):
                entry = None
        self._put_back(entry)

    def _put_back(self, entry):
        if entry is None:
            return
        if entry.raw is None:
            self.forget(entry, "error")
        else:
            self.release(entry)

    def add(self, slot=None):
        """Return an entry for a connection that is open already, whatever the bound.

        ``slot``: the one that it has, if it has lost its entry.
        """
        return self._new_entry() if slot is None else Entry(slot.pool, slot, slot.pool.generation)

    def opened(self, slot):
        if slot not in self._slots:
            self._slots.append(slot)  # another thread took it for one that was given up
        self._opened += 1
        logger.debug("%s: opened a connection", self)

    def release(self, entry, max_kept=None):
        """Take an entry back: keep it, or close it if it is doomed or not to be kept any more."""
        if entry.is_idle:
            return  # given back twice; another thread may have it at any moment
        reason = entry.doom
        if reason is None and (entry.generation != self.generation or not self._keeping):
            reason = "closed by caller"
        if max_kept is not None and len(self._idle) >= max_kept and not self._waiters:
            reason = reason or "surplus"
        if reason is not None:
            return self.discard(entry, reason)
        entry.is_idle = True
        self._idle.append(entry)
        if self._waiters:
            self._serve_waiters()
        if entry.generation != self.generation:
            self._close_idle(self._is_drained)
        if max_kept is not None and len(self._idle) > max_kept:
            self._close_surplus(max_kept)
        if not self._housekeeper.is_running and entry.can_expire():
            self._housekeeper.start()

    def _close_surplus(self, max_kept):
        # Several threads released at the same moment.
        for entry in list(self._idle)[: -max_kept or None]:
            if len(self._idle) > max_kept and _remove(self._idle, entry):
                self.discard(entry, "surplus")

    def discard(self, entry, reason):
        """Close an entry that is in use, and count it under its reason."""
        try:
            # Closed first: a slot is not free before its connection is.
            entry.close()
        finally:
            self.forget(entry, reason)

    def forget(self, entry, reason):
        """Free the slot of an entry that somebody else closes, or that was never opened."""
        # One of the process that this one was forked from has no slot here.
        if (self._free(entry.slot) or entry.is_inherited()) and entry.raw is not None:
            self._count(reason)
        if self._waiters:
            self._serve_waiters()

    def let_go(self, entry, reason):
        """Leave an entry's connection to the thread that may be inside it.

        Its slot is freed when that thread has seen its end, or has dropped it.
        """
        entry.slot.is_counted = True
        self._count(reason)

    def on_lost(self, slot):
        # A destructor may run anywhere, so no waiter is served here.
        if self._free(slot) and not slot.is_counted:
            self._discarded["lost"] += 1

    def _free_ended(self):
        # Also what on_lost() could not do, because an exception interrupted it.
        for slot in list(self._slots):
            if slot.has_ended():
                self.on_lost(slot)

    def _free(self, slot):
        """Return False if the slot was free already."""
        try:
            # Not by _remove(), which Python 2 has cleared when the last connections go at its exit.
            self._slots.remove(slot)
        except ValueError:
            return False
        self._reused += slot.reused
        slot.unwatch()
        return True

    def _count(self, reason):
        self._discarded[reason] += 1
        if reason in LOSSES:
            self.losses += 1
        logger.debug("%s: discarded a connection: %s", self, reason)

    def drain(self):
        """Close all idle connections now, and those in use when they are released."""
        self.generation += 1
        self._close_idle(self._is_drained)

    def _is_drained(self, entry):
        return "closed by caller" if entry.generation != self.generation else None

    def _close_idle(self, find_reason):
        for entry in list(self._idle):
            reason = find_reason(entry)
            if reason is not None and _remove(self._idle, entry):
                entry.is_idle = False
                self.discard(entry, reason)

    def expire(self):
        """Close idle connections that are too old, or idle for too long.

        Return whether there are others that will be so.
        """
        now = compat.monotonic()
        self._close_idle(lambda entry: entry.expired(now))
        return any(entry.can_expire() for entry in list(self._idle))

    def keep(self, keeping):
        """Whether connections are kept from now on. If not, the idle ones are closed, and those in
        use are left to their users to close."""
        self._keeping = keeping
        if not keeping:
            self.drain()
            for slot in list(self._slots):
                if slot.is_taken and self._free(slot):
                    self._count("closed by caller")

    def find_slot(self, raw):
        """Return the slot that a connection has here, or None."""
        return next((slot for slot in list(self._slots) if slot.raw() is raw), None)

    def is_empty(self):
        return not self._slots and not self._waiters

    def inherit(self, parents):
        """Let go of the connections of the process that this one was forked from.

        Those in use are only detached: a thread that this process does not have may have had their
        locks. Whoever holds one here finds out what it is.
        """
        idle = list(parents._idle)
        del parents._idle[:]
        for entry in idle:
            entry.driver.abandon(entry.raw)
            self._discarded["fork"] += 1
        idle = [entry.slot for entry in idle]
        for slot in list(parents._slots):
            raw = slot.raw()
            if raw is not None and slot not in idle:
                slot.driver.detach(raw)

    def stats(self):
        """Return the counts of this pool as plain data."""
        self._free_ended()
        idle, taken = len(self._idle), [slot for slot in list(self._slots) if slot.is_taken]
        # Meanwhile one may have been freed and another taken: only one of them is there now.
        there = set(list(self._slots))
        slots = [slot for slot in taken if slot in there]
        return {
            "opened": self._opened,
            "reused": self._reused + sum(slot.reused for slot in slots),
            "idle": idle,
            "in_use": max(0, len(slots) - idle),
            "waiting": len([ref for ref in list(self._waiters) if ref() is not None]),
            "wait_seconds": self._wait_seconds,
            "discarded": dict(self._discarded),
        }


def _remove(items, item):
    """Take an item out of a list or deque. Return False if another thread was faster."""
    try:
        items.remove(item)
    except ValueError:
        return False
    return True
