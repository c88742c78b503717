"""The choice of connections to open in the background, so that no request waits for a connect.

Those are the connections that MIN_CONNS asks for, and the successors of connections that are about
to reach MAX_AGE while there is traffic. One thread of the process opens them, one after the other.

This module knows neither Django nor a driver. ``Pools.open_spare(pool, entry, before_release)``
opens the connection of an entry from Pool.reserve(), calls ``before_release()``, and releases the
entry. It returns whether the pool could keep the connection; if not, its slot is free again.
"""

import os
import time
from functools import partial

from persistconn import compat, threads
from persistconn.pool import housekeeper

#: A connection has traffic if it was given back within this share of MAX_AGE, or these seconds.
SHARE, LEAST = 0.1, 2

#: Seconds from a failed try to the next one: the first pause, which doubles, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1, 30

#: Seconds that a fork waits at most for a connection that is being opened.
PATIENCE = 1

#: Stands for a connection that MIN_CONNS asks for: it replaces none.
MISSING = object()


class Spares(object):
    """Opens connections in the background, one at a time for the whole process."""

    def __init__(self, pools):
        self._pools = pools
        self._role = [self]  # the running thread pops it, so that only one runs
        self._ident = None  # the thread that is opening a connection now
        self._is_paused = False

    def pause(self):
        """Return when no connection is being opened, and open none until resume(). Before a fork.

        A child that is forked meanwhile could find locks of libraries locked for ever.
        """
        self._is_paused = True
        ends_at = compat.monotonic() + PATIENCE
        while self._ident not in (None, compat.get_ident()) and compat.monotonic() < ends_at:
            time.sleep(0.001)

    def resume(self):
        self._is_paused = False

    def replenish(self):
        """Start the thread if a connection is due. Return whether another one may become due."""
        now, pools = compat.monotonic(), self._pools.all()
        if self._role and any(find_due(pool, now) is not None for pool in pools):
            # If no thread can start, requests open their own connections.
            threads.start_named_thread("persistconn opener", self._run)
        return any(may_become_due(pool, now) for pool in pools)

    def _run(self):
        pid = os.getpid()
        try:
            self._role.pop()
        except IndexError:
            return
        try:
            # Under gevent this greenlet also lives on in a forked child, and must end there.
            while threads.alive and os.getpid() == pid and self._open_unless_paused():
                pass
        finally:
            self._role.append(self)

    def _open_unless_paused(self):
        self._ident = compat.get_ident()
        try:
            # Asked after that: either pause() sees it, or this sees the pause.
            return not self._is_paused and self._open_next()
        finally:
            self._ident = None

    def _open_next(self):
        """Open one connection. Return False if none is due, or none can be opened."""
        for pool in self._pools.all():
            due = find_due(pool, compat.monotonic())
            if due is not None and self._open(pool, None if due is MISSING else due):
                return True
        return False

    def _open(self, pool, old):
        entry = pool.reserve(old)
        if entry is None:
            return False
        # Asked with the slot taken: either vacate() sees it, or this sees the drained pool.
        if not pool.wants(entry):
            pool.remove(entry, "error")
            return False
        retire = bool if old is None else partial(pool.retire, old)
        is_kept, began = False, compat.monotonic()
        try:
            is_kept = self._pools.open_spare(pool, entry, retire)
        finally:
            _note(pool, is_kept, compat.monotonic() - began)
        return is_kept


def _note(pool, is_kept, took):
    """Note how a try ended. After a failure of ``took`` seconds, the next one has to wait.

    It waits longer than that, so that a server which does not answer leaves time for others.
    """
    if is_kept:
        pool.spare_pause = pool.next_spare_at = 0
    else:
        pool.spare_pause = min(2 * pool.spare_pause or FIRST_PAUSE, LONGEST_PAUSE)
        pool.next_spare_at = compat.monotonic() + max(pool.spare_pause, 2 * took)


def find_due(pool, now):
    """Return the entry of a pool to replace now, MISSING if one more must be opened, or None."""
    if pool.is_retired or pool.needs_requests or now < pool.next_spare_at:
        return None
    slots, due = pool.slots(), None
    if pool.fills() and len(slots) < pool.values.min_conns:
        due = MISSING
    elif pool.values.max_age is not None:
        due = _next_to_end(pool, slots, now)
    return due if due is not None and pool.current_users() else None


def _next_to_end(pool, slots, now):
    horizon, ends = now + _lead(pool.values.max_age, slots), []
    is_kept = pool.fills() and len(slots) <= pool.values.min_conns
    for slot in slots:
        entry = slot.entry()
        if entry is not None and _lives(pool, slot, entry):
            ends_at = entry.opened_at + pool.values.max_age * entry.jitter
            if ends_at <= horizon and (is_kept or _has_traffic(pool, slot, now)):
                ends.append((ends_at, id(entry), entry))
    return min(ends)[2] if ends else None


def _lead(max_age, slots):
    """Return how many seconds before its end a connection is replaced.

    That is the time to the housekeeper's next round, and twice the time of opening all connections
    one after the other, but no more than half of MAX_AGE.
    """
    seconds = max([0.0] + [slot.created_seconds for slot in slots])
    return min(max_age / 2.0, housekeeper.interval(max_age) + 2 * len(slots) * seconds)


def _lives(pool, slot, entry):
    """Whether a connection is open, and has neither ended nor been replaced already."""
    if entry.raw is None or slot.opener is not None or entry.doom is not None or not entry.jitter:
        return False
    return entry.generation == pool.generation and pool.may_be_replaced(entry)


def _has_traffic(pool, slot, now):
    """Whether a unit of work has taken the connection, or given it back, a short time ago."""
    taken_at, entry = slot.taken_at, slot.entry()
    if taken_at is None:
        taken_at = entry.used_at if entry is not None and entry.raw is not None else None
    if taken_at is None or not slot.was_used():
        return False
    return now - taken_at <= max(LEAST, SHARE * (pool.values.max_age or 0))


def may_become_due(pool, now):
    """Whether a later round may find something due in a pool, though none is idle now."""
    if pool.is_retired or pool.needs_requests:
        return False
    if pool.fills():
        return bool(pool.current_users())
    if pool.values.max_age is None:
        return False
    return any(_has_traffic(pool, slot, now) for slot in pool.slots())
