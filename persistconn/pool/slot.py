"""The right to one open connection, and what frees it."""

from __future__ import absolute_import

import weakref
from functools import partial

from persistconn.pool.entry import Entry


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
        self._watched = weakref.ref(entry_or_raw, partial(self.pool.on_lost, self))

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
        watched = self._referent()
        if watched is None:
            return True
        raw = raw_of(watched) if self.is_counted else None
        return raw is not None and self.driver.is_closed(raw)

    def raw(self):
        """Return the connection, or None while it is not open, or is no more."""
        return raw_of(self._referent())

    def _referent(self):
        watched = self._watched  # read once: another thread may unwatch this slot
        return None if watched is None else watched()


def raw_of(watched):
    return watched.raw if isinstance(watched, Entry) else watched
