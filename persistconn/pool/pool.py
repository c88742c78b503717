"""The connection pool of one database, independent of Django and of any driver.

The terms are SQLAlchemy's and HikariCP's: connections are acquired, released and discarded.

The pool has no lock. A signal handler, a destructor or an asynchronous exception (Ctrl-C, a time
limit) can come between any two steps: a lock could stay locked for ever, or its own holder could
ask for it again. Instead, each step is one operation on a list, deque or dict, which CPython does
not interrupt, with or without the GIL. Two rules keep the steps consistent:

* A thread that changes something serves the waiters afterwards, and a waiter tries again after it
  has queued. So at least one of the two sees the other.
* If an exception interrupts a thread that holds an entry, the entry is garbage collected, and a
  weak reference frees its slot.
"""

import collections
import logging

from persistconn import compat, liveness
from persistconn.connecting.gate import Gate
from persistconn.pool.entry import Entry
from persistconn.pool.slot import Slot
from persistconn.pool.waiter import Exhausted, Waiter
from persistconn.pool.writing import Writing

logger = logging.getLogger("persistconn")

#: Reasons to discard one connection that may apply to all others too.
LOSSES = frozenset(["dead", "check failed", "read only"])

#: Seconds after which a waiter tries again, in case a release was interrupted.
SLICE = 0.5


class Nobody(object):
    """Stands in for the housekeeper of a pool that needs none."""

    is_running = True


NOBODY = Nobody()


class Pool(object):
    """The connections to one database.

    acquire() prefers the connection released last, so that surplus ones stay idle and expire.
    """

    is_retired = False  # no wrapper uses the pool any more, and Pools has dropped its key

    check_idle = staticmethod(liveness.check_idle)

    def __init__(self, values, key=None, alias=None, keeping=True, housekeeper=NOBODY):
        #: The database's settings, from the Database object that joined or used the pool last.
        self.values = values
        self.key = key
        self.alias = alias
        self.gate = Gate()
        self.losses = 0
        self.writing = Writing()
        self.users = set()  # weak references to the Database objects that use this pool
        self.noted = set()  # names of the wrapper attributes that opening a connection sets
        self._keeping = keeping
        self._housekeeper = housekeeper
        self.generation = 0
        # The generation of the connection that was kept last: drain() leaves it behind.
        self._kept_generation = None
        #: Whether connections that are opened in the background lack some of their setup.
        self.needs_requests = False
        self.spare_pause = 0  # seconds between two tries in the background, while they fail
        self.next_spare_at = 0
        self._idle = []
        self._waiters = collections.deque()  # weak references, in the order of arrival
        self._slots = []
        self._opened = self._reused = self._timeouts = 0
        self._wait_seconds = self._used_seconds = self._created_seconds = 0.0
        # The numbers of connections at the times when all were in use. A set, because threads may
        # add to it at the same moment.
        self._all_in_use = set()
        self._discarded = collections.defaultdict(int)

    def __repr__(self):
        numbers = "%(in_use)d in use, %(idle)d idle, %(waiting)d waiting" % self.stats()
        return "<Pool of %s: %s>" % (self.alias, numbers)

    def acquire(self):
        """Return an idle entry that can be used, or a new entry for the caller to open.

        A new entry has no raw connection: call its ``opened()`` or the pool's ``remove()``. While
        MAX_CONNS entries are in use, acquire() waits up to TIMEOUT seconds, then raises Exhausted.
        """
        entry = None if self._waiters else self._take()
        if entry is None:
            entry = self._wait()
        while entry.raw is not None:
            try:
                fault = self.check_idle(entry)
            except BaseException:
                self.discard(entry, "error")
                raise
            if fault is None:
                entry.slot.reused += 1
                entry.slot.taken_at = entry.used_at
                break
            entry = self._exchange(entry, fault)
        # A new connection is opened when none is idle. So the greatest number is reached here.
        if not self._idle and len(self._slots) not in self._all_in_use:
            self._note_all_in_use(len(self._slots))
        return entry

    def _note_all_in_use(self, number):
        # Other threads may have slots at this moment that they will not get.
        max_conns = self.values.max_conns
        number -= self.opening_in_background()
        self._all_in_use.add(number if max_conns is None else min(number, max_conns))

    def _take(self):
        try:
            entry = self._idle.pop()
        except IndexError:
            return self._new_entry(self.values.max_conns)
        entry.is_idle = False
        return entry

    def _new_entry(self, max_conns=None, in_background=False):
        slot = Slot(self)
        if in_background:
            slot.in_background()
        entry = Entry(self, slot, self.generation)
        self._slots.append(slot)
        # If threads come at once, those whose slots were appended first get the places.
        if max_conns is not None and self._slots.index(slot) >= max_conns:
            self._slots.remove(slot)
            return None
        slot.is_taken = True
        return entry

    def _exchange(self, entry, fault):
        """Close a faulty entry. Return another idle entry, or a new one in the same slot."""
        entry.close()
        self._count(fault)
        try:
            # After one failed ping, open a new connection instead of pinging another.
            other = None if fault == "check failed" else self._idle.pop()
        except IndexError:
            other = None
        if other is None:
            entry.slot.is_open, entry.slot.reused_before = False, None
            entry.slot.taken_at = compat.monotonic()
            return Entry(self, entry.slot, self.generation)
        other.is_idle = False
        self._free(entry.slot)
        return other

    def _wait(self):
        waiter, began, waited = Waiter(), compat.monotonic(), 0
        timeout = 0 if self._is_opener() else self.values.timeout
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
            self._timeouts += 1
            raise Exhausted(waited)
        return entry

    def _is_waiting(self, waiter, seconds):
        """Wait up to ``seconds`` for an entry. Return whether there is none yet."""
        # A thread may have dequeued this waiter, and been interrupted before it served it.
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
            if waiter is None:  # its thread was interrupted
                _remove(self._waiters, ref)
                continue
            entry = entry or self._take()
            if entry is None:
                return
            if _remove(self._waiters, ref) and waiter.give(entry):
                entry = None
        self._put_back(entry)

    def _put_back(self, entry):
        if entry is None:
            return
        if entry.raw is None:
            self.remove(entry, "error")
        else:
            self.release(entry)

    def add(self, slot=None):
        """Return an entry for a connection that is already open, regardless of MAX_CONNS.

        ``slot``: the connection's slot, if it has one whose entry is gone.
        """
        return self._new_entry() if slot is None else Entry(slot.pool, slot, slot.pool.generation)

    def opened(self, slot):
        if slot not in self._slots:
            # Another thread has freed it meanwhile, and its numbers are in the pool's.
            slot.begin()
            self._slots.append(slot)
        self._opened += 1
        logger.debug("%s: opened a connection", self)

    def release(self, entry):
        """Take an entry back. Keep it, or close it if it is doomed, drained or beyond MAX_KEPT."""
        if entry.is_idle:
            return  # released twice; another thread may acquire it at any moment
        reason = entry.doom
        if reason is None and (entry.generation != self.generation or not self._keeping):
            reason = "closed by caller"
        max_kept = self.values.max_kept
        if max_kept is not None and len(self._idle) >= max_kept and not self._waiters:
            reason = reason or "surplus"
        if reason is not None:
            return self.discard(entry, reason)
        entry.slot.given_back(entry.used_at)
        self._kept_generation = entry.generation
        entry.is_idle = True
        self._idle.append(entry)
        if self._waiters:
            self._serve_waiters()
        if entry.generation != self.generation:
            self._close_idle(self._is_drained)
        if max_kept is not None and len(self._idle) > max_kept:
            self._close_surplus(max_kept)
        if not self._housekeeper.is_running and self._is_watched():
            self._housekeeper.start()

    def _is_watched(self):
        values = self.values
        return values.max_age is not None or values.max_idle is not None or values.min_conns > 0

    def _close_surplus(self, max_kept):
        # Several threads released at the same moment.
        for entry in list(self._idle)[: -max_kept or None]:
            if len(self._idle) > max_kept and _remove(self._idle, entry):
                self.discard(entry, "surplus")

    def discard(self, entry, reason):
        """Close an entry that is in use, and count it under its reason."""
        entry.doom = reason
        try:
            # Close first: with the slot free earlier, MAX_CONNS could be exceeded.
            entry.close()
        finally:
            self.remove(entry, reason)

    def remove(self, entry, reason):
        """Free the slot of an entry that somebody else has closed, or that was never opened."""
        # A parent process's entry has no slot in this process.
        if (self._free(entry.slot) or entry.is_inherited()) and entry.raw is not None:
            self._count(reason)
        if self._waiters:
            self._serve_waiters()

    def let_go(self, entry, reason):
        """Leave an entry's connection to another thread that may still use it.

        The slot is freed once the connection is closed, or once that thread has dropped it. If the
        caller has shut it down ("busy"), the slot is freed as soon as that thread does not use it.
        """
        entry.slot.is_counted, entry.slot.is_shut_down = True, reason == "busy"
        self._count(reason)

    def on_lost(self, slot):
        # A weak reference's callback may run this at any point, so it serves no waiter.
        if self._free(slot) and not slot.is_counted:
            self._discarded["lost"] += 1

    def _free_ended(self):
        # Also frees a slot whose on_lost() was interrupted by an exception.
        for slot in list(self._slots):
            if slot.has_ended():
                self.on_lost(slot)

    def _free(self, slot):
        """Free a slot. Return False if it was free already."""
        try:
            # Not with _remove(): at exit Python 2 clears globals before the last connections go.
            self._slots.remove(slot)
        except ValueError:
            return False
        slot.given_back()
        self._reused += slot.reused
        self._used_seconds += slot.used_seconds
        self._created_seconds += slot.created_seconds
        slot.unwatch()
        return True

    def _count(self, reason):
        self._discarded[reason] += 1
        if reason in LOSSES:
            self.losses += 1
        logger.debug("%s: discarded a connection: %s", self, reason)

    def refused(self):
        """Note that a session cannot write. The others are asked, but not those of a replica."""
        if self.writing.refused():
            self.losses += 1

    def can_write(self, entry):
        """Note that an entry could write when it was opened."""
        if self.writing.began(entry):
            self.losses += 1

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

        Return whether any other idle connection can expire.
        """
        now = compat.monotonic()
        self._close_idle(lambda entry: liveness.expired(entry, now))
        return bool(self._idle) and self._is_watched()

    def keep(self, keeping):
        """Keep connections from now on, or not.

        If not, close the idle ones, and leave those in use to their users to close.
        """
        self._keeping = keeping
        if not keeping:
            self.drain()
            for slot in list(self._slots):
                if slot.is_taken and self._free(slot) and slot.is_open:
                    self._count("closed by caller")

    # For connections that are opened in the background: spares.py decides which.

    def living_users(self):
        users = [ref() for ref in list(self.users)]
        return [user for user in users if user is not None]

    def current_users(self):
        return [user for user in self.living_users() if user.is_current()]

    def fills(self):
        """Whether MIN_CONNS applies: a connection was kept since the last drain()."""
        return self.values.min_conns > 0 and self._kept_generation == self.generation

    def slots(self):
        return list(self._slots)

    def has_more_than(self, number):
        """Whether more connections than that are open, or being opened."""
        return len(self._slots) > number

    def may_be_replaced(self, entry):
        """Whether MAX_CONNS and MAX_KEPT let another connection be opened before this one ends."""
        max_conns, max_kept = self.values.max_conns, self.values.max_kept
        if max_conns is not None and len(self._slots) >= max_conns:
            # It has to be closed first, which must not be in vain.
            return entry.is_idle and not self.gate.is_open()
        return entry.is_idle or max_kept is None or len(self._idle) < max_kept

    def reserve(self, old=None):
        """Return a new entry to open in the background, or None. Check wants() before opening it.

        ``old``: the entry that it replaces. If MAX_CONNS leaves no slot, and the old entry is idle,
        this closes the old one, and the new one gets its slot.
        """
        entry, max_conns = None, self.values.max_conns
        if max_conns is None or len(self._slots) < max_conns:
            entry = self._new_entry(max_conns, in_background=True)
        if entry is None and old is not None and _remove(self._idle, old):
            entry = self._succeed(old)
        if self._waiters:
            self._serve_waiters()  # a thread may have found no slot meanwhile
        return entry

    def _succeed(self, old):
        old.is_idle, old.slot.is_open = False, False
        old.slot.in_background()
        old.close()
        self._count("age")
        return Entry(self, old.slot, self.generation)

    def wants(self, entry):
        """Whether a connection of this entry would be kept."""
        is_current = entry.generation == self.generation
        return is_current and self._keeping and not self.is_retired

    def retire(self, entry):
        """Close a connection that another has replaced: now if it is idle, else at its checkin."""
        if _remove(self._idle, entry):
            entry.is_idle = False
            entry.slot.in_background()
            self.discard(entry, "age")
        else:
            entry.jitter = 0

    def _is_opener(self):
        """Whether this thread is opening a connection in the background: it must not wait for another."""
        me = compat.get_ident()
        return any(slot.opener == me for slot in list(self._slots))

    def opening_in_background(self):
        """Return how many connections are being opened in the background: 0 or 1."""
        return len([slot for slot in list(self._slots) if slot.opener is not None])

    def in_use(self):
        """Return the slots of the connections in use, or about to be opened."""
        slots = list(self._slots)
        return [slot for slot in slots if slot.is_taken and slot.taken_at is not None]

    def find_slot(self, raw):
        """Return a raw connection's slot in this pool, or None."""
        return next((slot for slot in list(self._slots) if slot.raw() is raw), None)

    def is_empty(self):
        return not self._slots and not self._waiters

    def inherit(self, parents):
        """Abandon the idle connections of a parent process's pool, and detach those in use.

        Those in use are not closed: a thread that exists only in the parent may hold their locks.
        A wrapper that has one here finds out by Entry.is_inherited().
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
        in_use = max(0, len([slot for slot in slots if slot.opener is None]) - idle)
        since = [slot.taken_at for slot in slots]
        now = compat.monotonic()
        return {
            "opened": self._opened,
            "reused": self._reused + sum(slot.reused for slot in slots),
            "idle": idle,
            "in_use": in_use,
            "max_in_use": max(list(self._all_in_use) + [in_use]),
            "oldest_in_use": max([0.0] + [now - begin for begin in since if begin is not None]),
            "waiting": len([ref for ref in list(self._waiters) if ref() is not None]),
            "timeouts": self._timeouts,
            "wait_seconds": self._wait_seconds,
            "created_seconds": self._created_seconds + sum(slot.created_seconds for slot in slots),
            "used_seconds": self._used_seconds + sum(slot.used_seconds for slot in slots),
            "discarded": dict(self._discarded),
        }


def _remove(items, item):
    """Take an item out of a list or deque. Return False if another thread was faster."""
    try:
        items.remove(item)
    except ValueError:
        return False
    return True
